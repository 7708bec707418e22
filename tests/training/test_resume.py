"""Going on with a run, from its folder alone and for longer; ending one early."""

import json
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from survival import progress_of
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.commands import train
from lclipseg.console.errors import InputError


def go_on(folder: Path, *options: str) -> None:
    """As the command does, whose other options the folder holds."""
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main(*train.parse(["--output_dir", str(folder), "--resume", "true", *options]))


def test_folder_is_all_that_a_resume_needs(workspace, copied):
    _, data, options = train.parse(["--output_dir", str(copied), "--resume"])
    assert (data.data, data.crop_size, options.epochs) == ([str(workspace / "data")], [32, 32], 4)
    go_on(copied)  # finished: nothing is left to do


def test_run_can_be_made_longer(copied):
    go_on(copied, "--epochs", "5")
    lines = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12, 15]
    record = json.loads((copied / "run.json").read_text())
    assert (record["steps"], record["arguments"]["epochs"]) == (15, 5)


def test_run_cannot_be_made_shorter(copied):
    with pytest.raises(InputError, match=r"epochs was 4\.0 and is 1\.0"):
        go_on(copied, "--epochs", "1")


def test_finished_run_is_trained_on_from_its_best_checkpoint(workspace, whole_runs, tmp_path):
    first = whole_runs["alone"]
    argv = ["--start_from", first, "--data", workspace / "data", "--output_dir", tmp_path, "--crop_size", "32", "32",
            "--steps", "2", "--warmup_steps", "1", "--batch_size", "2", "--trackers", "none"]  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main(*train.parse([str(word) for word in argv]))
    one, other = (AutoModelForSemanticSegmentation.from_pretrained(run / "best") for run in (first, tmp_path))
    assert one.config.class_names == other.config.class_names
    started = json.loads((tmp_path / "run.json").read_text())["started_from"]
    assert started["model"] == str(first / "best") and len(started["weights_sha256"]) == 64


def test_run_ends_when_validations_get_no_better(workspace, tmp_path):
    run(workspace, tmp_path, "--epochs", "20", "--patience", "1", "--learning_rate", "1e-9")
    progress = progress_of(tmp_path)
    assert progress["ended_early"] and progress["step"] == 6  # the second validation is no better than the first
    go_on(tmp_path)  # nothing is left to do
