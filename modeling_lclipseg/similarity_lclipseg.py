"""Comparing pixels with class vectors: scaled cosines, as CLIP compares images with texts.

Notation: B batch, K classes, D width of a class vector, c decoder width, n = h * w pixels.
"""

import math

import torch
from torch import nn

from .configuration_lclipseg import LClipSegConfig

MAX_LOGIT_SCALE = math.log(100)
SMALLEST_LENGTH = 1e-6  # still above zero in half precision


class LClipSegSimilarity(nn.Module):
    """Scaled cosine between every pixel embedding and every class token. Its scale is CLIP's: learned, at most 100."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.config = config
        # Of one entry, not a scalar, which torch's fully_shard would refuse.
        self.logit_scale = nn.Parameter(torch.full((1,), config.logit_scale_init_value))

    def scale(self) -> torch.Tensor:
        # Clamped in value alone: a gradient still flows, so that a scale beyond the limit can come back. A scalar, for
        # that leaves the precision of what it is multiplied with alone.
        return (self.logit_scale - (self.logit_scale - MAX_LOGIT_SCALE).clamp(min=0).detach()).exp().squeeze()

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """
        `pixels` (B, c, h, w) and `tokens` (B, K, c) give logits (B, K, h, w) in [-100, 100]. Without gradients they
        are added to a `bias` of their shape where it lies, and it is used up: one more copy of K maps would cost as
        much as the product itself. With gradients, it would cost more copies on the way back.
        """
        flat = nn.functional.normalize(pixels, dim=1, eps=SMALLEST_LENGTH).flatten(2).transpose(1, 2)  # (B, n, c)
        tokens = (nn.functional.normalize(tokens, dim=-1, eps=SMALLEST_LENGTH) * self.scale()).transpose(1, 2)
        if bias is None:
            logits = flat @ tokens  # (B, n, K)
        else:
            bias = bias.flatten(2).transpose(1, 2)
            logits = bias.baddbmm(flat, tokens) if torch.is_grad_enabled() else bias.baddbmm_(flat, tokens)
        return logits.transpose(1, 2).unflatten(2, pixels.shape[-2:])


class LClipSegProjectedSimilarity(LClipSegSimilarity):
    """The same cosine between pixels projected to the width of the class vectors, W p, and the class vectors t.

    The D-wide W p is never made: t . W p = (W^T t) . p and |W p|^2 = p . (W^T W) p, at the decoder's width.
    """

    def __init__(self, config: LClipSegConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.decoder_hidden_size, config.class_embed_dim, bias=False)

    def forward(self, pixels: torch.Tensor, class_vectors: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """`pixels` (B, c, h, w) and `class_vectors` (K, D) give logits (B, K, h, w) in [-100, 100]."""
        weight, flat = self.projection.weight, pixels.flatten(2)  # (D, c), (B, c, n)
        # In float32: a square leaves the range of half precision long before its root does.
        squared_lengths = (flat.float() * (weight.T @ weight @ flat).float()).sum(1, keepdim=True)  # (B, 1, n)
        tokens = nn.functional.normalize(class_vectors, dim=-1, eps=SMALLEST_LENGTH) @ weight * self.scale()  # (K, c)
        logits = (tokens @ flat).float() * squared_lengths.clamp(min=SMALLEST_LENGTH**2).rsqrt()
        return logits.to(pixels.dtype).unflatten(2, pixels.shape[-2:])


__all__ = ["MAX_LOGIT_SCALE", "SMALLEST_LENGTH", "LClipSegProjectedSimilarity", "LClipSegSimilarity"]
