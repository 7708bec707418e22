"""One head per guidance, behind one contract.

`head(feature_maps, class_embeddings) -> (logits, auxiliary_logits)`: four backbone maps (B, C_i, H_i, W_i) and
the class embeddings (K, D), or None for a head without text, give logits (B, K, H/4, W/4) and auxiliary logits
(B, K, h, w), or None for a head that does not supervise its coarse map. `takes_text` says whether a head uses class
embeddings. `open_vocabulary` says whether they may be others than in training, of any number.

A new method is a new class here, or in a module of its own that adds it to `HEADS`, and one word in the configuration.
DenseCLIP's is such a module, so published checkpoints of other heads do without its code.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .configuration_lclipseg import LClipSegConfig
from .decoder_lclipseg import LClipSegDecoder, LClipSegNeck, resize_to
from .fusion_lclipseg import LClipSegFusion
from .similarity_lclipseg import LClipSegProjectedSimilarity, LClipSegSimilarity


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

    A logit is a sum of three parts: the similarity of pixel and class token (the projected class embedding, plus the
    projected token of the fusion), the enlarged affinity, and one number for the class. Two-way blocks turn that
    number into evidence that the class is in the image. The affinity has an auxiliary loss.
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
        # Enlargement keeps constants, and before it there are fewer values to add the presence to.
        evidence = affinity + self.presence(tokens)[..., None]  # (B, K, h, w)
        # The similarity adds to channels-last logits. With one image in the batch, the strides alone do not tell
        # `interpolate` that its input is channels last; the small copy does.
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
    "none": LClipSegPlainHead,
}


def head_class(guidance: str) -> type[LClipSegHead]:
    """The head of a guidance; a ValueError where its module is not part of this code."""
    if guidance not in HEADS:
        raise ValueError(
            f"The code beside this checkpoint has no head for guidance={guidance!r}, only {', '.join(HEADS)}; install "
            "the package for all of them."
        )
    return HEADS[guidance]


OPEN_GUIDANCES = " or ".join(repr(name) for name, head in HEADS.items() if head.open_vocabulary)  # for messages

__all__ = [
    "HEADS",
    "OPEN_GUIDANCES",
    "LClipSegFusionHead",
    "LClipSegHead",
    "LClipSegLSegHead",
    "LClipSegPlainHead",
    "head_class",
]
