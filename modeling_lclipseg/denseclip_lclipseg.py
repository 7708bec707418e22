"""DenseCLIP's context-aware prompting on any backbone, as its authors describe it.

*DenseCLIP: Language-Guided Dense Prediction with Context-Aware Prompting* (Rao et al., CVPR 2022). For a backbone
without CLIP weights they add a CLIP-style attention pool, randomly initialised, on the last stage; class embeddings
read the pooled and the dense features through a small transformer decoder ("post-model prompting") and are shifted a
little by what they read; pixels are compared with them, and the score map joins the features before the decoder.

Notation: B batch, K classes, D width of a class embedding, C width of the backbone's last map, h w its size,
n = h * w.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_lclipseg import LClipSegAttention
from .configuration_lclipseg import LClipSegConfig
from .heads_lclipseg import HEADS, LClipSegHead
from .modeling_lclipseg import LClipSegForSemanticSegmentation
from .similarity_lclipseg import SMALLEST_LENGTH

DEPTH, WIDTH, NUM_HEADS, DROPOUT = 3, 256, 4, 0.1  # of the context decoder
POSITION_GRID = 16  # side of the position table: the last map of a 512 x 512 image
INITIAL_SHIFT = 1e-4
SCORE_MAP_TEMPERATURE = 0.07  # of the auxiliary loss


class LClipSegAttentionPool(LClipSegAttention):
    """CLIP's attention pool as full self-attention over the map and its mean: both get the width D."""

    def __init__(self, config: LClipSegConfig, channels: int):
        super().__init__(config, channels, num_heads=channels // math.gcd(channels, 64))  # 64 wide, as CLIP's are
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, config.class_embed_dim)
        self.mean_position = nn.Parameter(torch.empty(channels))
        self.positions = nn.Parameter(torch.empty(1, channels, POSITION_GRID, POSITION_GRID))
        self.init_own_weights()

    def init_own_weights(self):
        for position in (self.mean_position, self.positions):
            init.normal_(position, std=self.query.in_features**-0.5)

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """`feature_map` (B, C, h, w) gives (B, 1 + n, D): the whole image first, then its pixels."""
        mean = feature_map.mean((2, 3)) + self.mean_position  # (B, C)
        positions = nn.functional.interpolate(
            self.positions, size=feature_map.shape[-2:], mode="bilinear", align_corners=False
        )
        pixels = (feature_map + positions).flatten(2).transpose(1, 2)  # (B, n, C)
        tokens = torch.cat([mean[:, None], pixels], dim=1)
        return self.output(self.attend(self.query(tokens), self.key(tokens), self.value(tokens))[0])


class LClipSegContextAttention(LClipSegAttention):
    """Attention of the context decoder: projections of queries, keys and values without bias."""

    def __init__(self, config: LClipSegConfig):
        super().__init__(config, WIDTH, NUM_HEADS)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        read = self.attend(self.query(tokens), self.key(memory), self.value(memory))[0]
        return self.dropout(self.output(read))  # (B, K, WIDTH)


class LClipSegContextLayer(GradientCheckpointingLayer):
    """One layer of the context decoder: classes attend to each other, then to the image. Pre-norm."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.self_attention = LClipSegContextAttention(config)
        self.self_attention_norm = nn.LayerNorm(WIDTH)
        self.cross_attention = LClipSegContextAttention(config)
        self.cross_attention_norm = nn.LayerNorm(WIDTH)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(4 * WIDTH, WIDTH),
        )

    def forward(self, tokens: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        normed = self.self_attention_norm(tokens)
        tokens = tokens + self.self_attention(normed, normed)
        tokens = tokens + self.cross_attention(self.cross_attention_norm(tokens), memory)
        return tokens + self.feed_forward(tokens)  # (B, K, WIDTH)


class LClipSegContextDecoder(nn.Module):
    """What every class embedding should become, given this image."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        width = config.class_embed_dim
        self.memory_projection = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, WIDTH), nn.LayerNorm(WIDTH))
        self.text_projection = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, WIDTH))
        self.layers = nn.ModuleList(LClipSegContextLayer(config) for _ in range(DEPTH))
        self.output = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, width))

    def forward(self, class_embeddings: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """`class_embeddings` (B, K, D) and `context` (B, 1 + n, D) give (B, K, D)."""
        memory, tokens = self.memory_projection(context), self.text_projection(class_embeddings)
        for layer in self.layers:
            tokens = layer(tokens, memory)
        return self.output(tokens)


class LClipSegContextPrompting(nn.Module):
    """Context-aware prompting: the backbone's last map and the class embeddings give a score map of raw cosines."""

    def __init__(self, config: LClipSegConfig, channels: int):
        super().__init__()
        self.pool = LClipSegAttentionPool(config, channels)
        self.context_decoder = LClipSegContextDecoder(config)
        self.shift = nn.Parameter(torch.full((config.class_embed_dim,), INITIAL_SHIFT))

    def init_own_weights(self):
        init.constant_(self.shift, INITIAL_SHIFT)

    def forward(self, feature_map: torch.Tensor, class_embeddings: torch.Tensor) -> torch.Tensor:
        """`feature_map` (B, C, h, w) and `class_embeddings` (K, D) give scores (B, K, h, w) in [-1, 1]."""
        context = self.pool(feature_map)  # (B, 1 + n, D)
        class_embeddings = class_embeddings.expand(feature_map.shape[0], -1, -1)  # (B, K, D)
        class_embeddings = class_embeddings + self.shift * self.context_decoder(class_embeddings, context)
        pixels = nn.functional.normalize(context[:, 1:], dim=-1, eps=SMALLEST_LENGTH)
        class_embeddings = nn.functional.normalize(class_embeddings, dim=-1, eps=SMALLEST_LENGTH)
        scores = class_embeddings @ pixels.transpose(1, 2)  # (B, K, n)
        return scores.unflatten(2, feature_map.shape[-2:])


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


class LClipSegDenseCLIPForSemanticSegmentation(LClipSegForSemanticSegmentation):
    """The same model under the name by which a published checkpoint asks for this module, which it needs."""


HEADS["denseclip"] = LClipSegDenseCLIPHead

__all__ = ["LClipSegDenseCLIPForSemanticSegmentation", "LClipSegDenseCLIPHead"]
