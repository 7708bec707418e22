"""From a labelled folder to scores: the function that training shares, and the command."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from accelerate import Accelerator
from PIL import Image
from stand_ins import NearestColour
from tiny_model import NAMES, tiny_model
from written_data import COUNT, write_data

from lclipseg.commands import evaluate
from lclipseg.commands.evaluate import parse
from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.prediction.arguments import EvaluateArguments
from lclipseg.prediction.evaluate import evaluate_model, match_classes
from lclipseg.prediction.inference_mode import InferenceMode
from lclipseg.prediction.scoring import score
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import LClipSegImageProcessor, WordBank

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def processor() -> LClipSegImageProcessor:
    return LClipSegImageProcessor(do_resize=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def data(folder) -> SegmentationData:
    return load_segmentation_data(str(folder), "test")


def class_list(*names: str) -> ClassList:
    return ClassList(names=names, prompts=names)


def test_model_that_is_always_right_scores_one(data, processor):
    scores = evaluate_model(NearestColour(processor), processor, data)
    assert (scores.mean_iou, scores.pixel_accuracy, scores.num_classes_counted) == (1.0, 1.0, 3)
    assert scores.num_pixels == sum(48 * (16 * (index + 1) - 4) for index in range(COUNT))


def test_error_in_one_mask_costs_what_it_should(folder, processor):
    path = folder / "test" / "masks" / "0.png"
    mask = np.asarray(Image.open(path)).copy()
    mask[4:, :16] = 1  # the truth now says "road" where "sky" is seen: 12 x 16 pixels
    Image.fromarray(mask).save(path)
    scores = evaluate_model(NearestColour(processor), processor, load_segmentation_data(str(folder), "test"))
    wrong, each = 12 * 16, scores.num_pixels // 3
    assert scores.per_class["sky"] == pytest.approx((each - wrong) / each)
    assert scores.per_class["road"] == pytest.approx(each / (each + wrong))
    assert scores.per_class["car"] == 1.0


def test_scores_equal_scikit_learn_over_all_images(data, processor):
    model = tiny_model()
    truth, predicted = [], []
    for index in range(len(data)):
        sample = data[index]
        known = sample.mask != 255
        truth.append(sample.mask[known])
        predicted.append(segment_images(model, processor, [sample.image])[0].numpy()[known])
    truth, predicted = np.concatenate(truth), np.concatenate(predicted)
    scores = evaluate_model(model, processor, data)
    assert scores.mean_iou == pytest.approx(sklearn.metrics.jaccard_score(truth, predicted, average="macro"))
    assert scores.pixel_accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))


def test_classes_in_another_order_are_matched_by_name(tmp_path, processor):
    data = load_segmentation_data(str(write_data(tmp_path / "turned", ["car", "sky", "road"])), "test")
    scores = evaluate_model(NearestColour(processor), processor, data)
    assert scores.mean_iou == 1.0
    assert list(scores.per_class) == ["car", "sky", "road"]


class OfTwo(NearestColour):
    """Knows the first two of the three colours."""

    def __init__(self, processor: LClipSegImageProcessor):
        super().__init__(processor, [NAMES[1], NAMES[0]])

    def respond(self, colours: torch.Tensor) -> torch.Tensor:
        return super().respond(colours)[:, [1, 0]]


def test_least_score_tells_what_is_none_of_the_classes(folder, processor):
    (folder / "classes.json").write_text(json.dumps({"classes": NAMES, "none_of_these": NAMES[2]}))
    data = load_segmentation_data(str(folder), "test")
    assert evaluate_model(OfTwo(processor), processor, data, least_score=-1.0).mean_iou == 1.0  # midway between two
    everywhere = evaluate_model(OfTwo(processor), processor, data, least_score=1.0)
    assert [everywhere.per_class[name] for name in NAMES[:2]] == [0.0, 0.0]


def test_least_score_needs_a_class_for_all_else(data, processor):
    with pytest.raises(InputError, match="none_of_these"):
        evaluate_model(OfTwo(processor), processor, data, least_score=1.0)


def test_match_classes_gives_the_id_in_the_data():
    assert match_classes({0: "a", 1: "b", 2: "c"}, class_list("C ", "a", "B")).tolist() == [1, 2, 0]


@pytest.mark.parametrize("names", [("sky", "road"), ("sky", "road", "truck"), ("sky", "road", "car", "truck")])
def test_other_classes_are_listed(names):
    with pytest.raises(InputError) as caught:
        match_classes(dict(enumerate(NAMES)), class_list(*names))
    assert ("Only in the checkpoint: car" in str(caught.value)) == ("car" not in names)
    assert ("Only in the data: truck" in str(caught.value)) == ("truck" in names)
    assert "--classes-from data" in str(caught.value)


def test_batch_size_does_not_change_the_scores(data, processor):
    model = tiny_model()
    assert evaluate_model(model, processor, data, batch_size=4) == evaluate_model(model, processor, data)


def test_inference_mode_reaches_the_model(data, processor):
    model = tiny_model()
    slide = evaluate_model(model, processor, data, InferenceMode("slide", window=32))
    assert slide.per_class != evaluate_model(model, processor, data).per_class


def test_limit_scores_the_first_images(data, processor):
    scores = evaluate_model(NearestColour(processor), processor, data, limit=2)
    assert scores.num_pixels == 48 * 12 + 48 * 28
    assert evaluate_model(NearestColour(processor), processor, data, limit=99).num_pixels > scores.num_pixels


@pytest.mark.parametrize("options", [{"limit": 0}, {"batch_size": 0}])
def test_impossible_counts_are_refused(data, processor, options):
    with pytest.raises(InputError, match="at least 1"):
        evaluate_model(NearestColour(processor), processor, data, **options)


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_in_the_mode_it_was_in(data, processor, training):
    model = tiny_model().train(training)
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    scores = evaluate_model(model, processor, data, limit=1)
    assert model.training is training
    assert all(torch.equal(statistics[name], buffer) for name, buffer in model.named_buffers())
    assert scores == evaluate_model(tiny_model(), processor, data, limit=1)


def test_progress_is_reported_after_every_batch(data, processor):
    seen = []
    evaluate_model(
        NearestColour(processor), processor, data, batch_size=2, on_batch=lambda *state: seen.append(state[0])
    )
    assert seen == [2, 4, 5]


def test_one_process_with_an_accelerator_scores_the_same(data, processor):
    model = NearestColour(processor)
    scores = evaluate_model(model, processor, data, accelerator=Accelerator(cpu=True))
    assert scores == evaluate_model(model, processor, data)


# The command


def test_command_writes_what_made_the_numbers(folder, checkpoint, tmp_path):
    out = tmp_path / "deep" / "out"
    record = score(str(checkpoint), EvaluateArguments(data=str(folder), limit=3, flip=True, out=str(out)))
    written = json.loads((out / "evaluation.json").read_text())
    assert written["scores"] == record.scores.to_dict()
    assert (written["model"], written["data"], written["split"]) == (str(checkpoint), str(folder), "test")
    assert written["inference"] == {"mode": "whole", "flip": True, "window": None, "stride": None}
    assert written["num_images"] == 3
    assert {"torch", "transformers", "timm"} <= set(written["versions"])
    assert written["machine"]["cpu_count"] >= 1
    assert written["seconds"] > 0
    assert written["date"].endswith("+00:00")
    assert record.scores.to_markdown() in (out / "evaluation.md").read_text()


def test_command_scores_like_the_function(folder, data, checkpoint, processor):
    record = score(str(checkpoint), EvaluateArguments(data=str(folder), mode="slide", window=32))
    assert record.scores == evaluate_model(tiny_model(), processor, data, InferenceMode("slide", window=32))


def test_command_prints_a_row_for_each_class(folder, checkpoint, capsys):
    score(str(checkpoint), EvaluateArguments(data=str(folder)))
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert "of 3 classes" in printed


def test_classes_of_the_data_come_from_a_bank(tmp_path, checkpoint, processor):
    names = ["car", "sky", "tree", "road"]
    folder = write_data(tmp_path / "other", names, ignore=False)
    vectors = torch.nn.functional.normalize(torch.randn(4, 32, generator=torch.Generator().manual_seed(3)), dim=-1)
    WordBank(names=tuple(names), embeddings=vectors, text_model=None).save(tmp_path / "bank.safetensors", key="words")
    arguments = EvaluateArguments(data=str(folder), classes_from="data", bank=f"{tmp_path / 'bank.safetensors'}#words")
    record = score(str(checkpoint), arguments)
    model = tiny_model()
    model.set_classes(names, vectors)
    expected = evaluate_model(model, processor, load_segmentation_data(str(folder), "test"))
    assert record.scores.to_dict() == expected.to_dict()  # "tree" is in no mask: NaN
    with pytest.raises(InputError, match="Only in the data: tree"):
        score(str(checkpoint), replace(arguments, classes_from="checkpoint", bank=None))


def test_bank_without_classes_of_the_data_is_refused(folder, checkpoint):
    with pytest.raises(InputError, match="--classes-from data"):
        score(str(checkpoint), EvaluateArguments(data=str(folder), bank="bank.safetensors"))


def test_closed_vocabulary_cannot_take_the_classes_of_the_data(folder, checkpoint):
    tiny_model(guidance="none").save_pretrained(checkpoint)
    with pytest.raises(InputError, match="bound to the 3 classes"):
        score(str(checkpoint), EvaluateArguments(data=str(folder), classes_from="data"))


def test_out_that_is_a_file_is_refused(folder, checkpoint):
    with pytest.raises(InputError, match="--out"):
        score(str(checkpoint), EvaluateArguments(data=str(folder), out=str(checkpoint / "config.json")))


def test_command_line_is_parsed():
    options = ["--split", "val", "--mode", "slide", "--flip", "--batch-size", "4", "--limit", "7"]
    model, arguments = parse(["runs/a", "--data", "data/b", *options])
    assert model == "runs/a"
    assert arguments == EvaluateArguments(
        data="data/b", split="val", mode="slide", flip=True, batch_size=4, limit=7, classes_from="checkpoint"
    )


def test_mistake_ends_the_command_with_its_message(monkeypatch, capsys, folder):
    monkeypatch.setattr(sys, "argv", ["evaluate", "./nowhere", "--data", str(folder)])
    with pytest.raises(SystemExit) as ended:
        evaluate.command()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no folder nowhere")
