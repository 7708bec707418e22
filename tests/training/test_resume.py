"""Going on with a run, from its folder alone and for longer; ending one early."""

import json

import pytest
from accelerate.state import AcceleratorState
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.commands import train
from lclipseg.console.errors import InputError


def resume(folder, *options: str) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main(*train.parse(["--output_dir", str(folder), "--resume", "true", *options]))


def test_folder_is_all_that_a_resume_needs(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--config", "hidden_size=32")
    _, data, options = train.parse(["--output_dir", str(tmp_path / "run"), "--resume"])
    assert (data.data, data.crop_size, options.epochs) == ([str(workspace / "data")], [32, 32], 2)
    resume(tmp_path / "run")  # finished: nothing is left to do


def test_run_can_be_made_longer(workspace, tmp_path):
    run(workspace, tmp_path / "run")
    resume(tmp_path / "run", "--epochs", "3")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["steps"], record["arguments"]["epochs"]) == (9, 3)


def test_run_cannot_be_made_shorter(workspace, tmp_path):
    run(workspace, tmp_path / "run")
    with pytest.raises(InputError, match=r"epochs was 2\.0 and is 1\.0"):
        resume(tmp_path / "run", "--epochs", "1")


def test_finished_run_is_trained_on_from_its_best_checkpoint(workspace, tmp_path):
    run(workspace, tmp_path / "first")
    argv = ["--start_from", str(tmp_path / "first"), "--data", str(workspace / "data"), "--output_dir",
            str(tmp_path / "second"), "--crop_size", "32", "32", "--steps", "2", "--warmup_steps", "1",
            "--batch_size", "2", "--trackers", "none"]  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)
    train.main(*train.parse(argv))
    first, second = (
        AutoModelForSemanticSegmentation.from_pretrained(tmp_path / name / "best") for name in ("first", "second")
    )
    assert first.config.class_names == second.config.class_names
    started = json.loads((tmp_path / "second" / "run.json").read_text())["started_from"]
    assert started["model"] == str(tmp_path / "first" / "best") and len(started["weights_sha256"]) == 64


def test_run_ends_when_validations_get_no_better(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "20", "--patience", "1", "--learning_rate", "1e-9")
    progress = json.loads((tmp_path / "run" / "last" / "progress.json").read_text())
    assert progress["ended_early"] and progress["step"] == 6  # the second validation is no better than the first
    resume(tmp_path / "run")  # nothing is left to do
