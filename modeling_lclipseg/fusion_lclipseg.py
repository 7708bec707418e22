"""The fusion of an image's coarse map with the class tokens: one affinity, and any number of two-way blocks.

Our reconstruction of the fusion module that *CLIP for Lightweight Semantic Segmentation* (Jin and Yang, PRCV 2023,
arXiv 2310.07394) describes in its abstract: a CNN branch over image features in parallel with a transformer branch
over text embeddings, joined by a two-way bridge. A block here is that, in the order of Mobile-Former (CVPR 2022), with
class embeddings in place of its learned tokens. The default configuration has no block: over our comparisons on closed
lists it scored as well, at less cost (docs/results.md says where blocks were better).

The bridge is ours: one affinity, the scaled cosine between pixels and classes, computed once and crossed in both
directions by every block. A class reads the pixels that look like it, a pixel reads the classes that it looks like
(object-contextual representations, Yuan et al., ECCV 2020, gather regions in the same way), and the auxiliary loss
teaches the affinity what looks alike. Nothing here depends on the number or the order of the classes.

Notation: B batch, K classes, d width, c decoder width, h w coarse map, n = h * w.
"""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_lclipseg import LClipSegAttention
from .configuration_lclipseg import LClipSegConfig
from .similarity_lclipseg import LClipSegSimilarity


class LClipSegImageToText(nn.Module):
    """First half of the bridge: every class token reads the pixels that look like its class."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, pixels: torch.Tensor, affinity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` (B, n, d) and `affinity` (B, K, n) give (B, K, d) and weights (B, 1, K, n) that sum to 1 over n."""
        weights = affinity.softmax(dim=2)[:, None]  # one head, as transformers shapes attentions
        return self.output(weights[:, 0] @ pixels), weights


class LClipSegTextToImage(nn.Module):
    """Second half of the bridge: every pixel reads the tokens of the classes that it looks like."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, tokens: torch.Tensor, affinity: torch.Tensor, class_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`tokens` (B, K, d) and `affinity` (B, K, n) give (B, n, d) and weights (B, 1, n, K) that sum to 1 over K, or
        over those K that `class_mask` (B, K) leaves."""
        if class_mask is not None:
            affinity = affinity.masked_fill(~class_mask[..., None], -torch.inf)
        weights = affinity.transpose(1, 2).softmax(dim=2)[:, None]
        return weights[:, 0] @ self.value(tokens), weights


class LClipSegTokenAttention(LClipSegAttention):
    """Self-attention among the class tokens. There is no position: a class list has no order."""

    def __init__(self, config: LClipSegConfig):
        super().__init__(config, config.hidden_size, config.num_attention_heads)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, tokens: torch.Tensor, class_mask: torch.Tensor | None = None, **kwargs):
        query, key, value = self.query_key_value(tokens).chunk(3, dim=-1)
        mask = None
        if class_mask is not None:  # a class reads those alone that compete in its image
            mask = tokens.new_zeros(class_mask.shape).masked_fill(~class_mask, -torch.inf)  # (B, K)
            mask = mask[:, None, None]
        output, weights = self.attend(query, key, value, mask, **kwargs)
        return self.output(output), weights  # (B, K, d), (B, heads, K, K)


class LClipSegTextBranch(nn.Module):
    """The transformer branch: class tokens compare notes, then each is worked over. Post-norm, as in Mobile-Former."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.attention = LClipSegTokenAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.hidden_size, 2 * config.hidden_size),
            nn.GELU(),
            nn.Linear(2 * config.hidden_size, config.hidden_size),
        )
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)

    def forward(self, tokens: torch.Tensor, **kwargs) -> torch.Tensor:
        tokens = self.attention_norm(tokens + self.attention(tokens, **kwargs)[0])
        return self.feed_forward_norm(tokens + self.feed_forward(tokens))  # (B, K, d)


class LClipSegImageBranch(nn.Sequential):
    """The CNN branch: an inverted bottleneck whose large depthwise kernel brings in spatial context."""

    def __init__(self, config: LClipSegConfig, expansion: int = 2, kernel_size: int = 5):
        width, inner = config.hidden_size, expansion * config.hidden_size
        super().__init__(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, kernel_size, padding=kernel_size // 2, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )


class LClipSegFusionLayer(GradientCheckpointingLayer):
    """One block: classes read the image, both branches work side by side, the image reads the classes back."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.image_to_text = LClipSegImageToText(config)
        self.image_to_text_norm = nn.LayerNorm(config.hidden_size)
        self.text_branch = LClipSegTextBranch(config)
        self.image_branch = LClipSegImageBranch(config)
        self.text_to_image = LClipSegTextToImage(config)

    def forward(
        self,
        feature_map: torch.Tensor,
        tokens: torch.Tensor,
        affinity: torch.Tensor,
        class_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, d, h, w), (B, K, d) and (B, K, n) give the first two of the same shapes. What a class that `class_mask`
        (B, K) leaves out would say reaches no pixel and no other class."""
        pixels = feature_map.flatten(2).transpose(1, 2)  # (B, n, d)
        tokens = self.image_to_text_norm(tokens + self.image_to_text(pixels, affinity)[0])
        tokens = self.text_branch(tokens, class_mask=class_mask, **kwargs)
        read = self.text_to_image(tokens, affinity, class_mask)[0].transpose(1, 2)  # (B, d, n)
        return feature_map + self.image_branch(feature_map) + read.unflatten(2, feature_map.shape[-2:]), tokens


class LClipSegFusion(nn.Module):
    """The fusion module: class embeddings become tokens, tokens meet the coarse map, and L blocks fuse the two."""

    def __init__(self, config: LClipSegConfig):
        super().__init__()
        self.token_projection = nn.Linear(config.class_embed_dim, config.hidden_size)
        self.token_norm = nn.LayerNorm(config.hidden_size)
        self.pixel_embedding = nn.Conv2d(config.hidden_size, config.decoder_hidden_size, 1)
        self.token_embedding = nn.Linear(config.hidden_size, config.decoder_hidden_size, bias=False)
        self.similarity = LClipSegSimilarity(config)
        self.layers = nn.ModuleList(LClipSegFusionLayer(config) for _ in range(config.num_fusion_layers))

    def forward(
        self,
        feature_map: torch.Tensor,
        class_embeddings: torch.Tensor,
        class_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            feature_map (`torch.Tensor` of shape `(batch_size, hidden_size, height, width)`): The coarse map.
            class_embeddings (`torch.Tensor` of shape `(num_classes, class_embed_dim)`): One vector a class.
            class_mask (`torch.Tensor` of shape `(batch_size, num_classes)`, *optional*): Which classes compete in each
                image, bool. For these all is as if there were no others.

        Returns:
            The fused map, of the same shape; the fused class tokens of every image, a `torch.Tensor` of shape
            `(batch_size, num_classes, hidden_size)`; and the affinity, of shape `(batch_size, num_classes,
            height, width)`.
        """
        tokens = self.token_norm(self.token_projection(class_embeddings))
        tokens = tokens.expand(feature_map.shape[0], -1, -1)  # (B, K, d)
        affinity = self.similarity(self.pixel_embedding(feature_map), self.token_embedding(tokens))  # (B, K, h, w)
        for layer in self.layers:
            feature_map, tokens = layer(feature_map, tokens, affinity.flatten(2), class_mask=class_mask, **kwargs)
        return feature_map, tokens, affinity


__all__ = ["LClipSegFusion", "LClipSegFusionLayer", "LClipSegImageToText", "LClipSegTextToImage"]
