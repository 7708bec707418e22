"""One head per guidance, behind one contract.

`head(feature_maps, class_vectors) -> (logits, auxiliary_logits)`: four backbone maps (B, C_i, H_i, W_i) and the class
vectors (K, D), or None for a head without text, give logits (B, K, H/4, W/4) and, where the head supervises its coarse
map too, auxiliary logits (B, K, h, w), else None. `takes_text` says whether it uses class vectors at all, and
`open_vocabulary` whether they may be others than in training, of any number.

A new method is a new class here and one word in the configuration.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from .configuration_lclipseg import LClipSegConfig
from .decoder_lclipseg import LClipSegDecoder, LClipSegNeck
from .fusion_lclipseg import LClipSegFusion

MAX_LOGIT_SCALE = math.log(100)
SMALLEST_LENGTH = 1e-6  # still above zero in half precision


class LClipSegSimilarity(nn.Module):
    """Scaled cosine between every pixel embedding and every class token. Its scale is CLIP's: learned, at most 100."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.config = config
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """`pixels` (B, c, h, w) and `tokens` (B, K, c) give logits (B, K, h, w) in [-100, 100]."""
        # Clamped in value alone: a gradient still flows, so that a scale beyond the limit can come back.
        log_scale = self.logit_scale - (self.logit_scale - MAX_LOGIT_SCALE).clamp(min=0).detach()
        pixels = nn.functional.normalize(pixels, dim=1, eps=SMALLEST_LENGTH)
        tokens = nn.functional.normalize(tokens, dim=-1, eps=SMALLEST_LENGTH) * log_scale.exp()
        return (tokens @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])


class LClipSegFusionHead(nn.Module):
    """Two-way fusion at the coarse map, then classification by similarity to the fused class tokens.

    Fused class token = projected class vector + gate * what the fusion module made of it, with the gate at zero in the
    beginning: training starts from CLIP's own geometry. Pixels and coarse map are compared with the same tokens, so
    that both sides of the bridge are supervised in one space.
    """

    takes_text = True
    open_vocabulary = True

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__()
        self.neck = LClipSegNeck(config, channels)
        self.fusion = LClipSegFusion(config)
        self.decoder = LClipSegDecoder(config, channels)
        self.text_projection = nn.Linear(config.class_embed_dim, config.decoder_hidden_size, bias=False)
        self.token_projection = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.token_gate = nn.Parameter(torch.zeros(config.decoder_hidden_size))
        self.similarity = LClipSegSimilarity(config)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_vectors: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        coarse, tokens = self.fusion(self.neck(feature_maps), class_vectors, **kwargs)  # (B, d, h, w), (B, K, d)
        pixels, coarse_embeddings = self.decoder(coarse, feature_maps)
        tokens = self.text_projection(class_vectors) + self.token_gate * self.token_projection(tokens)  # (B, K, c)
        return self.similarity(pixels, tokens), self.similarity(coarse_embeddings, tokens)


class LClipSegPlainHead(nn.Module):
    """No guidance: the same neck and decoder, and a 1x1 classifier with one slot a class."""

    takes_text = False
    open_vocabulary = False

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__()
        self.neck = LClipSegNeck(config, channels)
        self.decoder = LClipSegDecoder(config, channels)
        self.classifier = nn.Conv2d(config.decoder_hidden_size, len(config.class_names), 1)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_vectors: None = None, **kwargs
    ) -> tuple[torch.Tensor, None]:
        pixels, _ = self.decoder(self.neck(feature_maps), feature_maps)
        return self.classifier(pixels), None


HEADS: dict[str, type[LClipSegFusionHead] | type[LClipSegPlainHead]] = {
    "fusion": LClipSegFusionHead,
    "none": LClipSegPlainHead,
}

__all__ = ["HEADS", "LClipSegFusionHead", "LClipSegPlainHead"]
