"""The loss: cross-entropy over the pixels of the image, of all of them or, in training, of a sixteenth.

Logits lie at stride 4, labels at stride 1. The exact loss, that of transformers, enlarges the logits bilinearly to the
size of the labels: sixteen values for each, and with many classes most of a training step. But an enlarged logit is
nothing new, it is a mix of four neighbours. So a step takes the pixels of one of the 16 places ("phases") in every 4x4
cell alone, sixteen times their loss, and mixes only their logits. The mean over the 16 phases is the exact loss, at
any size and with any pixels left out; a step with a phase drawn at random has its gradient in expectation.

Notation: B batch, K classes, H W labels, h w logits, n = ceil(H / 4) * ceil(W / 4) pixels of a phase.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

CELL = 4  # the side of a cell in pixels: the stride of the logits
PHASES = CELL**2

# Logits (N, K, ...), labels (N, ...) and the label that does not count: the sum over the pixels of what they cost, ().
PixelLoss = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    return F.cross_entropy(scores, labels, ignore_index=ignore_index, reduction="sum")


def segmentation_loss(
    logits: torch.Tensor,
    auxiliary_logits: torch.Tensor | None,
    labels: torch.Tensor,
    *,
    ignore_index: int,
    auxiliary_loss_weight: float,
    phase: int | torch.Tensor | None = None,
    class_mask: torch.Tensor | None = None,
    pixel_loss: PixelLoss = cross_entropy,
) -> torch.Tensor:
    """
    Cross-entropy of the logits, and of coarser ones where they are given, as a mean over the labelled pixels.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_classes, height, width)`): Of any stride.
        auxiliary_logits (`torch.Tensor` of shape `(batch_size, num_classes, rows, columns)`, *optional*): Coarser.
        labels (`torch.Tensor` of shape `(batch_size, image_height, image_width)`): Class indices, int64.
        ignore_index (`int`): The label of pixels that do not count.
        auxiliary_loss_weight (`float`): What the loss of `auxiliary_logits` is multiplied with.
        phase (`int` or `torch.Tensor` of shape `()`, *optional*):
            0 to 15: the pixels of row `phase // 4` and column `phase % 4` of every 4x4 cell stand for all. By default
            all pixels count themselves.
        class_mask (`torch.Tensor` of shape `(batch_size, num_classes)`, *optional*):
            Which classes each image competes among, bool. The others have a logit of minus infinity here: no
            probability and no gradient. A pixel labelled with one of them makes the loss infinite.
        pixel_loss (`Callable`, *optional*): What is summed over the pixels in place of the cross-entropy.

    Returns:
        `torch.Tensor` of shape `()`, of float32 at least; 0 without a labelled pixel.

    Raises:
        ValueError: a `phase` that is none, or a `class_mask` of another shape or type.
    """
    if isinstance(phase, int) and not 0 <= phase < PHASES:
        raise ValueError(f"`loss_phase` is {phase}; allowed: 0 to {PHASES - 1}.")
    if class_mask is not None and (class_mask.dtype != torch.bool or class_mask.shape != logits.shape[:2]):
        raise ValueError(
            f"`class_mask` is {class_mask.dtype} of shape {tuple(class_mask.shape)}; expected torch.bool of shape "
            f"(batch_size, num_classes), here {tuple(logits.shape[:2])}."
        )
    if phase is None:
        scores_of, targets, pixels_each = _all_scores, labels, 1
    else:
        scores_of, pixels_each = partial(_scores_of_phase, phase=phase), PHASES
        targets = _labels_of_phase(labels, phase, ignore_index).flatten()

    def loss_of(score_map: torch.Tensor) -> torch.Tensor:
        score_map = score_map.to(torch.promote_types(score_map.dtype, torch.float32))
        scores = scores_of(score_map, labels.shape[-2:], class_mask)
        return pixel_loss(scores, targets, ignore_index) * pixels_each / counted

    # Of the whole labels, whatever the phase. So that the mean over no pixels is 0, not NaN, it is 1 at least.
    counted = (labels != ignore_index).sum().clamp(min=1)
    loss = loss_of(logits)
    return loss if auxiliary_logits is None else loss + auxiliary_loss_weight * loss_of(auxiliary_logits)


def draw_phase() -> torch.Tensor:
    """A phase, 0 to 15, drawn by torch's generator of the CPU. A tensor `()`: one compiled graph takes all."""
    return torch.randint(PHASES, ())


