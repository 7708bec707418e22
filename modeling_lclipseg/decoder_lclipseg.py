"""The light neck and decoder that every head shares: backbone maps to a coarse map, and that to pixel embeddings.

Notation: B batch, C_i channels of backbone map i, d hidden size, c decoder width, h w coarse map, H W image.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_lclipseg import LClipSegConfig

STRIDES = (4, 8, 16, 32)


def resize_to(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Resize `source` (B, C, h, w) bilinearly to the height and width of `target`; works for any pair of sizes."""
    return nn.functional.interpolate(source, size=target.shape[-2:], mode="bilinear", align_corners=False)


class LClipSegProjection(nn.Sequential):
    """1x1 convolution to another width, normalised."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))


class LClipSegSeparableConv(GradientCheckpointingLayer, nn.Sequential):
    """Depthwise then pointwise convolution, each normalised and rectified. The largest maps of every head are made
    here, so gradient checkpointing saves the most."""

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class LClipSegNeck(nn.Module):
    """The backbone's maps at `fusion_stride` and coarser, and the whole image's mean, merged into one coarse map."""

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__()
        first = STRIDES.index(config.fusion_stride)
        self.projections = nn.ModuleList(LClipSegProjection(width, config.hidden_size) for width in channels[first:])
        # No normalisation after the global mean: a batch of one would have a single value a channel.
        self.context = nn.Conv2d(config.hidden_size, config.hidden_size, 1)
        self.merge = LClipSegSeparableConv(config.hidden_size, kernel_size=5)

    def forward(self, feature_maps: Sequence[torch.Tensor]) -> torch.Tensor:
        coarsest, *finer = [
            projection(feature_map)
            for projection, feature_map in zip(
                reversed(self.projections), reversed(feature_maps[-len(self.projections) :]), strict=True
            )
        ]
        coarse = coarsest + self.context(coarsest.mean((2, 3), keepdim=True))
        for feature_map in finer:
            coarse = feature_map + resize_to(coarse, feature_map)
        return self.merge(coarse)  # (B, d, h, w)


class LClipSegDecoder(nn.Module):
    """Top-down: the coarse map is enlarged step by step, and each finer backbone map is added on the way."""

    def __init__(self, config: LClipSegConfig, channels: Sequence[int]):
        super().__init__()
        width = config.decoder_hidden_size
        finer = channels[: STRIDES.index(config.fusion_stride)]
        self.coarse_projection = LClipSegProjection(config.hidden_size, width)
        self.projections = nn.ModuleList(LClipSegProjection(in_channels, width) for in_channels in finer)
        self.merges = nn.ModuleList(LClipSegSeparableConv(width, kernel_size=3) for _ in finer)
        self.output = nn.Conv2d(width, width, 1)

    def forward(self, coarse: torch.Tensor, feature_maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            coarse (`torch.Tensor` of shape `(batch_size, hidden_size, height, width)`): The (fused) coarse map.
            feature_maps (sequence of four `torch.Tensor`): The backbone's maps at strides 4, 8, 16 and 32.

        Returns:
            `torch.Tensor` of shape `(batch_size, decoder_hidden_size, image_height / 4, image_width / 4)`: pixel
            embeddings at stride 4.
        """
        pixels = self.coarse_projection(coarse)  # (B, c, h, w)
        levels = zip(self.projections, self.merges, feature_maps[: len(self.merges)], strict=True)
        for projection, merge, feature_map in reversed(list(levels)):  # the lists start at the finest level
            # In place: at stride 4 every map more that is written costs a twentieth of the whole network.
            pixels = merge(projection(feature_map).add_(resize_to(pixels, feature_map)))
        return self.output(pixels)  # (B, c, H/4, W/4)


__all__ = ["LClipSegDecoder", "LClipSegNeck", "resize_to"]
