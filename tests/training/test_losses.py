"""Weighted classes and soft Dice: their values, at which pixels, and that nothing else changes."""

import json

import pytest
import torch
import torch.nn.functional as F
from tiny_model import tiny_model
from tiny_run import run

from lclipseg.console.errors import InputError
from lclipseg.training.losses import MOST_WEIGHT, TrainingLoss, inverse_sqrt_weights
from modeling_lclipseg.loss_lclipseg import segmentation_loss

IGNORED = 255


def pixels(num_classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, K, 5, 6) and labels (2, 5, 6), some of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (2, 5, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORED
    return torch.randn(2, num_classes, 5, 6, generator=generator, requires_grad=True), labels


def dice_by_definition(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    probabilities, losses = scores.softmax(1), []
    for index in range(scores.shape[1]):
        of_class = probabilities[:, index][labels != IGNORED]
        truth = (labels[labels != IGNORED] == index).float()
        if truth.any():
            losses.append(1 - 2 * (of_class * truth).sum() / (of_class.sum() + truth.sum()))
    return torch.stack(losses).mean()


def test_without_options_it_is_the_cross_entropy():
    scores, labels = pixels(4)
    expected = F.cross_entropy(scores, labels, ignore_index=IGNORED, reduction="sum")
    assert TrainingLoss()(scores, labels, IGNORED) == expected


@pytest.mark.parametrize("as_rows", [False, True])
def test_dice_is_the_mean_over_classes_with_a_label(as_rows):
    scores, labels = pixels(4)
    labels[labels == 2] = IGNORED  # a class without a pixel does not count
    given = (scores.movedim(1, -1).reshape(-1, 4), labels.flatten()) if as_rows else (scores, labels)
    added = TrainingLoss(dice=0.5)(*given, IGNORED) - TrainingLoss()(*given, IGNORED)
    expected = 0.5 * (labels != IGNORED).sum() * dice_by_definition(scores, labels)
    torch.testing.assert_close(added, expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("phase", [None, 5])
def test_batch_has_the_dice_of_its_pixels_whatever_the_classes_of_its_images(phase):
    """Both images of one class list, or each of its own: other classes have no probability and no gradient."""
    scores, labels = pixels(3)
    labels[1] = labels[1].where(labels[1] != 0, 1)
    mask = torch.tensor([[True, True, True], [False, True, True]])
    big = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)  # so that every phase has the same labels
    loss = segmentation_loss(
        scores, None, big, ignore_index=IGNORED, auxiliary_loss_weight=0.0, phase=phase, class_mask=mask,
        pixel_loss=TrainingLoss(dice=1e6),
    )  # fmt: skip
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scores.grad).all()
    assert not scores.grad[1, 0].any() and scores.grad[1, 1].any()
    assert 0 < loss / 1e6 < 1.001


def test_perfect_answer_and_one_class_alone_cost_nothing():
    labels = torch.tensor([[0, 1, IGNORED]])
    scores = 50 * F.one_hot(labels.clamp(max=1), 2).movedim(-1, 1).float()
    assert TrainingLoss(dice=1.0)(scores, labels, IGNORED) < 1e-5
    alone = torch.randn(1, 1, 3, requires_grad=True)
    loss = TrainingLoss(dice=1.0)(alone, labels.clamp(max=IGNORED).where(labels == IGNORED, 0), IGNORED)
    loss.backward()
    assert loss.abs() < 1e-5 and torch.isfinite(alone.grad).all()


def test_batch_without_a_label_costs_nothing():
    scores, labels = pixels(3)
    assert TrainingLoss(1.0, [1.0, 2.0, 3.0])(scores, torch.full_like(labels, IGNORED), IGNORED) == 0


def test_weights_fall_with_the_root_of_the_pixels_and_leave_the_mean_pixel_alone():
    weights = inverse_sqrt_weights([900, 100, 0])
    assert weights[1] / weights[0] == pytest.approx(3) and weights[2] == 1
    assert 0.9 * weights[0] + 0.1 * weights[1] == pytest.approx(1)
    assert inverse_sqrt_weights([10**9, 1])[1] == MOST_WEIGHT and inverse_sqrt_weights([0, 0]) == [1, 1]


def test_pixel_counts_by_the_weight_of_its_class():
    scores, labels = pixels(2)
    expected = F.cross_entropy(scores, labels, torch.tensor([1.0, 3.0]), ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(TrainingLoss(weights=[1.0, 3.0])(scores, labels, IGNORED), expected)


def test_model_takes_another_loss_in_both_modes():
    model = tiny_model()
    batch = {"pixel_values": torch.randn(2, 3, 64, 64), "labels": torch.zeros(2, 64, 64, dtype=torch.long)}
    model.pixel_loss = lambda scores, labels, ignore_index: (labels == 0).sum() + 0 * scores.sum()
    weight = 1 + model.config.auxiliary_loss_weight
    assert model(**batch).loss.item() == pytest.approx(weight)
    assert model.train()(**batch, loss_phase=3).loss.item() == pytest.approx(weight)


def test_run_says_the_weights_of_its_classes(workspace, tmp_path):
    sets = ("--data", str(workspace / "data"), str(workspace / "other"))
    run(workspace, tmp_path / "run", *sets, "--epochs", "1", "--class_weights", "inverse_sqrt", "--dice", "1")
    weights = json.loads((tmp_path / "run" / "run.json").read_text())["weights_of_classes"]
    assert len(weights) == 3 and weights[1] < min(weights[0], weights[2])  # "road" is in both sets
    with pytest.raises(InputError, match=r"dice was 1\.0 and is 2\.0"):
        options = ("--class_weights", "inverse_sqrt", "--dice", "2", "--resume", "true")
        run(workspace, tmp_path / "run", *sets, "--epochs", "1", *options)
