"""The grid runner on a tiny table: it runs what is missing, once, and says what failed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from tiny_run import PRESET

from lclipseg.commands import evaluate, train
from lclipseg.console.errors import InputError
from lclipseg.lab.comparisons import grid, reproduce, scored
from lclipseg.lab.comparisons.reproduce import ReproduceArguments
from lclipseg.lab.words import zero_shot
from modeling_lclipseg import WordBank

RECIPE = {"crop_size": [32, 32], "shortest_edge": 32, "epochs": 1, "batch_size": 2, "warmup_steps": 0}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """A toy data set of three classes, and a table of one variant."""
    for name in ("comparisons", "recipes", "held_out"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(grid, name.upper(), tmp_path / name)
    (tmp_path / "preset.yaml").write_text(PRESET)
    (tmp_path / "recipes" / "toy-cpu.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "held_out" / "fold.yaml").write_text("classes: [car]")
    write_table(tmp_path, variants={"fusion": {"guidance": "fusion"}})
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            folder = tmp_path / "data" / "toy" / split / kind
            folder.mkdir(parents=True)
            for stem in "abc"[: 2 + (split == "train")]:
                shape = (40, 48, 3) if kind == "images" else (40, 48)
                Image.fromarray(random.integers(0, 3, shape, dtype=np.uint8)).save(folder / f"{stem}.png")
    (tmp_path / "data" / "toy" / "classes.json").write_text(json.dumps({"classes": ["sky", "road", "car"]}))
    (tmp_path / "words").mkdir()
    vectors = torch.randn(4, 32) + 3  # one common direction, as a tower's have
    WordBank(("sky", "road", "car", "dog"), vectors, "tower").save(tmp_path / "words" / "toy.safetensors")
    return tmp_path


def write_table(workspace: Path, **changes) -> None:
    table = {"title": "Toy", "about": "A toy.", "data": ["toy"], "seeds": [0], "reference": "fusion"}
    table["backbones"] = [str(workspace / "preset.yaml")]
    (workspace / "comparisons" / "toy.yaml").write_text(yaml.safe_dump({**table, **changes}, sort_keys=False))


def options(workspace: Path, **changes) -> ReproduceArguments:
    folders = {"data_root": "data", "bank_root": "words", "weights_root": "weights", "runs": "runs"}
    files = {"results": "results/grid.jsonl", "costs": "results/costs.json", "report": "results.md"}
    paths = {name: str(workspace / path) for name, path in {**folders, **files}.items()}
    return ReproduceArguments(**{**paths, "size": 64, "rounds": 2, **changes})


def run_here(script: str, options: list[str], *_) -> None:
    """In this process, which has imported what a script takes seconds for."""
    command = {"train.py": train, "evaluate.py": evaluate, "zero_shot.py": zero_shot}[script]
    AcceleratorState._reset_state(reset_partial_state=True)  # which a process of its own would not have
    command.main(*command.parse(options))


def lines(workspace: Path) -> list[dict]:
    return [json.loads(line) for line in (workspace / "results" / "grid.jsonl").read_text().splitlines()]


def test_a_cell_is_run_once_and_leaves_a_whole_line(workspace, capsys):
    reproduce.main("toy", options(workspace), run_here)
    (line,) = lines(workspace)
    cell = grid.Comparison.load("toy").cells("cpu")[0]
    assert (line["hash"], line["options"], line["seed"]) == (cell.hash, {"guidance": "fusion"}, 0)
    assert line["steps"] == 2  # 3 images in batches of 2, one epoch
    assert 0 <= line["scores"]["mean_iou"] <= 1
    assert set(line["scores"]["per_class"]) == {"sky", "road", "car"}
    assert line["parameters"] > 0 and line["macs"] > 0 and line["latency_ms"] > 0 and "torch" in line["versions"]
    assert str(workspace / "data") not in json.dumps(line["arguments"])  # no path of this machine
    reproduce.main("toy", options(workspace), run_here)
    assert len(lines(workspace)) == 1
    assert "1 of 1 cells have a result, 0 are missing" in capsys.readouterr().out


def test_costs_are_of_each_network_once_and_compared_with_the_first(workspace):
    two = {"guidance": "fusion", "config": ["num_fusion_layers=2"]}
    same = {"guidance": "fusion", "config": ["num_fusion_layers=2"], "vectors": "random"}
    write_table(workspace, variants={"none": {"guidance": "none"}, "fusion": two, "other vectors": same})
    (workspace / "comparisons" / "toy.yaml").rename(workspace / "comparisons" / "methods.yaml")
    reproduce.main("costs", options(workspace))
    costs = json.loads((workspace / "results" / "costs.json").read_text())
    assert costs["reference"] == "none"
    assert [(row["method"], row["num_classes"]) for row in costs["rows"]] == [
        (method, num_classes) for num_classes in (11, 36, 150) for method in ("none", "fusion")
    ]
    none, fusion = costs["rows"][:2]
    assert (none["macs_ratio"], none["latency_ratio"]) == (1, 1)
    assert fusion["config"] == {"guidance": "fusion", "num_fusion_layers": 2}
    assert fusion["macs_ratio"] == pytest.approx(fusion["macs"] / none["macs"], abs=1e-3)


def test_held_out_classes_are_scored_apart(workspace):
    write_table(workspace, variants={"lseg": {"guidance": "lseg"}}, reference="lseg", held_out=["fold"])
    reproduce.main("toy", options(workspace), run_here)
    (line,) = lines(workspace)
    assert line["scores"] is None and line["zero_shot"]["unseen"] == ["car"]
    rows = line["zero_shot"]["rows"]
    assert [row["calibration"] for row in rows] == 2 * [float(c) for c in scored.CALIBRATIONS]


def test_data_sets_that_are_asked_for_are_scored_by_words(workspace):
    shutil.copytree(workspace / "data" / "toy", workspace / "data" / "other")
    (workspace / "data" / "other" / "classes.json").write_text(json.dumps(["dog", "road", "Car"]))
    write_table(workspace, asked=["toy", "other"], variants={"fusion": {"guidance": "fusion"}})
    reproduce.main("toy", options(workspace), run_here)
    (line,) = lines(workspace)
    assert line["scores"] is None
    assert line["asked"]["toy"]["seen"] == ["sky", "road", "car"] and line["asked"]["other"]["seen"] == ["road", "Car"]
    assert set(line["asked"]["other"]["per_class"]) == {"dog", "road", "Car"}


def test_a_run_that_is_asked_has_a_line_of_its_own_however_many_sets_it_is_asked_for(workspace):
    hashes = []
    for asked in ([], ["toy"], ["toy", "other"]):
        write_table(workspace, asked=asked, variants={"fusion": {"guidance": "fusion"}})
        hashes.append(grid.Comparison.load("toy").cells("cpu")[0].hash)
    assert hashes[0] != hashes[1] == hashes[2]


def test_a_recipe_of_several_data_sets_names_them(workspace):
    (workspace / "recipes" / "toy-cpu.yaml").write_text(yaml.safe_dump({**RECIPE, "data": ["data/a", "else/b"]}))
    (cell,) = grid.Comparison.load("toy").cells("cpu")
    assert cell.trained_on == ["a", "b"]


def test_a_failing_run_is_named_with_its_log(workspace):
    (workspace / "recipes" / "toy-cpu.yaml").write_text(yaml.safe_dump({**RECIPE, "learning": 4}))
    with pytest.raises(InputError, match=r"train.py failed with status 2: .*'learning_rate'.*log\.txt"):
        reproduce.main("toy", options(workspace))


def test_dry_run_names_the_missing_cells(workspace, capsys):
    reproduce.main("toy", options(workspace, dry_run=True))
    assert "guidance=fusion seed 0" in capsys.readouterr().out
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize("chosen", [{"seeds": [7]}, {"data": ["camvid"]}, {"backbones": ["lclipseg-mbv3"]}])
def test_a_choice_leaves_the_others_out(workspace, chosen, capsys):
    reproduce.main("toy", options(workspace, dry_run=True, **chosen))
    assert "0 of 0 cells" in capsys.readouterr().out
