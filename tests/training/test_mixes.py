"""A run on two data sets at once: each is scored among its own classes, and a stopped run goes on."""

import json
from pathlib import Path

import pytest
import torch
from survival import OPTIONS, Killed, assert_same_run, kill_at, resume
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from modeling_lclipseg import WordBank


def both(workspace: Path) -> tuple[str, ...]:
    return ("--data", str(workspace / "data"), str(workspace / "other"))


@pytest.fixture(scope="module")
def mixed_run(workspace, tmp_path_factory) -> Path:
    """Uninterrupted."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    run(workspace, folder, *OPTIONS, *both(workspace))
    return folder


def test_checkpoint_has_the_classes_of_both_each_once(workspace, mixed_run):
    model = AutoModelForSemanticSegmentation.from_pretrained(mixed_run / "best")
    assert model.config.id2label == {0: "sky", 1: "road", 2: "tree"}
    words = WordBank.load(workspace / "bank.safetensors").lookup(["sky", "road", "tree"])
    torch.testing.assert_close(model.class_embeddings, words)


def test_every_validation_has_both_sets_and_their_mean(mixed_run):
    lines = [json.loads(line) for line in (mixed_run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) > 1
    for line in lines:
        scores = line["data"]
        assert {name: list(one["per_class"]) for name, one in scores.items()} == {
            "data": ["sky", "road"],
            "other": ["street", "tree"],
        }
        assert line["mean_iou"] == pytest.approx(sum(one["mean_iou"] for one in scores.values()) / 2)


def test_run_tells_the_images_of_both(mixed_run):
    record = json.loads((mixed_run / "run.json").read_text())
    assert record["images"] == {"train": [6, 4], "eval": [2, 2]}
    assert all(len(prints) == 2 for prints in record["data_fingerprint"].values())


def test_killed_run_goes_on_bit_for_bit(workspace, tmp_path, mixed_run):
    with pytest.raises(Killed):
        run(workspace, tmp_path / "run", *OPTIONS, *both(workspace), on_step=kill_at(8))
    resume(workspace, tmp_path / "run", *both(workspace))
    assert_same_run(mixed_run, tmp_path / "run")


def test_resume_with_sets_in_another_order_is_refused(workspace, mixed_run):
    with pytest.raises(InputError, match="the data to train and eval on are not those"):
        resume(workspace, mixed_run, "--data", str(workspace / "other"), str(workspace / "data"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--guidance", "none"), "--guidance none is bound to one list of classes, but 2 data sets"),
        (("--streaming", "true"), "--streaming true takes one data set"),
        (("--data_weights", "1"), "--data_weights has 1 numbers for 2 data sets"),
        (("--data_weights", "1", "0"), "one number above 0 for each of 2"),
    ],
)
def test_what_several_sets_do_not_go_with_is_an_input_error(workspace, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(workspace, tmp_path / "run", *both(workspace), *options)


def test_two_sets_of_one_name_are_refused(workspace, tmp_path):
    (tmp_path / "data").symlink_to(workspace / "other")
    with pytest.raises(InputError, match="two data sets are called 'data'"):
        run(workspace, tmp_path / "run", "--data", str(workspace / "data"), str(tmp_path / "data"))
