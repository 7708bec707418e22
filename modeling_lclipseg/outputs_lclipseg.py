"""What LClipSeg returns, and how the weights of its bridge are asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import torch
from transformers.modeling_outputs import SemanticSegmenterOutput


@dataclass
class LClipSegSemanticSegmenterOutput(SemanticSegmenterOutput):
    """
    Output of [`LClipSegForSemanticSegmentation`]. Hidden states and attentions are those of two-way blocks, and `None`
    for a network without blocks (`num_fusion_layers=0`, the default, and every head but `fusion`).

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, with `labels`):
            The cross-entropy of the logits, plus the weighted one of the coarse score map where the head has one.
        logits (`torch.FloatTensor` of shape `(batch_size, num_classes, height / 4, width / 4)`, rounded up):
            The score of every class at every fourth pixel.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, with `output_hidden_states=True`):
            The coarse map before the first block and after each, of shape `(batch_size, hidden_size, rows,
            columns)` with one cell for each `fusion_stride` pixels.
        attentions (`tuple(torch.FloatTensor)`, *optional*, with `output_attentions=True`):
            How much each class reads from each cell, one map a block, of shape `(batch_size, 1, num_classes, rows *
            columns)`. They sum to 1 over the cells.
        text_to_image_attentions (`tuple(torch.FloatTensor)`, *optional*, with `output_attentions=True`):
            How much each cell reads from each class, one map a block, of shape `(batch_size, 1, rows * columns,
            num_classes)`. They sum to 1 over the classes.
    """

    text_to_image_attentions: tuple[torch.FloatTensor, ...] | None = None


def record_fusion(forward: Callable) -> Callable:
    """
    Decorator around transformers' `capture_outputs`, which has one argument for each field. This one lets
    `output_attentions` ask for both directions of the bridge. It asks nothing of a head without blocks, whose fields
    would otherwise be empty tuples.
    """

    @wraps(forward)
    def wrapper(self, *args, **kwargs):
        if hasattr(self.head, "fusion") and len(self.head.fusion.layers):
            asked = kwargs.get("output_attentions", self.config.output_attentions)
            kwargs["output_text_to_image_attentions"] = asked
        else:
            kwargs.update(output_hidden_states=False, output_attentions=False)
        return forward(self, *args, **kwargs)

    return wrapper


__all__ = ["LClipSegSemanticSegmenterOutput", "record_fusion"]
