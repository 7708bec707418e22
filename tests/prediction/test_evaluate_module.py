"""Mean IoU through the `evaluate` library, loaded from this project's own folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from lclipseg.prediction.metrics import ConfusionMatrix

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def metric(monkeypatch, tmp_path) -> evaluate.Metric:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return evaluate.load("scripts/mean_iou", cache_dir=str(tmp_path / "cache"))


def random_maps(*shapes: tuple[int, int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(0)
    predictions = [generator.integers(0, 4, shape) for shape in shapes]
    references = [np.where(generator.random(shape) < 0.1, 255, generator.integers(0, 4, shape)) for shape in shapes]
    return predictions, references


def test_scores_equal_the_confusion_matrix_for_maps_of_different_sizes(metric):
    predictions, references = random_maps((6, 8), (5, 3), (1, 9))
    matrix = ConfusionMatrix(5)
    for prediction, reference in zip(predictions, references, strict=True):
        matrix.update(torch.from_numpy(prediction), torch.from_numpy(reference))
    scores = matrix.scores()
    found = metric.compute(predictions=predictions, references=references, num_labels=5)
    assert found["mean_iou"] == scores.mean_iou
    assert found["mean_accuracy"] == scores.mean_accuracy
    assert found["overall_accuracy"] == scores.pixel_accuracy
    assert found["num_classes_counted"] == 4
    np.testing.assert_array_equal(found["per_category_iou"], list(scores.per_class.values()))
    np.testing.assert_array_equal(found["per_category_accuracy"], list(scores.per_class_accuracy.values()))


def test_batches_add_up_to_one_data_set(metric):
    predictions, references = random_maps((6, 8), (6, 8))
    whole = metric.compute(predictions=predictions, references=references, num_labels=4)
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add_batch(predictions=[prediction], references=[reference])
    assert metric.compute(num_labels=4)["mean_iou"] == whole["mean_iou"]


def test_ignore_index_is_passed_on(metric):
    found = metric.compute(predictions=[[[0, 1]]], references=[[[0, -1]]], num_labels=2, ignore_index=-1)
    assert found["mean_iou"] == 1.0


def test_wrong_id_is_an_error(metric):
    with pytest.raises(ValueError, match="target holds the id 9"):
        metric.compute(predictions=[[[0, 1]]], references=[[[0, 9]]], num_labels=2)
