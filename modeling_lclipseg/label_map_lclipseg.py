"""From logits at stride 4 to the class of every pixel, without ever holding the logits at full size.

Bilinear interpolation makes each pixel's logits a weighted mean of those at the four corners of the cell that it lies
in. Where one class is highest at all four corners it is highest in the whole cell, so that only the cells along the
borders between classes are interpolated at all: an eighth of the pixels or so. Nothing is approximated: up to the
rounding of float32, the result is the argmax of the enlarged logits. How many cells there are depends on the image,
so that this has no graph of fixed shapes: it is not for `torch.export` (scripts/export.py has a form that is).
"""

import torch
import torch.nn.functional as F

from .sizing_lclipseg import Size

# The model's logits have a quarter of the height and width of the padded image, rounded up.
LOGITS_STRIDE = 4
NO_CLASS = -1  # the id of a pixel that is none of the classes
# How many logits are copied at a time (16 MiB): those of 150 classes on a large photo would not fit twice.
MAX_COPIED_VALUES = 4 * 2**20
# How many interpolated logits there may be at a time (2 MiB): what fits a cache is found there again.
MAX_INTERPOLATED_VALUES = 2**19


def sample_positions(length: int, image: int, cells: int, device: torch.device) -> torch.Tensor:
    """
    Where the centres of the pixels of a label map lie among the logits, along one axis.

    Args:
        length (`int`): Pixels of the label map.
        image (`int`): Pixels that the image had inside the padded image; the rest is padding.
        cells (`int`): Logits along this axis.

    Returns:
        `torch.Tensor` of shape `(length,)`: positions in [0, cells - 1], the first logit's centre being 0.
    """
    span = image / (LOGITS_STRIDE * length)
    return ((torch.arange(length, device=device) + 0.5) * span - 0.5).clamp(0, cells - 1)


def label_map(logits: torch.Tensor, image: Size, target: Size) -> torch.Tensor:
    """
    The class of highest logit at every pixel; of several, the one of lowest index.

    Args:
        logits (`torch.Tensor` of shape `(num_classes, height / 4, width / 4)`): Logits of one padded image.
        image (`tuple[int, int]`): Height and width in pixels that the image had inside it, at the upper left.
        target (`tuple[int, int]`): Height and width of the label map.

    Returns:
        `torch.Tensor` of shape `target`, int64. Beside it, memory for a few values a pixel is taken, and no more for
        more classes.
    """
    num_classes, height, width = logits.shape
    rows, columns = (
        sample_positions(length, side, cells, logits.device)
        for length, side, cells in zip(target, image, (height, width), strict=True)
    )
    of_logits = logits.max(dim=0).indices  # not argmax, which is far slower over the first dimension on a CPU
    labels = _at_cells(of_logits, rows, columns)  # (H, W): right wherever the cell is settled
    unsettled = _at_cells(_unsettled_cells(of_logits), rows, columns)

    step = max(1, MAX_COPIED_VALUES // (num_classes * width))
    for first in range(0, height, step):
        # A pixel between two rows of logits is counted to the upper one, and needs the lower one too.
        begin, end = torch.searchsorted(rows, torch.tensor([first, first + step], device=rows.device)).tolist()
        pixels = unsettled[begin:end].flatten().nonzero()[:, 0]
        vectors = logits[:, first : first + step + 1].flatten(1).T.float().contiguous()  # (cells, K)
        found = _interpolated_labels(vectors, width, rows[begin:end] - first, columns, pixels)
        labels[begin:end].view(-1)[pixels] = found
    return labels


def with_least_score(logits: torch.Tensor, least_score: float) -> torch.Tensor:
    """
    The logits with one more class behind the others, which has the same logit everywhere: it is the highest exactly
    where all classes, enlarged, are lower.

    Args:
        logits (`torch.Tensor` of shape `(batch_size, num_classes, height, width)`): Of any classes.
        least_score (`float`): The logit of that class.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_classes + 1, height, width)`.
    """
    return torch.cat([logits, torch.full_like(logits[:, :1], least_score)], dim=1)


def _at_cells(values: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """The value (h, w) of every pixel's cell, (H, W). A cell goes by its upper left corner."""
    return values[rows.long()][:, columns.long()]


def _unsettled_cells(labels: torch.Tensor) -> torch.Tensor:
    """Which cells (h, w) have more than one label at their corners. Those of the last row and column end there."""
    lower, right = (torch.arange(1, side + 1, device=labels.device).clamp(max=side - 1) for side in labels.shape)
    below = labels[lower]
    return (labels != below) | (labels != labels[:, right]) | (labels != below[:, right])


def _interpolated_labels(
    vectors: torch.Tensor, width: int, rows: torch.Tensor, columns: torch.Tensor, pixels: torch.Tensor
) -> torch.Tensor:
    """The labels (P,) of the `pixels` (P,) of a block, from its logits as `vectors` (h * w, K)."""
    height = len(vectors) // width
    found = []
    for some in pixels.split(max(1, MAX_INTERPOLATED_VALUES // vectors.shape[1])):
        y, x = rows[some // len(columns)], columns[some % len(columns)]
        top, left = y.long(), x.long()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        down, across = y - top, x - left
        corners = torch.stack([top * width + left, top * width + right, bottom * width + left, bottom * width + right])
        weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across])
        # One pass, without the four corners' logits beside each other in memory.
        mixed = F.embedding_bag(corners.T.contiguous(), vectors, per_sample_weights=weights.T.contiguous(), mode="sum")
        found.append(mixed.max(dim=1).indices)
    return torch.cat(found)


__all__ = ["LOGITS_STRIDE", "NO_CLASS", "label_map", "sample_positions", "with_least_score"]
