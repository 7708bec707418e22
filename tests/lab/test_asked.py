"""Networks asked for the classes of data sets by words alone: the measures and the tables, from made-up lines."""

import pytest
import yaml

from lclipseg.lab.comparisons import grid
from lclipseg.lab.comparisons.asked import asked_tables, gains_by_list, harmonic_mean, word_means
from lclipseg.lab.comparisons.finished import FinishedTable
from lclipseg.lab.comparisons.grid import Comparison

TABLE = {
    "title": "Transfer",
    "about": "By words alone.",
    "data": ["mix"],
    "long": ["more"],
    "backbones": ["lclipseg-a"],
    "seeds": [0, 1],
    "asked": ["known", "more", "new", "other-everyday"],
    "reference": "fusion",
    "variants": {"fusion": {"guidance": "fusion"}, "lseg": {"guidance": "lseg"}},
}


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    for name in ("COMPARISONS", "RECIPES"):
        monkeypatch.setattr(grid, name, tmp_path)
    (tmp_path / "transfer.yaml").write_text(yaml.safe_dump(TABLE, sort_keys=False))
    (tmp_path / "mix-cpu.yaml").write_text("data: [data/known, data/more]")


def asked(known: float, new: dict[str, float | None], other: dict[str, float | None]) -> dict:
    return {
        "known": {"mean_iou": known, "per_class": {"sky": known}, "seen": ["sky"]},
        "more": {"mean_iou": 0.1, "per_class": {"tree": 0.1}, "seen": ["tree"]},
        "new": {"mean_iou": 0.3, "per_class": new, "seen": ["sky", "road"]},
        "other-everyday": {"mean_iou": 0.5, "per_class": other, "seen": []},
    }


def test_seen_and_unseen_words_are_those_of_new_sets_alone():
    line = {"asked": asked(0.9, {"sky": 0.6, "road": 0.2, "hut": 0.1, "kiln": None}, {"hat": 0.3})}
    assert word_means(line, ["known", "more"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert word_means(line, ["known", "more", "new"]) == (None, pytest.approx(0.3))


def test_harmonic_mean_needs_both_and_is_zero_without_either():
    assert harmonic_mean(0.4, 0.2) == pytest.approx(0.8 / 3)
    assert harmonic_mean(0.0, 0.0) == 0 and harmonic_mean(None, 0.2) is None


def test_tables_have_every_set_every_measure_and_pairs_by_seed():
    table = Comparison.load("transfer")
    lines = {}
    for variant, seed, known in (("fusion", 0, 0.5), ("fusion", 1, 0.7), ("lseg", 0, 0.4), ("lseg", 1, 0.5)):
        cell = table.cell(variant, "cpu", "mix", "lclipseg-a", seed, None)
        lines[cell.hash] = {"asked": asked(known, {"sky": 0.4, "hut": 0.2}, {"hat": 0.0})}
    sets, measures, differences = asked_tables(FinishedTable(table, "cpu", lines)).split("\n\n")[1:]
    assert sets.splitlines()[0] == "| mIoU | known* | more* | new | other |"
    assert (
        sets.splitlines()[2]
        == "| fusion | 60.00 ± 14.14 (2) | 10.00 ± 0.00 (2) | 30.00 ± 0.00 (2) | 50.00 ± 0.00 (2) |"
    )
    row = dict(zip(measures.splitlines()[0].split(" | "), measures.splitlines()[2].split(" | "), strict=True))
    assert row["transfer"] == "30.00 ± 0.00 (2)"  # the two new sets and the long list
    assert row["closed lists*"] == "60.00 ± 14.14 (2)"
    assert row["seen words"] == "40.00 ± 0.00 (2)" and row["unseen words"] == "10.00 ± 0.00 (2)"
    assert "-15.00 [" in differences.splitlines()[3]  # closed lists: -10 and -20


def test_gains_by_list_are_over_pairs_and_begin_with_the_shortest_list():
    table = Comparison.load("transfer")
    lines = {}
    for variant, seed, known in (("fusion", 0, 0.5), ("lseg", 0, 0.4), ("lseg", 1, 0.9)):
        cell = table.cell(variant, "cpu", "mix", "lclipseg-a", seed, None)
        lines[cell.hash] = {"asked": asked(known, {"sky": 0.4, "hut": 0.2}, {"hat": 0.0})}
    gains = gains_by_list(FinishedTable(table, "cpu", lines), "lseg")
    assert [(one.name, one.classes, one.known) for one in gains] == [
        ("known", 1, True),
        ("more", 1, True),
        ("other", 1, False),
        ("new", 2, False),
    ]
    assert gains[0].gain.mean == pytest.approx(0.1) and gains[0].gain.pairs == 1
