"""Comparing pixels with class embeddings: scaled cosines, as CLIP compares images with texts.

Notation: B batch, K classes, D width of a class embedding, c decoder width, n = h * w pixels.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from .configuration_lclipseg import LClipSegConfig

MAX_LOGIT_SCALE = math.log(100)
SMALLEST_LENGTH = 1e-6  # still above zero in half precision


class LClipSegSimilarity(nn.Module):
    """Scaled cosine between every pixel embedding and every class token. The scale is learned and at most 100, as
    CLIP's is."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.config = config
        # One entry, because torch's fully_shard refuses scalars.
        self.logit_scale = nn.Parameter(torch.full((1,), config.logit_scale_init_value))

    def init_own_weights(self):
        init.constant_(self.logit_scale, self.config.logit_scale_init_value)

    def scale(self) -> torch.Tensor:
        # The value is clamped and the gradient is not, so a scale beyond the limit can come back. The result is a
        # scalar, because a scalar leaves the precision of a half-precision product as it is.
        return (self.logit_scale - (self.logit_scale - MAX_LOGIT_SCALE).clamp(min=0).detach()).exp().squeeze()

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """
        `pixels` (B, c, h, w) and `tokens` (B, K, c) give logits (B, K, h, w) in [-100, 100], plus `bias` (B, K, h, w)
        where it is given. Without gradients the result overwrites `bias`, and the pixels' unit vectors `pixels`; with
        them that would cost more copies than it saves.
        """
        # `+ bias` gives the same bits, but takes one more copy of K maps: the whole head took 8 % longer with it (one
        # thread, 150 classes, 512 x 512: median of 30 alternating runs).
        target = None if torch.is_grad_enabled() else pixels
        flat = nn.functional.normalize(pixels, dim=1, eps=SMALLEST_LENGTH, out=target).flatten(2).transpose(1, 2)
        tokens = (nn.functional.normalize(tokens, dim=-1, eps=SMALLEST_LENGTH) * self.scale()).transpose(1, 2)
        if bias is None:
            logits = flat @ tokens  # (B, n, c) by (B, c, K)
        else:
            bias = bias.flatten(2).transpose(1, 2)
            logits = bias.baddbmm(flat, tokens) if torch.is_grad_enabled() else bias.baddbmm_(flat, tokens)
        return logits.transpose(1, 2).unflatten(2, pixels.shape[-2:])


class LClipSegProjectedSimilarity(LClipSegSimilarity):
    """The same cosine between pixels projected to the width of the class embeddings, W p, and the class embeddings t.

    Two identities keep the work at the decoder's width c: t . W p = (W^T t) . p, and |W p|^2 = p . (W^T W) p.
    """

    def __init__(self, config: LClipSegConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.decoder_hidden_size, config.class_embed_dim, bias=False)

    def forward(self, pixels: torch.Tensor, class_embeddings: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """`pixels` (B, c, h, w) and `class_embeddings` (K, D) give logits (B, K, h, w) in [-100, 100]."""
        weight, flat = self.projection.weight, pixels.flatten(2)  # (D, c), (B, c, n)
        # Squares are taken in float32, because they leave the range of half precision before their roots do.
        squared_lengths = (flat.float() * (weight.T @ weight @ flat).float()).sum(1, keepdim=True)  # (B, 1, n)
        tokens = (
            nn.functional.normalize(class_embeddings, dim=-1, eps=SMALLEST_LENGTH) @ weight * self.scale()
        )  # (K, c)
        logits = (tokens @ flat).float() * squared_lengths.clamp(min=SMALLEST_LENGTH**2).rsqrt()
        return logits.to(pixels.dtype).unflatten(2, pixels.shape[-2:])


__all__ = ["MAX_LOGIT_SCALE", "SMALLEST_LENGTH", "LClipSegProjectedSimilarity", "LClipSegSimilarity"]
