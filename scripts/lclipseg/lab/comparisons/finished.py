"""The finished cells of a comparison (configuration/comparisons) among the results lines, and the missing ones."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from lclipseg.lab.comparisons.grid import Comparison
from lclipseg.lab.comparisons.spread import PairedDifference, Spread

Setting = tuple[str, str]  # data set and backbone


class CellKey(NamedTuple):
    """Where a cell stands in its table."""

    seed: int
    backbone: str
    data: str
    held_out: str | None
    variant: str

    def matches(self, pattern: Sequence[Any]) -> bool:
        """Whether every entry of `pattern` is that of this key, or `...` for any."""
        return all(asked in (..., own) for asked, own in zip(pattern, self, strict=True))


class FinishedTable:
    """
    A table and what has been measured of it.

    Args:
        table ([`Comparison`]): The comparison.
        budget (`str`): `"cpu"` or `"gpu"`.
        lines (`dict`): Results lines by the hash of their cell; those of other tables and schedules do no harm.

    Attributes:
        keys (`list[CellKey]`): All cells, in the order in which they are run.
        lines (`dict[CellKey, dict]`): The finished ones and their lines, in the same order.
    """

    def __init__(self, table: Comparison, budget: str, lines: Mapping[str, Mapping[str, Any]]):
        self.table, self.budget = table, budget
        combinations = product(table.seeds, table.backbones, table.data, table.held_out, table.variants)
        self.keys = [CellKey(*combination) for combination in combinations]
        hashes = {key: table.cell(budget=budget, **key._asdict()).hash for key in self.keys}
        self.lines = {key: lines[name] for key, name in hashes.items() if name in lines}

    @property
    def data(self) -> list[str]:
        """Data sets with a finished cell."""
        return [data for data in self.table.data if any(key.data == data for key in self.lines)]

    @property
    def backbones(self) -> list[str]:
        """Backbones with a finished cell."""
        return [name for name in self.table.backbones if any(key.backbone == name for key in self.lines)]

    @property
    def settings(self) -> list[Setting]:
        """Data sets and backbones with a finished cell."""
        found = {(key.data, key.backbone) for key in self.lines}
        return [setting for setting in product(self.table.data, self.table.backbones) if setting in found]

    @property
    def variants(self) -> list[str]:
        """Variants with a finished cell."""
        return [variant for variant in self.table.variants if any(key.variant == variant for key in self.lines)]

    def mean_ious(self, variant: str, settings: Sequence[Setting]) -> dict[tuple[Setting, int], float]:
        """Mean IoU of the variant's finished runs, 0 to 1, by setting and seed."""
        return {
            ((key.data, key.backbone), key.seed): line["scores"]["mean_iou"]
            for key, line in self.lines.items()
            if key.variant == variant and (key.data, key.backbone) in settings
        }

    def spread(self, variant: str, setting: Setting) -> Spread | None:
        """Spread over seeds; `None` without a run."""
        values = list(self.mean_ious(variant, [setting]).values())
        return Spread.of(values) if values else None

    def difference(self, variant: str, settings: Sequence[Setting]) -> PairedDifference | None:
        """The variant minus the reference, over the settings and seeds that both have; `None` where there are none."""
        return PairedDifference.between(*(self.mean_ious(name, settings) for name in (variant, self.table.reference)))

    def common_runs(self, data: str) -> dict[tuple[str, int], dict[str, Mapping[str, Any]]]:
        """
        By backbone and seed, the lines of all variants on one data set; only the runs that every variant with a
        finished cell there has, so that means over them compare like with like.
        """
        runs: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
        for key, line in self.lines.items():
            if key.data == data:
                runs.setdefault((key.backbone, key.seed), {})[key.variant] = line
        present = {variant for lines in runs.values() for variant in lines}
        return {run: lines for run, lines in runs.items() if set(lines) == present}

    def missing(self) -> list[CellKey]:
        """The cells without a line."""
        return [key for key in self.keys if key not in self.lines]

    def missing_in_words(self) -> str:
        """The missing cells by what they share: `lclipseg-mbv2-tf; lclipseg-mbv3s / ccp / fusion, lseg / seed 2`."""
        return "; ".join(_in_words(*values) for values in _merged(self._missing_patterns()))

    def _missing_patterns(self) -> list[tuple[Any, ...]]:
        """Patterns that match all missing cells and no other: time and again the one that matches most of the rest,
        and of several such the shortest."""
        missing = self.missing()
        masks = sorted(product((False, True), repeat=len(CellKey._fields)), key=sum)
        candidates = dict.fromkeys(
            tuple(entry if kept else ... for entry, kept in zip(key, mask, strict=True))
            for mask in masks
            for key in missing
        )
        members = {pattern: {key for key in missing if key.matches(pattern)} for pattern in candidates}
        whole = [pattern for pattern in candidates if not any(key.matches(pattern) for key in self.lines)]
        left, chosen = set(missing), []
        while left:
            best = max(whole, key=lambda pattern: len(members[pattern] & left))  # of equals the first: the shortest
            chosen.append(best)
            left -= members[best]
        return chosen


def _merged(patterns: Sequence[Sequence[Any]]) -> list[tuple[tuple[Any, ...], ...]]:
    """Patterns that differ in one entry become one with several values there; no value at all stands for any."""
    merged = [tuple(() if entry is ... else (entry,) for entry in pattern) for pattern in patterns]
    for index in range(len(CellKey._fields)):
        groups: dict[Any, list[Any]] = {}
        for entries in merged:
            key = entries[:index], entries[index] == (), entries[index + 1 :]
            groups.setdefault(key, []).extend(entries[index])
        merged = [(*before, tuple(values), *after) for (before, _, after), values in groups.items()]
    return merged


def _in_words(seeds: Sequence[int], *others: Sequence[str]) -> str:
    backbones, data, held_out, variants = (", ".join(filter(None, values)) for values in others)
    numbers = ", ".join(map(str, seeds))
    parts = [
        backbones,
        data,
        held_out and f"without {held_out}",
        variants and f"`{variants}`",
        numbers and f"seed{'s' if len(seeds) > 1 else ''} {numbers}",
    ]
    return " / ".join(filter(None, parts))
