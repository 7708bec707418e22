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
from lclipseg.lab.words.zero_shot import ZeroShotArguments, parse
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


def test_means_are_over_the_classes_of_the_group():
    # IoU: a 6 / (8 + 7 - 6), b 3 / (4 + 5 - 3), c 2 / (4 + 4 - 2)
    scores = ZeroShotScores.from_scores(scores_of([[6, 1, 1], [0, 3, 1], [1, 1, 2]]), ["b"], 0.0)
    assert scores.seen_mean_iou == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert scores.unseen_mean_iou == pytest.approx(1 / 2)
    assert scores.harmonic_mean == pytest.approx(1 / 2)


def test_harmonic_mean_is_below_the_mean():
    scores = ZeroShotScores.from_scores(scores_of([[4, 0, 0], [0, 4, 0], [0, 3, 1]]), ["c"], 0.0)
    assert scores.seen_mean_iou == pytest.approx((1 + 4 / 7) / 2)
    assert scores.harmonic_mean == pytest.approx(2 * (11 / 14) * (1 / 4) / (11 / 14 + 1 / 4))


def test_group_without_a_hit_makes_the_harmonic_mean_zero():
    assert ZeroShotScores.from_scores(scores_of([[4, 0, 0], [0, 4, 0], [3, 0, 0]]), ["c"], 0.0).harmonic_mean == 0
    assert ZeroShotScores.from_scores(scores_of([[0, 4, 0], [4, 0, 0], [3, 0, 0]]), ["c"], 0.0).harmonic_mean == 0


def test_class_that_occurs_nowhere_does_not_count():
    scores = ZeroShotScores.from_scores(scores_of([[4, 0, 0], [0, 4, 0], [0, 0, 0]]), ["b", "c"], 0.0)
    assert scores.unseen_mean_iou == 1.0


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


def test_command_prints_a_row_for_each_calibration(checkpoint, options, capsys):
    zero_shot.main(checkpoint, replace(options, calibration=[0.0, 2.5]))
    printed = capsys.readouterr().out
    assert "harmonic" in printed and "2.5" in printed


def test_checkpoint_that_knows_an_unseen_class_is_reported(checkpoint, options, tmp_path, caplog):
    zero_shot.main(checkpoint, options)
    assert "no zero-shot score" not in caplog.text
    (tmp_path / "unseen.yaml").write_text("classes: [Road]\n")
    zero_shot.main(checkpoint, options)
    assert "['road']" in caplog.text and "no zero-shot score" in caplog.text


def test_closed_vocabulary_is_refused(checkpoint, options):
    tiny_model(guidance="none").save_pretrained(checkpoint)
    with pytest.raises(InputError, match="bound to the 3 classes"):
        zero_shot.main(checkpoint, options)


def test_out_in_no_folder_is_refused_before_the_work(options):
    with pytest.raises(InputError, match="--out"):
        zero_shot.main("nowhere", replace(options, out="no/such/folder/scores.json"))


def test_command_line_is_parsed():
    given = ["--data", "d", "--unseen", "u.yaml", "--bank", "b.safetensors", "--calibration", "0", "1.5"]
    assert parse(["runs/a/best", *given, "--split", "val"]) == (
        "runs/a/best",
        ZeroShotArguments("d", "u.yaml", "b.safetensors", split="val", calibration=[0.0, 1.5]),
    )