def _all_scores(logits, size, class_mask) -> torch.Tensor:
    """The logits (B, K, H, W) of all pixels, from `logits` (B, K, h, w)."""
    # Classes apart in memory: the softmax over them, at full size, is faster so.
    scores = F.interpolate(logits.contiguous(), size, mode="bilinear", align_corners=False)  # (B, K, H, W)
    if class_mask is not None:  # not before: minus infinity, mixed with a weight of 0, would be NaN
        scores = scores.masked_fill(~class_mask[:, :, None, None], -torch.inf)
    return scores


def _scores_of_phase(logits, size, class_mask, phase) -> torch.Tensor:
    """Those of one phase, (B * n, K)."""
    scores = _logits_of_phase(logits, size, phase)  # (B, n, K)
    if class_mask is not None:
        scores = scores.masked_fill(~class_mask[:, None], -torch.inf)
    return scores.flatten(0, 1)  # as rows: classes side by side in memory, as they lie, and no copy


def _side_of_phase(length: int, offset: int | torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis, the pixel of every cell, and whether there is one: the last cell may be cut off before it."""
    pixels = torch.arange(-(-length // CELL), device=device) * CELL + offset
    return pixels.clamp(max=length - 1), pixels < length


def _labels_of_phase(labels: torch.Tensor, phase: int | torch.Tensor, ignore_index: int) -> torch.Tensor:
    """The labels (B, n) of a phase's pixels."""
    rows, are_rows = _side_of_phase(labels.shape[1], phase // CELL, labels.device)
    columns, are_columns = _side_of_phase(labels.shape[2], phase % CELL, labels.device)
    taken = labels.index_select(1, rows).index_select(2, columns)
    return taken.masked_fill(~(are_rows[:, None] & are_columns), ignore_index).flatten(1)


def _logits_of_phase(logits: torch.Tensor, size: torch.Size, phase: int | torch.Tensor) -> torch.Tensor:
    """What bilinear enlargement of `logits` (B, K, h, w) to `size` has at a phase's pixels, (B, n, K)."""
    batch_size, num_classes, height, width = logits.shape
    rows, row_weights = _mix(height, size[0], phase // CELL, logits)  # (2, ceil(H / 4))
    columns, column_weights = _mix(width, size[1], phase % CELL, logits)  # (2, ceil(W / 4))
    corners = rows.T[:, None, :, None] * width + columns.T[:, None]  # (ceil(H / 4), ceil(W / 4), 2, 2)
    weights = row_weights.T[:, None, :, None] * column_weights.T[:, None]
    images = torch.arange(batch_size, device=logits.device)[:, None, None] * (height * width)
    # One operation, which reads four vectors of K logits a pixel and writes one: their copies never lie side by side.
    mixed = F.embedding_bag(
        (images + corners.reshape(-1, 4)).reshape(-1, 4),  # (B * n, 4)
        logits.permute(0, 2, 3, 1).reshape(-1, num_classes),  # (B * h * w, K), as most heads' logits lie already
        per_sample_weights=weights.reshape(1, -1, 4).expand(batch_size, -1, -1).reshape(-1, 4),
        mode="sum",
    )
    return mixed.unflatten(0, (batch_size, -1))


def _mix(
    cells: int, length: int, offset: int | torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Along one axis, the two logits that each of a phase's pixels is mixed from, and their weights: both (2, pixels).

    The centre of pixel i lies at (i + 1/2) * cells / length - 1/2, the first logit's being 0. In whole numbers, twice
    `length` times as large, which are exact.
    """
    pixels, _ = _side_of_phase(length, offset, logits.device)
    position = ((2 * pixels + 1) * cells - length).clamp(min=0)
    first = position // (2 * length)
    share = (position - first * (2 * length)).to(logits.dtype) / (2 * length)
    return torch.stack([first, (first + 1).clamp(max=cells - 1)]), torch.stack([1 - share, share])


__all__ = ["PHASES", "PixelLoss", "cross_entropy", "draw_phase", "segmentation_loss"]
