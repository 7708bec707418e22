"""What blocks gain by list of classes, from made-up results."""

import pytest

from lclipseg.lab.comparisons.lists import gains_of_pairs, pairs_of_lists, table_of_pairs


def line(
    data: str, blocks: int, mean_iou: float, classes: int, preset: str = "small", limit: int | None = None
) -> dict:
    counts = {"num_fusion_layers": blocks, "num_classes": classes, "mean_iou": mean_iou}
    return {"data": data, "preset": preset, "limit": limit, "trained_on": data != "new", **counts}


LINES = [
    line("things-everyday", 2, 0.15, 80),
    line("things-everyday", 0, 0.11, 80),
    line("new", 2, 0.5, 7),
    line("new", 0, 0.52, 7),
    line("alone", 2, 0.5, 7),
    line("things-everyday", 0, 0.9, 80, preset="large"),
    line("things-everyday", 2, 0.9, 80, limit=5),
]


def test_pairs_are_of_one_preset_and_whole_splits_with_the_shortest_list_first():
    pairs = pairs_of_lists(LINES, "small")
    assert [(one["data"], other["num_fusion_layers"]) for one, other in pairs] == [("new", 0), ("things-everyday", 0)]
    assert [gain.gain.mean for gain in gains_of_pairs(pairs)] == pytest.approx([-0.02, 0.04])


def test_table_marks_what_training_had():
    assert table_of_pairs(pairs_of_lists(LINES, "small")).splitlines()[2:] == [
        "| new | 7 | 50.00 | 52.00 | -2.00 |",
        "| things* | 80 | 15.00 | 11.00 | +4.00 |",
    ]
