"""Scores of words on several data sets: the lines, what is not scored again, and the page."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_model import NAMES, tiny_model
from written_data import write_data

from lclipseg.console.errors import InputError
from lclipseg.console.paths import project
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.words import everyday
from lclipseg.lab.words.everyday import EverydayArguments, read_lines, train_pixels
from lclipseg.lab.words.everyday_page import page, present_mean, summary
from lclipseg.prediction.evaluate import evaluate_model
from modeling_lclipseg import LClipSegImageProcessor, WordBank


@pytest.fixture
def checkpoint(saved_checkpoint, tmp_path) -> str:
    folder = shutil.copytree(saved_checkpoint, tmp_path / "lclipseg-tiny")
    (folder / "run.json").write_text(json.dumps({"arguments": {"data": ["there/street"]}, "preset": {"name": "tiny"}}))
    return str(folder)


@pytest.fixture
def options(tmp_path) -> EverydayArguments:
    """Two data sets of the same images, the first of which the checkpoint was trained on."""
    folders = [write_data(tmp_path / name) for name in ("street", "field")]
    shutil.copytree(folders[0] / "test", folders[0] / "train")
    WordBank(tuple(NAMES), tiny_model().class_embeddings).save(tmp_path / "bank.safetensors")
    return EverydayArguments(
        data=[str(folder) for folder in folders],
        bank=str(tmp_path / "bank.safetensors"),
        out=str(tmp_path / "everyday.jsonl"),
        page=str(tmp_path / "everyday.md"),
    )


@pytest.fixture
def lines(checkpoint, options, tmp_path) -> list[dict]:
    everyday.main([checkpoint], options)
    return read_lines(tmp_path / "everyday.jsonl")


def test_every_pair_has_a_line_with_the_scores_of_the_words(lines, options):
    data = load_segmentation_data(options.data[0], "test")
    model = tiny_model().set_classes(data.classes.names, WordBank.load(options.bank))
    scores = evaluate_model(model, LClipSegImageProcessor(do_resize=False), data)
    assert [line["data"] for line in lines] == ["street", "field"]
    assert lines[0]["mean_iou"] == pytest.approx(scores.mean_iou, abs=1e-4)
    assert {name: row["pixels"] for name, row in lines[0]["classes"].items()} == scores.per_class_pixels


def test_only_a_data_set_of_the_run_is_trained_on_and_has_pixels_in_train(lines, options):
    counted = train_pixels(load_segmentation_data(options.data[0], "train"))
    assert [line["trained_on"] for line in lines] == [True, False]
    assert [row["train_pixels"] for row in lines[0]["classes"].values()] == counted and sum(counted) > 0
    assert not any(row["train_pixels"] for row in lines[1]["classes"].values())


def test_what_was_scored_is_not_scored_again_and_other_weights_are(lines, checkpoint, options, tmp_path):
    everyday.main([checkpoint], options)
    assert read_lines(tmp_path / "everyday.jsonl") == lines
    other = tiny_model()
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    other.save_pretrained(checkpoint)
    everyday.main([checkpoint], options)
    assert len(read_lines(tmp_path / "everyday.jsonl")) == 2 * len(lines)


def test_page_is_written_from_the_lines_alone_without_a_checkpoint(lines, options, tmp_path):
    (tmp_path / "everyday.md").unlink()
    checkpoints, defaults = everyday.parse([])
    assert defaults == EverydayArguments()
    everyday.main(checkpoints, options)
    assert (tmp_path / "everyday.md").read_text() == page(lines)


def test_scores_of_some_images_only_stay_off_the_page(lines):
    assert page([*lines, {**lines[0], "model": "lclipseg-part", "limit": 1}]) == page(lines)


def test_summary_has_the_mean_of_the_sets_that_a_checkpoint_learned(lines, checkpoint, tmp_path):
    (tmp_path / "lclipseg-tiny" / "run.json").write_text('{"parameters": 1500000}')
    both = [{**line, "trained_on": True, "mean_iou": iou} for line, iou in zip(lines, (0.5, 0.25), strict=True)]
    (row,) = summary(both, tmp_path).splitlines()[2:]
    assert row.endswith("| 37.5 | 50.0 | 25.0 |")
    assert len(summary(lines, tmp_path).splitlines()) == 2  # one set alone is no mix


def test_summary_in_the_readme_is_that_of_the_lines():
    lines = read_lines(project("docs/results/everyday.jsonl"))
    assert summary(lines, project("checkpoints")) in project("README.md").read_text()
    assert page(lines) == project("docs/results/everyday.md").read_text()


def test_mean_over_the_truth_leaves_out_what_only_a_prediction_has():
    rows = {"a": {"iou": 0.5, "pixels": 9}, "b": {"iou": 0.0, "pixels": 0}, "c": {"iou": None, "pixels": 0}}
    assert present_mean({"classes": rows}) == 0.5


def test_output_in_no_folder_is_refused_before_anything_is_scored(checkpoint, options, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        everyday.main([checkpoint], replace(options, out=str(tmp_path / "nowhere" / "a.jsonl")))


def test_line_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n{\n")
    with pytest.raises(InputError, match=r"a\.jsonl"):
        read_lines(tmp_path / "a.jsonl")
