"""The confusion matrix and its scores, against hand-worked numbers and two libraries; by sets: test_properties.py."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from lclipseg.console.errors import InputError
from lclipseg.prediction.metrics import ConfusionMatrix

NUM_CLASSES = 6  # class 5 never occurs in the random maps


@pytest.fixture
def maps() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(0, NUM_CLASSES - 1, (4, 13, 17), generator=generator)
    target = torch.randint(0, NUM_CLASSES - 1, (4, 13, 17), generator=generator)
    agree = torch.rand(target.shape, generator=generator) < 0.5
    target = torch.where(agree, prediction, target)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    return prediction, target


def counted(prediction: torch.Tensor, target: torch.Tensor, num_classes: int = NUM_CLASSES) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, target)
    return matrix


def test_two_by_two_case_has_the_hand_worked_scores():
    # truth 0 0 / 1 ignored, prediction 0 1 / 1 1: class 0 hits 1 of union 2, class 1 hits 1 of union 2
    scores = counted(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [1, 255]]), 2).scores({0: "a", 1: "b"})
    assert scores.per_class == {"a": 0.5, "b": 0.5}
    assert scores.per_class_accuracy == {"a": 0.5, "b": 1.0}
    assert scores.per_class_pixels == {"a": 2, "b": 1}
    assert (scores.mean_iou, scores.mean_accuracy, scores.num_pixels) == (0.5, 0.75, 3)
    assert scores.pixel_accuracy == pytest.approx(2 / 3)


def test_matrix_equals_scikit_learn(maps):
    prediction, target = maps
    known = target != 255
    expected = sklearn.metrics.confusion_matrix(target[known], prediction[known], labels=range(NUM_CLASSES))
    assert np.array_equal(counted(prediction, target).matrix.numpy(), expected)


def test_mean_iou_equals_torchmetrics(maps):
    expected = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=255)(*maps)
    assert counted(*maps).scores().mean_iou == pytest.approx(expected.item(), abs=1e-6)


def test_class_that_occurs_nowhere_does_not_enter_the_mean(maps):
    scores = counted(*maps).scores()
    assert math.isnan(scores.per_class["5"])
    assert (scores.num_classes, scores.num_classes_counted) == (6, 5)
    assert scores.mean_iou == pytest.approx(np.mean([scores.per_class[str(k)] for k in range(5)]))


def test_class_that_is_only_predicted_counts_as_zero():
    scores = counted(torch.tensor([0, 1]), torch.tensor([0, 0]), 2).scores()
    assert (scores.per_class["1"], scores.mean_iou, scores.num_classes_counted) == (0.0, 0.25, 2)
    assert math.isnan(scores.per_class_accuracy["1"])
    assert scores.mean_accuracy == 0.5


def test_updates_add_up_to_one_update_of_everything(maps):
    matrix = ConfusionMatrix(NUM_CLASSES)
    for prediction, target in zip(*maps, strict=True):
        matrix.update(prediction, target)
    assert torch.equal(matrix.matrix, counted(*maps).matrix)


def test_small_integer_types_count_like_int64(maps):
    prediction, target = maps
    assert torch.equal(counted(prediction.to(torch.int32), target.to(torch.uint8)).matrix, counted(*maps).matrix)


def test_prediction_at_ignored_pixels_does_not_matter():
    counts = counted(torch.tensor([0, 99]), torch.tensor([0, 255]), 2)
    assert counts.matrix.tolist() == [[1, 0], [0, 0]]


def test_negative_ignore_index_frees_255_for_a_class():
    counts = ConfusionMatrix(256, ignore_index=-1)
    counts.update(torch.tensor([255, 3]), torch.tensor([255, -1]))
    assert counts.matrix[255, 255] == counts.matrix.sum() == 1


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([0, 1], [0, 7], "target holds the id 7; allowed are 0..2 or 255"),
        ([0, 3], [0, 1], "prediction holds the id 3; allowed are 0..2"),
        ([0, -1], [0, 1], "prediction holds the id -1"),
        ([0, 1], [-1, 1], "target holds the id -1"),
        ([0, 1, 2], [0, 1], "shape"),
        ([0.0, 1.0], [0, 1], "integer class ids"),
    ],
)
def test_wrong_ids_are_refused(prediction, target, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(InputError, match=message):
        matrix.update(torch.tensor(prediction), torch.tensor(target))
    assert matrix.matrix.sum() == 0


@pytest.mark.parametrize(("num_classes", "ignore_index"), [(0, 255), (3, 2), (300, 255)])
def test_impossible_class_counts_are_refused(num_classes, ignore_index):
    with pytest.raises(InputError):
        ConfusionMatrix(num_classes, ignore_index)


@pytest.mark.parametrize("id2label", [{0: "a"}, {0: "a", 2: "b"}, {0: "a", 1: "a"}])
def test_names_that_do_not_fit_are_refused(id2label):
    with pytest.raises(InputError, match="id2label"):
        ConfusionMatrix(2).scores(id2label)


def test_scores_of_nothing_are_nan_and_null_in_json():
    scores = ConfusionMatrix(2).scores()
    assert math.isnan(scores.mean_iou)
    restored = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert restored["mean_iou"] is None
    assert restored["per_class"] == {"0": None, "1": None}
    assert restored["num_classes_counted"] == 0


def test_markdown_has_a_row_for_each_class_and_says_how_many_counted():
    text = counted(torch.tensor([0, 1]), torch.tensor([0, 0]), 3).scores({0: "sky", 1: "a|b", 2: "sea"}).to_markdown()
    assert "mIoU 25.00 over 2 of 3 classes" in text
    assert "| sky | 50.00 | 50.00 | 2 |" in text
    assert "| a&#124;b | 0.00 | – | 0 |" in text
    assert "| sea | – | – | 0 |" in text


class TwoEqualProcesses:
    """What the matrix uses of an `Accelerator`. Two real processes are in test_two_processes.py."""

    device = torch.device("cpu")

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return tensor * 2


def test_reduce_gives_a_new_matrix_of_all_processes(maps):
    own = counted(*maps)
    before = own.matrix.clone()
    total = own.reduce(TwoEqualProcesses())
    assert torch.equal(total.matrix, 2 * before)
    assert torch.equal(own.matrix, before)
    assert total.scores().mean_iou == own.scores().mean_iou
