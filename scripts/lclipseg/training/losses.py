"""What a run can minimise beside the plain cross-entropy: weighted classes, and the overlap of whole classes."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

MOST_WEIGHT = 10.0


class TrainingLoss:
    """
    Cross-entropy with weighted classes and, beside it, soft Dice: the sum over the pixels of a batch, as the model's
    own is (`LClipSegForSemanticSegmentation.pixel_loss`).

    Dice is 1 - 2 |P Y| / (|P| + |Y|) with the probabilities P and the labels Y of a class over all labelled pixels of
    the batch (Milletari et al. 2016, arXiv 1606.04797), as a mean over the classes with a label there. A pixel's
    share of it depends on the others of its batch: batches of a step, and processes, are not as one batch is.

    Memory is that of the cross-entropy, and as much again for the probabilities. Libraries have it with a one-hot map
    of the labels beside, of eight bytes a pixel and class.

    Args:
        dice (`float`): What Dice is multiplied with; 0 leaves it out.
        weights (sequence of `float`, *optional*): Of every class in the cross-entropy.
    """

    def __init__(self, dice: float = 0.0, weights: Sequence[float] | None = None):
        self.dice = dice
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)

    def __call__(self, scores: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
        """
        Args:
            scores (`torch.Tensor` of shape `(N, K, ...)`): Logits; minus infinity where an image lacks a class.
            labels (`torch.Tensor` of shape `(N, ...)`): Class indices.
            ignore_index (`int`): The label of pixels that do not count.

        Returns:
            `torch.Tensor` of shape `()`.
        """
        likelihoods = F.log_softmax(scores, dim=1)
        weights = None if self.weights is None else self.weights.to(likelihoods)
        total = F.nll_loss(likelihoods, labels, weights, ignore_index=ignore_index, reduction="sum")
        if not self.dice:
            return total
        labelled = labels != ignore_index
        return total + self.dice * labelled.sum() * _soft_dice(likelihoods, labels, labelled)


def _soft_dice(likelihoods: torch.Tensor, labels: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """From logarithms of probabilities (N, K, ...) and labels (N, ...); 0 without a labelled pixel."""
    num_classes = likelihoods.shape[1]
    probabilities = likelihoods.exp().movedim(1, -1).reshape(-1, num_classes)  # (n, K)
    targets, counts = labels.masked_fill(~labelled, 0).flatten(), labelled.flatten().to(probabilities)
    right = probabilities.gather(1, targets[:, None])[:, 0] * counts  # (n): of the right class
    overlap, area = (
        torch.zeros(num_classes, dtype=counts.dtype, device=counts.device).index_add(0, targets, values)
        for values in (right, counts)
    )
    dice = 2 * overlap / (counts @ probabilities + area).clamp(min=1e-6)
    present = area > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def inverse_sqrt_weights(pixels: Sequence[float]) -> list[float]:
    """
    Weights of classes by one over the square root of their pixels, 10 at most: the mean over all pixels is 1 before
    that bound. A class without a pixel has 1.

    Args:
        pixels (sequence of `float`): How many pixels each class has.
    """
    total = sum(pixels)
    if not total:
        return [1.0] * len(pixels)
    shares = [count / total for count in pixels]
    scale = sum(map(math.sqrt, shares))  # of share / sqrt(share)
    return [min(MOST_WEIGHT, 1 / (math.sqrt(share) * scale)) if share else 1.0 for share in shares]
