"""Seen and unseen classes apart: means by hand, the calibration on stand-ins, and the command."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_ins import NearestColour, StandIn
from tiny_model import NAMES, save_checkpoint, tiny_model
from written_data import write_data

from lclipseg.console.errors import InputError
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.words import zero_shot
from lclipseg.lab.words.zero_shot import ZeroShotArguments
from lclipseg.lab.words.zero_shot_scores import ZeroShotScores, score_zero_shot
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.prediction.metrics import ConfusionMatrix, SegmentationScores
from modeling_lclipseg import LClipSegImageProcessor, WordBank


class Constant(StandIn):
    """Logits 3, 2 and 1 everywhere."""

    def respond(self, colours: torch.Tensor) -> torch.Tensor:
        return torch.tensor([3.0, 2.0, 1.0])[:, None, None].expand(len(colours), 3, *colours.shape[-2:])


@pytest.fixture
def processor() -> LClipSegImageProcessor:
    return LClipSegImageProcessor(do_resize=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def data(folder) -> SegmentationData:
    return load_segmentation_data(folder, "test")


def scores_of(matrix: list[list[int]]) -> SegmentationScores:
    counts = ConfusionMatrix(3)
    counts.matrix = torch.tensor(matrix)
    return counts.scores(dict(enumerate("abc")))


def found(scores: ZeroShotScores) -> list[str]:
    """The classes that were predicted anywhere, on data in which every class has pixels."""
    return [name for name, accuracy in scores.all_classes.per_class_accuracy.items() if accuracy > 0]


# Means


@pytest.mark.parametrize(
    ("matrix", "unseen", "means"),
    [
        # IoU: a 6 / (8 + 7 - 6), b 3 / (4 + 5 - 3), c 2 / (4 + 4 - 2)
        ([[6, 1, 1], [0, 3, 1], [1, 1, 2]], ["b"], ((2 / 3 + 1 / 3) / 2, 1 / 2, 1 / 2)),
        (
            [[4, 0, 0], [0, 4, 0], [0, 3, 1]], ["c"],
            ((1 + 4 / 7) / 2, 1 / 4, 2 * (11 / 14) * (1 / 4) / (11 / 14 + 1 / 4)),
        ),
        ([[4, 0, 0], [0, 4, 0], [3, 0, 0]], ["c"], ((4 / 7 + 1) / 2, 0, 0)),  # a group without a hit
        ([[0, 4, 0], [4, 0, 0], [3, 0, 0]], ["c"], (0, 0, 0)),
        ([[4, 0, 0], [0, 4, 0], [0, 0, 0]], ["b", "c"], (1, 1, 1)),  # c occurs nowhere and does not count
    ],
)  # fmt: skip
def test_means_are_over_the_counted_classes_of_the_group(matrix, unseen, means):
    scores = ZeroShotScores.from_scores(scores_of(matrix), unseen, 0.0)
    assert (scores.seen_mean_iou, scores.unseen_mean_iou, scores.harmonic_mean) == pytest.approx(means)


def test_group_that_occurs_nowhere_has_no_mean():
    scores = ZeroShotScores.from_scores(scores_of([[4, 0, 0], [0, 4, 0], [0, 0, 0]]), ["c"], 0.0)
    assert math.isnan(scores.unseen_mean_iou) and math.isnan(scores.harmonic_mean)
    written = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert (written["unseen_mean_iou"], written["harmonic_mean"], written["seen_mean_iou"]) == (None, None, 1.0)


# Calibration


def test_without_calibration_the_scores_are_the_evaluation(data, processor):
    model = tiny_model()
    (scores,) = score_zero_shot(model, processor, data, ["road"])
    assert scores.all_classes == evaluate_model(model, processor, data)


def test_large_calibration_predicts_unseen_classes_alone(data, processor):
    (scores,) = score_zero_shot(tiny_model(), processor, data, ["road", "car"], [1e9])
    assert scores.seen_mean_iou == 0 < scores.unseen_mean_iou
    assert scores.all_classes.per_class_accuracy["sky"] == 0


@pytest.mark.parametrize(("calibration", "winner"), [(0.9, "sky"), (1.1, "road"), (5.0, "road")])
def test_calibration_is_in_logits_and_between_the_groups(data, processor, calibration, winner):
    (scores,) = score_zero_shot(Constant(processor), processor, data, ["road", "car"], [calibration])
    assert found(scores) == [winner]


def test_several_calibrations_score_as_each_alone(data, processor):
    model, values = tiny_model(), [0.0, 0.3, 1.0]
    alone = [score_zero_shot(model, processor, data, ["sky"], [value])[0] for value in values]
    assert score_zero_shot(model, processor, data, ["sky"], values) == alone
    assert len({scores.unseen_mean_iou for scores in alone}) == 3


def test_classes_in_another_order_than_the_models_are_matched_by_name(tmp_path, processor):
    data = load_segmentation_data(write_data(tmp_path / "turned", ["car", "sky", "road"]), "test")
    (scores,) = score_zero_shot(NearestColour(processor), processor, data, ["Road"])
    assert (scores.seen_mean_iou, scores.unseen_mean_iou, scores.harmonic_mean) == (1.0, 1.0, 1.0)


def test_limit_and_progress_count_images(data, processor):
    done: list[int] = []
    (scores,) = score_zero_shot(Constant(processor), processor, data, ["sky"], limit=2, on_image=done.append)
    assert done == [1, 2]
    assert scores.all_classes.num_pixels == 48 * 12 + 48 * 28


@pytest.mark.parametrize(
    ("unseen", "options", "message"),
    [
        (["raod"], {}, "nearest are .'road'"),
        (NAMES, {}, "all classes"),
        ([], {}, "no class is named"),
        (["sky"], {"calibrations": [1.0, -0.5]}, "from 0"),
        (["sky"], {"calibrations": [math.inf]}, "from 0"),
        (["sky"], {"calibrations": [math.nan]}, "from 0"),
        (["sky"], {"calibrations": []}, "at least one"),
        (["sky"], {"limit": 0}, "limit is at least 1"),
    ],
)
def test_mistakes_are_named(data, processor, unseen, options, message):
    with pytest.raises(InputError, match=message):
        score_zero_shot(Constant(processor), processor, data, unseen, **options)


# The command


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(3)), dim=-1)


@pytest.fixture
def options(folder, vectors, tmp_path) -> ZeroShotArguments:
    """All classes of the data in a bank, of which a checkpoint without "car" gets vectors for all three."""
    WordBank(tuple(NAMES), vectors).save(tmp_path / "bank.safetensors")
    (tmp_path / "unseen.yaml").write_text("classes: [car]\n")
    return ZeroShotArguments(
        data=str(folder),
        unseen=str(tmp_path / "unseen.yaml"),
        bank=str(tmp_path / "bank.safetensors"),
        calibration=[0.0, 1.0],
        out=str(tmp_path / "scores.json"),
    )


@pytest.fixture
def checkpoint(vectors, tmp_path) -> str:
    return str(save_checkpoint(tmp_path / "checkpoint", tiny_model().set_classes(["road", "sky"], vectors[:2])))


def test_command_gives_the_checkpoint_all_classes_of_the_data(checkpoint, options, data, processor, vectors):
    expected = score_zero_shot(tiny_model().set_classes(NAMES, vectors), processor, data, ["car"], [0.0, 1.0])
    assert zero_shot.main(checkpoint, options)[:2] == expected


def test_command_scores_projected_vectors_too(checkpoint, options, data, processor, vectors):
    model = tiny_model().set_classes(NAMES, vectors)
    expected = score_zero_shot(model, processor, data, ["car"], [0.0, 1.0], projected=True)
    assert zero_shot.main(checkpoint, options)[2:] == expected
    assert [row.projected for row in expected] == [True, True]
    assert torch.linalg.matrix_rank(model.class_embeddings, tol=1e-4) == 2  # "car" is a mixture of road and sky
    torch.testing.assert_close(model.class_embeddings[:2], vectors[:2])


def test_command_writes_what_made_the_numbers(checkpoint, options):
    rows = zero_shot.main(checkpoint, replace(options, limit=2))
    written = json.loads(Path(options.out).read_text())
    assert written["rows"] == [row.to_dict() for row in rows]
    assert (written["model"], written["split"], written["num_images"]) == (checkpoint, "test", 2)
    assert (written["unseen"], written["classes_of_checkpoint"]) == (["car"], ["road", "sky"])


def test_checkpoint_that_knows_an_unseen_class_is_reported(checkpoint, options, tmp_path, caplog):
    zero_shot.main(checkpoint, options)
    assert "no zero-shot score" not in caplog.text
    (tmp_path / "unseen.yaml").write_text("classes: [Road]\n")
    zero_shot.main(checkpoint, options)
    assert "['road']" in caplog.text and "no zero-shot score" in caplog.text


@pytest.mark.parametrize(
    ("guidance", "change", "said"),
    [("none", {}, "bound to the 3 classes"), ("fusion", {"out": "no/such/folder/scores.json"}, "--out")],
)
def test_checkpoint_or_file_that_cannot_be_used_is_refused(checkpoint, options, guidance, change, said):
    tiny_model(guidance=guidance).save_pretrained(checkpoint)
    with pytest.raises(InputError, match=said):
        zero_shot.main(checkpoint, replace(options, **change))
