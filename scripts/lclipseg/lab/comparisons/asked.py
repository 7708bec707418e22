"""Tables of networks that are asked for the classes of data sets by words alone: sets they know, and others."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from lclipseg.lab.comparisons.finished import FinishedTable
from lclipseg.lab.comparisons.grid import Cell
from lclipseg.lab.comparisons.spread import PairedDifference, Spread
from lclipseg.lab.comparisons.tables import markdown_table, show_difference, show_spread

ABOUT = """\
Every class by its words alone, whole lists. A word is **seen** where one of the training sets has a class of that word
(of whatever look); seen and unseen words are those of the sets that training did not have, H is the harmonic mean of
the two. A set that it had is marked *. Transfer is the mean over the sets that it did not have and over long lists
({long}), closed lists are the other ones."""

Line = Mapping[str, Any]
Measure = Callable[[Line], float | None]


class ListGain(NamedTuple):
    """What the reference gains on one list of classes."""

    name: str
    classes: int
    known: bool  # whether training had the data set
    gain: PairedDifference


def asked_tables(finished: FinishedTable) -> str:
    """A table of scores by data set, one of measures over the sets, and one of differences to the reference."""
    known = _cell(finished).trained_on
    sets = list(finished.table.asked)
    names = [name.removesuffix("-everyday") + ("*" if name in known else "") for name in sets]
    of_sets = {shown: _of_set(name) for shown, name in zip(names, sets, strict=True)}
    transfer = [name for name in sets if name not in known or name in finished.table.long]
    measures = {
        "transfer": _mean_of(transfer),
        "closed lists*": _mean_of([name for name in sets if name not in transfer]),
        "seen words": lambda line: word_means(line, known)[0],
        "unseen words": lambda line: word_means(line, known)[1],
        "H": lambda line: harmonic_mean(*word_means(line, known)),
    }
    return "\n\n".join([
        ABOUT.format(long=", ".join(finished.table.long) or "none here"),
        _table("mIoU", finished, of_sets, _spread),
        _table("mean over", finished, measures, _spread),
        _table(f"minus {finished.table.reference}", finished, measures, _difference),
    ])  # fmt: skip


def gains_by_list(finished: FinishedTable, rival: str) -> list[ListGain]:
    """The reference minus another variant on each list, over pairs that share the seed; shortest list first."""
    known, found = _cell(finished).trained_on, []
    for name in finished.table.asked:
        ours, theirs = (_values(finished, one, _of_set(name)) for one in (finished.table.reference, rival))
        gain = PairedDifference.between(ours, theirs)
        if gain is not None:
            scores = next(line["asked"][name] for line in finished.lines.values() if name in line["asked"])
            found.append(ListGain(name.removesuffix("-everyday"), len(scores["per_class"]), name in known, gain))
    return sorted(found, key=lambda one: one.classes)


def word_means(line: Line, known: Sequence[str]) -> tuple[float | None, float | None]:
    """Mean IoU over the seen and over the unseen classes of the sets that are not `known`; `None` without any."""
    seen: list[float] = []
    unseen: list[float] = []
    for name, scores in line["asked"].items():
        if name not in known:
            for label, iou in scores["per_class"].items():
                if iou is not None:
                    (seen if label in scores["seen"] else unseen).append(iou)
    return (fmean(seen) if seen else None), (fmean(unseen) if unseen else None)


def harmonic_mean(first: float | None, second: float | None) -> float | None:
    """2 ab / (a + b), 0 where both are; `None` where one is missing."""
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0


def _cell(finished: FinishedTable) -> Cell:
    return finished.table.cell(budget=finished.budget, **finished.keys[0]._asdict())


def _of_set(name: str) -> Measure:
    return lambda line: line["asked"][name]["mean_iou"] if name in line["asked"] else None


def _mean_of(names: Sequence[str]) -> Measure:
    def measure(line: Line) -> float | None:
        found = [line["asked"][name]["mean_iou"] for name in names if name in line["asked"]]
        return fmean(found) if found and len(found) == len(names) else None

    return measure


def _values(finished: FinishedTable, variant: str, measure: Measure) -> dict[tuple[str, str, int], float]:
    """By mix, backbone and seed."""
    found = {
        (key.data, key.backbone, key.seed): measure(line)
        for key, line in finished.lines.items()
        if key.variant == variant
    }
    return {key: value for key, value in found.items() if value is not None}


def _spread(finished: FinishedTable, variant: str, measure: Measure) -> str:
    values = list(_values(finished, variant, measure).values())
    return show_spread(Spread.of(values) if values else None)


def _difference(finished: FinishedTable, variant: str, measure: Measure) -> str:
    if variant == finished.table.reference:
        return "reference"
    pair = (_values(finished, name, measure) for name in (variant, finished.table.reference))
    return show_difference(PairedDifference.between(*pair))


def _table(
    corner: str,
    finished: FinishedTable,
    columns: Mapping[str, Measure],
    show: Callable[[FinishedTable, str, Measure], str],
) -> str:
    rows = [
        [variant, *(show(finished, variant, measure) for measure in columns.values())] for variant in finished.variants
    ]
    return markdown_table([corner, *columns], rows)
