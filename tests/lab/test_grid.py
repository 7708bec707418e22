"""Which runs a comparison needs, how they are known, and how their results are kept."""

from dataclasses import replace

import pytest
import yaml

from lclipseg.commands import train
from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.lab.comparisons import grid
from lclipseg.lab.comparisons.grid import Cell, Comparison, ResultLines


@pytest.fixture
def cell(tmp_path, monkeypatch) -> Cell:
    monkeypatch.setattr(grid, "RECIPES", tmp_path)
    monkeypatch.setattr(grid, "HELD_OUT", tmp_path)
    for name, content in {"toy-cpu": {"epochs": 1}, "toy-gpu": {"epochs": 9}, "fold": {"classes": ["car"]}}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return Cell("toy", "lclipseg-mbv3s", {"guidance": "fusion", "center": "words"}, "cpu", seed=0)


def test_hash_does_not_depend_on_the_order_of_options(cell):
    assert replace(cell, options={"center": "words", "guidance": "fusion"}).hash == cell.hash


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1), ("budget", "gpu"), ("backbone", "lclipseg-mbv3"), ("options", {"guidance": "none"}),
        ("held_out", "fold"),
    ],
)  # fmt: skip
def test_hash_depends_on_what_the_result_depends_on(cell, field, value):
    assert replace(cell, **{field: value}).hash != cell.hash


@pytest.mark.parametrize(
    ("file", "content"), [("toy-cpu", "epochs: 2"), ("fold", "classes: [bus]")], ids=["schedule", "held out"]
)
def test_hash_depends_on_the_files_that_it_names(cell, tmp_path, file, content):
    of_fold = replace(cell, held_out="fold")
    before = of_fold.hash
    (tmp_path / f"{file}.yaml").write_text(content)
    assert of_fold.hash != before


def test_train_options_spread_lists(cell):
    options = replace(cell, options={"config": ["hidden_size=64", "fusion_stride=32"]}).train_options()
    assert options[-3:] == ["--config", "hidden_size=64", "fusion_stride=32"]


@pytest.mark.parametrize("name", Comparison.names())
@pytest.mark.parametrize("budget", grid.BUDGETS)
def test_every_cell_of_every_table_is_a_command_that_train_takes(name, budget):
    groups = (train.ModelArguments, train.DataArguments, train.RunArguments)
    for cell in Comparison.load(name).cells(budget):
        arguments.parse("", *groups, argv=cell.train_options())


@pytest.mark.parametrize("name", Comparison.names())
def test_cells_of_a_table_differ(name):
    cells = Comparison.load(name).cells("cpu")
    assert len({cell.hash for cell in cells}) == len(cells)


def test_tables_share_the_whole_method():
    hashes = [{cell.hash for cell in Comparison.load(name).cells("cpu")} for name in ("methods", "ablations")]
    assert hashes[0] & hashes[1]


def test_a_seed_is_complete_before_the_next_begins():
    seeds = [cell.seed for cell in Comparison.load("methods").cells("cpu")]
    assert seeds == sorted(seeds)


def test_unknown_table_is_named():
    with pytest.raises(InputError, match=r"no table 'method'; there are .*methods"):
        Comparison.load("method")


def test_unknown_reference_is_refused():
    with pytest.raises(InputError, match="reference 'b'"):
        Comparison("t", "", "", ["d"], ["m"], [0], {"a": {}}, reference="b")


def test_the_last_line_of_a_cell_counts_and_one_cut_short_is_named(tmp_path):
    lines = ResultLines(tmp_path / "lines.jsonl")
    for value in (1, 2):
        lines.append({"hash": "a", "value": value})
    assert lines.read()["a"]["value"] == 2
    with lines.path.open("a") as file:
        file.write('{"hash": "b"')
    with pytest.raises(InputError, match="line 3 of"):
        lines.read()
