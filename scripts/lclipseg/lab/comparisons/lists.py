"""What two-way blocks gain on lists of many and of few classes, from the results of scripts/everyday.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from lclipseg.lab.comparisons.asked import ListGain
from lclipseg.lab.comparisons.spread import PairedDifference
from lclipseg.lab.comparisons.tables import markdown_table, show_difference
from lclipseg.prediction.metrics import percent

Line = Mapping[str, Any]


def pairs_of_lists(lines: Sequence[Line], preset: str) -> list[tuple[Line, Line]]:
    """Of each data set the scores of the preset's network with blocks and of that without, shortest list first. Lines
    of a part of the split do not count, nor does a data set that only one of them was asked for."""
    found: dict[str, dict[bool, Line]] = {}
    for line in lines:
        if line["preset"] == preset and line["limit"] is None:
            found.setdefault(line["data"], {})[line["num_fusion_layers"] > 0] = line
    pairs = [(one[True], one[False]) for one in found.values() if len(one) == 2]
    return sorted(pairs, key=lambda pair: pair[0]["num_classes"])


def gains_of_pairs(pairs: Sequence[tuple[Line, Line]]) -> list[ListGain]:
    return [
        ListGain(
            _name(with_blocks),
            with_blocks["num_classes"],
            with_blocks["trained_on"],
            PairedDifference.of([with_blocks["mean_iou"]], [without["mean_iou"]]),
        )
        for with_blocks, without in pairs
    ]


def table_of_pairs(pairs: Sequence[tuple[Line, Line]]) -> str:
    """A row for each data set."""
    rows = [
        [
            _name(with_blocks) + ("*" if with_blocks["trained_on"] else ""),
            str(with_blocks["num_classes"]),
            percent(with_blocks["mean_iou"]),
            percent(without["mean_iou"]),
            show_difference(gain.gain).partition(" ")[0],
        ]
        for (with_blocks, without), gain in zip(pairs, gains_of_pairs(pairs), strict=True)
    ]
    return markdown_table(["list", "classes", "two blocks", "no block", "gain"], rows)


def _name(line: Line) -> str:
    return str(line["data"]).removesuffix("-everyday")
