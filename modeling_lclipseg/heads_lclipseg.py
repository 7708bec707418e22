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
from .denseclip_lclipseg import LClipSegContextPrompting
from .fusion_lclipseg import LClipSegFusion

MAX_LOGIT_SCALE = math.log(100)
SMALLEST_LENGTH = 1e-6  # still above zero in half precision
SCORE_MAP_TEMPERATURE = 0.07  # of DenseCLIP's auxiliary loss


class LClipSegHead(nn.Module):
    """What all heads share: a neck and a decoder. `neck_channels` are those of the maps that the neck gets."""

    takes_text: bool
    open_vocabulary: bool

    def __init__(self, config: LClipSegConfig, channels: Sequence[int], neck_channels: Sequence[int] | None = None):
        super().__init__()
        self.neck = LClipSegNeck(config, neck_channels or channels)
        self.decoder = LClipSegDecoder(config, channels)


class LClipSegSimilarity(nn.Module):
    """Scaled cosine between every pixel embedding and every class token. Its scale is CLIP's: learned, at most 100."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.config = config
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))

    def scale(self) -> torch.Tensor:
        # Clamped in value alone: a gradient still flows, so that a scale beyond the limit can come back.
        return (self.logit_scale - (self.logit_scale - MAX_LOGIT_SCALE).clamp(min=0).detach()).exp()

    def forward(self, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """`pixels` (B, c, h, w) and `tokens` (B, K, c) give logits (B, K, h, w) in [-100, 100]."""
        pixels = nn.functional.normalize(pixels, dim=1, eps=SMALLEST_LENGTH)
        tokens = nn.functional.normalize(tokens, dim=-1, eps=SMALLEST_LENGTH) * self.scale()
        return (tokens @ pixels.flatten(2)).unflatten(2, pixels.shape[-2:])


class LClipSegProjectedSimilarity(LClipSegSimilarity):
    """The same cosine between pixels projected to the width of the class vectors, W p, and the class vectors t.

    The D-wide W p is never made: t . W p = (W^T t) . p and |W p|^2 = p . (W^T W) p, at the decoder's width.
    """

    def __init__(self, config: LClipSegConfig):
        super().__init__(config)
        self.projection = nn.Linear(config.decoder_hidden_size, config.class_embed_dim, bias=False)

    def forward(self, pixels: torch.Tensor, class_vectors: torch.Tensor) -> torch.Tensor:
        """`pixels` (B, c, h, w) and `class_vectors` (K, D) give logits (B, K, h, w) in [-100, 100]."""
        weight, flat = self.projection.weight, pixels.flatten(2)  # (D, c), (B, c, n)
        # Squares in float32: half precision has no room for those of long and of short pixels.
        squared_lengths = (flat.float() * ((weight.T @ weight).float() @ flat.float())).sum(
            1, keepdim=True
        )  # (B, 1, n)
        tokens = nn.functional.normalize(class_vectors, dim=-1, eps=SMALLEST_LENGTH) @ weight * self.scale()  # (K, c)
        logits = tokens @ flat * squared_lengths.clamp(min=SMALLEST_LENGTH**2).rsqrt()
        return logits.to(pixels.dtype).unflatten(2, pixels.shape[-2:])


class LClipSegFusionHead(LClipSegHead):
    """Two-way fusion at the coarse map, then classification by similarity to the fused class tokens.

    Fused class token = projected class vector + gate * what the fusion module made of it, with the gate at zero in the
    beginning: training starts from CLIP's own geometry. Pixels and coarse map are compared with the same tokens, so
    that both sides of the bridge are supervised in one space.
    """

    takes_text = True
    open_vocabulary = True

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.fusion = LClipSegFusion(config)
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


class LClipSegLSegHead(LClipSegHead):
    """LSeg (Li et al., *Language-driven Semantic Segmentation*, ICLR 2022) on our decoder: pixel embeddings as wide as
    the class vectors, compared with them as they are. Image and text meet in the loss alone."""

    takes_text = True
    open_vocabulary = True

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.similarity = LClipSegProjectedSimilarity(config)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_vectors: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, None]:
        pixels, _ = self.decoder(self.neck(feature_maps), feature_maps)
        return self.similarity(pixels, class_vectors), None


class LClipSegDenseCLIPHead(LClipSegHead):
    """DenseCLIP on any backbone: the score map joins the coarsest map, and a plain classifier follows the decoder.

    Score map and classifier have one slot a class, so the vocabulary is closed.
    """

    takes_text = True
    open_vocabulary = False

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        num_classes = len(config.class_names)
        super().__init__(config, channels, neck_channels=[*channels[:-1], channels[-1] + num_classes])
        self.prompting = LClipSegContextPrompting(config, channels[-1])
        self.classifier = nn.Conv2d(config.decoder_hidden_size, num_classes, 1)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_vectors: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.prompting(feature_maps[-1], class_vectors)  # (B, K, H/32, W/32)
        guided = [*feature_maps[:-1], torch.cat([feature_maps[-1], scores], dim=1)]
        pixels, _ = self.decoder(self.neck(guided), feature_maps)
        return self.classifier(pixels), scores / SCORE_MAP_TEMPERATURE


class LClipSegPlainHead(LClipSegHead):
    """No guidance: the same neck and decoder, and a 1x1 classifier with one slot a class."""

    takes_text = False
    open_vocabulary = False

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.classifier = nn.Conv2d(config.decoder_hidden_size, len(config.class_names), 1)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_vectors: None = None, **kwargs
    ) -> tuple[torch.Tensor, None]:
        pixels, _ = self.decoder(self.neck(feature_maps), feature_maps)
        return self.classifier(pixels), None


HEADS: dict[str, type[LClipSegHead]] = {
    "fusion": LClipSegFusionHead,
    "lseg": LClipSegLSegHead,
    "denseclip": LClipSegDenseCLIPHead,
    "none": LClipSegPlainHead,
}
OPEN_GUIDANCES = " or ".join(repr(name) for name, head in HEADS.items() if head.open_vocabulary)  # for messages

__all__ = [
    "HEADS",
    "OPEN_GUIDANCES",
    "LClipSegDenseCLIPHead",
    "LClipSegFusionHead",
    "LClipSegHead",
    "LClipSegLSegHead",
    "LClipSegPlainHead",
    "LClipSegSimilarity",
]
