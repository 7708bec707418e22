"""One head per guidance, behind one contract.

`head(feature_maps, class_embeddings) -> (logits, auxiliary_logits)`: four backbone maps (B, C_i, H_i, W_i) and
the class embeddings (K, D), or None for a head without text, give logits (B, K, H/4, W/4) and, where the head
supervises its coarse map too, auxiliary logits (B, K, h, w), else None. `takes_text` says whether it uses class
embeddings at all, and `open_vocabulary` whether they may be others than in training, of any number.

A new method is a new class here and one word in the configuration.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .configuration_lclipseg import LClipSegConfig
from .decoder_lclipseg import LClipSegDecoder, LClipSegNeck, resize_to
from .denseclip_lclipseg import LClipSegContextPrompting
from .fusion_lclipseg import LClipSegFusion
from .similarity_lclipseg import LClipSegProjectedSimilarity, LClipSegSimilarity

SCORE_MAP_TEMPERATURE = 0.07  # of DenseCLIP's auxiliary loss


class LClipSegHead(nn.Module):
    """What all heads share: a neck and a decoder. `neck_channels` are those of the maps that the neck gets."""

    takes_text: bool
    open_vocabulary: bool

    def __init__(self, config: LClipSegConfig, channels: Sequence[int], neck_channels: Sequence[int] | None = None):
        super().__init__()
        self.neck = LClipSegNeck(config, neck_channels or channels)
        self.decoder = LClipSegDecoder(config, channels)


class LClipSegFusionHead(LClipSegHead):
    """Fusion at the coarse map, then classification by similarity to the class tokens.

    A logit has three parts: the pixel's similarity to the class token (projected class embedding, plus what the fusion
    made of it), the coarse score of the place, and a number for the class, which two-way blocks turn into evidence
    that it is in the image at all. The affinity has a loss of their own.
    """

    takes_text = True
    open_vocabulary = True

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.fusion = LClipSegFusion(config)
        self.text_projection = nn.Linear(config.class_embed_dim, config.decoder_hidden_size, bias=False)
        self.token_projection = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.presence = nn.Linear(config.hidden_size, 1)
        self.similarity = LClipSegSimilarity(config)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_embeddings: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        coarse, tokens, affinity = self.fusion(self.neck(feature_maps), class_embeddings, **kwargs)
        pixels = self.decoder(coarse, feature_maps)  # (B, c, H/4, W/4)
        # Presence joins before the enlargement, which keeps constants: fewer values to add it to.
        evidence = affinity + self.presence(tokens)[..., None]  # (B, K, h, w)
        # A copy, small as it is: the strides of one image alone do not tell the enlargement how it lies in memory.
        bias = resize_to(evidence.clone(memory_format=torch.channels_last), pixels)  # (B, K, H/4, W/4)
        tokens = self.text_projection(class_embeddings) + self.token_projection(tokens)  # (B, K, c)
        return self.similarity(pixels, tokens, bias), affinity


class LClipSegLSegHead(LClipSegHead):
    """LSeg (Li et al., *Language-driven Semantic Segmentation*, ICLR 2022) on our decoder: pixel embeddings as wide as
    the class embeddings, compared with them as they are. Image and text meet in the loss alone."""

    takes_text = True
    open_vocabulary = True

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.similarity = LClipSegProjectedSimilarity(config)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_embeddings: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, None]:
        pixels = self.decoder(self.neck(feature_maps), feature_maps)
        return self.similarity(pixels, class_embeddings), None


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
        self, feature_maps: Sequence[torch.Tensor], class_embeddings: torch.Tensor, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.prompting(feature_maps[-1], class_embeddings)  # (B, K, H/32, W/32)
        guided = [*feature_maps[:-1], torch.cat([feature_maps[-1], scores], dim=1)]
        pixels = self.decoder(self.neck(guided), feature_maps)
        return self.classifier(pixels), scores / SCORE_MAP_TEMPERATURE


class LClipSegPlainHead(LClipSegHead):
    """No guidance: the same neck and decoder, and a 1x1 classifier with one slot a class."""

    takes_text = False
    open_vocabulary = False

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__(config, channels)
        self.classifier = nn.Conv2d(config.decoder_hidden_size, len(config.class_names), 1)

    def forward(
        self, feature_maps: Sequence[torch.Tensor], class_embeddings: None = None, **kwargs
    ) -> tuple[torch.Tensor, None]:
        pixels = self.decoder(self.neck(feature_maps), feature_maps)
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
]
