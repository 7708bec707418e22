"""The comparisons of configuration/comparisons: which runs a table needs, and the results lines that they leave.

A [`Cell`] is one training and its score. It is known by a hash of what its result depends on: options, schedule, data
set, backbone and seed; not by the table that asks for it, so that tables share their cells.
The code is no part of it: every line names its commit, and whoever changes a head deletes the lines that it made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.console.paths import configuration

COMPARISONS, RECIPES, HELD_OUT = (configuration(name) for name in ("comparisons", "recipes", "held_out"))
BUDGETS = ("cpu", "gpu")


@dataclass(frozen=True)
class Cell:
    """
    One run of a comparison.

    Args:
        data (`str`): Data set, a recipe of configuration/datasets.
        backbone (`str`): Preset of configuration/models.
        options (`dict`): Options of `lclipseg train` that make the method.
        budget (`str`): `"cpu"` or `"gpu"`: which recipe gives the schedule.
        seed (`int`): Seed of the run.
        held_out (`str`, *optional*): List of configuration/held_out: classes that training does not see.
        asked (`tuple[str, ...]`): Data sets whose classes it is asked for by their words, instead of its own.
    """

    data: str
    backbone: str
    options: Mapping[str, Any]
    budget: str
    seed: int
    held_out: str | None = None
    asked: tuple[str, ...] = ()

    @property
    def recipe(self) -> Path:
        """The YAML file of the schedule."""
        return RECIPES / f"{self.data}-{self.budget}.yaml"

    @property
    def trained_on(self) -> list[str]:
        """The names of its data sets: those of the recipe, where it has several, or the one."""
        return [Path(source).name for source in read_yaml(self.recipe).get("data", [self.data])]

    @property
    def held_out_file(self) -> Path | None:
        return None if self.held_out is None else HELD_OUT / f"{self.held_out}.yaml"

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with anything that the result is meant to depend on."""
        held_out = None if self.held_out_file is None else read_yaml(self.held_out_file)
        content = {**asdict(self), "schedule": read_yaml(self.recipe), "held_out": held_out}
        if content.pop("asked"):  # the same training, scored otherwise; a list of sets that grows keeps its lines
            content["asked"] = True
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """For people: `camvid lclipseg-mbv3s guidance=fusion seed 0`."""
        options = " ".join(f"{key}={_plain(value)}" for key, value in self.options.items())
        held_out = [] if self.held_out is None else [f"without {self.held_out}"]
        return " ".join([self.data, self.backbone, options, *held_out, f"seed {self.seed}"])

    def train_options(self) -> list[str]:
        """What `lclipseg train` needs on its command line besides paths."""
        options: list[str] = [str(self.recipe), "--model", self.backbone, "--seed", str(self.seed)]
        for key, value in self.options.items():
            options += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
        return options if self.held_out is None else [*options, "--held_out", str(self.held_out_file)]


@dataclass(frozen=True)
class Comparison:
    """
    One comparison: every variant on every data set, backbone and seed.

    Args:
        name (`str`): File stem in configuration/comparisons.
        title, about (`str`): Heading, and a sentence under it.
        data, backbones (`list[str]`), seeds (`list[int]`): What every variant is run on.
        variants (`dict[str, dict]`): Options of `lclipseg train` by the name that the table shows.
        reference (`str`): The variant that the others are compared with, pair by pair.
        held_out (`list[str]`, *optional*): Lists of classes that training does not see, one run for each.
        asked (`list[str]`, *optional*): Data sets whose classes every run is asked for by their words.
        long (`list[str]`, *optional*): Those of them that count as transfer for the length of their lists, although
            the runs were trained on them.
    """

    name: str
    title: str
    about: str
    data: Sequence[str]
    backbones: Sequence[str]
    seeds: Sequence[int]
    variants: Mapping[str, Mapping[str, Any]]
    reference: str
    held_out: Sequence[str | None] = field(default=(None,))
    asked: Sequence[str] = ()
    long: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.reference not in self.variants:
            raise InputError(f"table {self.name!r}: the reference {self.reference!r} is none of {list(self.variants)}")

    @classmethod
    def load(cls, name: str) -> "Comparison":
        """Raises [`InputError`] for a name that configuration/comparisons lacks, or a file with other fields."""
        path = COMPARISONS / f"{name}.yaml"
        if not path.is_file():
            raise InputError(f"there is no table {name!r}; there are {', '.join(cls.names())}")
        try:
            return cls(name=name, **read_yaml(path))
        except TypeError as error:
            raise InputError(f"{path} is not a table: {error}") from error

    @staticmethod
    def names() -> list[str]:
        return sorted(path.stem for path in COMPARISONS.glob("*.yaml"))

    def cell(self, variant: str, budget: str, data: str, backbone: str, seed: int, held_out: str | None) -> Cell:
        return Cell(data, backbone, self.variants[variant], budget, seed, held_out, tuple(self.asked))

    def cells(self, budget: str) -> list[Cell]:
        """All of them, one seed after the other: a grid that is stopped early has few seeds, not few methods."""
        if budget not in BUDGETS:
            raise InputError(f"--budget is {budget!r}; allowed: {', '.join(BUDGETS)}")
        return [
            self.cell(variant, budget, data, backbone, seed, held_out)
            for seed in self.seeds
            for backbone in self.backbones
            for data in self.data
            for held_out in self.held_out
            for variant in self.variants
        ]


class ResultLines:
    """Results, one JSON object a line, in the order in which they were measured; a cell's last line counts."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def read(self) -> dict[str, dict[str, Any]]:
        """The lines by the hash of their cell."""
        if not self.path.is_file():
            return {}
        lines: dict[str, dict[str, Any]] = {}
        for number, text in enumerate(self.path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                line = json.loads(text)
                lines[line["hash"]] = line
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"line {number} of {self.path} is no result ({error!r}); one that a crash cut short can be deleted"
                ) from error
        return lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one line; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
