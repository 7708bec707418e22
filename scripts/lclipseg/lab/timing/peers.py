"""What users would pick instead of ours, of transformers and, from library_peers.py, of other libraries. Weights are
random, since the time does not depend on them, with the dimensions of the published checkpoints."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessor,
    MobileViTConfig,
    MobileViTForSemanticSegmentation,
    MobileViTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    ViTImageProcessor,
)

from lclipseg.lab.timing.contestant import Contestant, Network, Setting
from lclipseg.lab.timing.library_peers import LIBRARY_PEERS

# CLIPSeg takes one copy of the image a prompt; more at a time would need more memory than a user has.
PROMPTS_AT_A_TIME = 16


class ClipSeg(Contestant):
    """CLIPSeg with one prompt a class. The prompts' vectors are given, as ours are: the text tower is not timed."""

    def __init__(self, setting: Setting):
        # CIDAS/clipseg-rd64-refined
        config = CLIPSegConfig(
            vision_config={"patch_size": 16}, reduce_dim=64, use_complex_transposed_convolution=True
        )
        processor = ViTImageProcessor(
            size={"height": 352, "width": 352}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        )
        super().__init__(CLIPSegForImageSegmentation(config), processor, setting)
        width: Any = config.projection_dim
        self.prompts = torch.randn(setting.num_classes, width, device=setting.device, dtype=setting.dtype)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        logits = [
            self.model(
                pixel_values=pixel_values.expand(len(some), -1, -1, -1),
                conditional_embeddings=some,
                interpolate_pos_encoding=True,
            ).logits.view(len(some), *pixel_values.shape[-2:])
            for some in self.prompts.split(PROMPTS_AT_A_TIME)
        ]
        return torch.cat(logits)[None]

    def label(self, logits: torch.Tensor) -> torch.Tensor:
        return F.interpolate(logits, size=(self.setting.size,) * 2, mode="bilinear", align_corners=False)[0].argmax(0)


class ClipSegOnce(ClipSeg):
    """CLIPSeg whose image is encoded once for all prompts, which its `forward` has no way to ask for."""

    def compile(self) -> None:
        self.model.clip.vision_model.compile()
        self.model.decoder.compile()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        vision = self.model.clip.vision_model(
            pixel_values, output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
        layers = [vision[index + 1] for index in self.model.extract_layers]
        logits = [
            self.model.decoder([layer.expand(len(some), -1, -1) for layer in layers], some).logits
            for some in self.prompts.split(PROMPTS_AT_A_TIME)
        ]
        return torch.cat([one.view(-1, *pixel_values.shape[-2:]) for one in logits])[None]


def _segformer(setting: Setting) -> Contestant:  # nvidia/segformer-b0-finetuned-ade-512-512
    config = SegformerConfig(num_labels=setting.num_classes)  # type: ignore[call-arg]
    return Network(SegformerForSemanticSegmentation(config), SegformerImageProcessor(), setting)


def _mobilevit(setting: Setting) -> Contestant:  # apple/deeplabv3-mobilevit-small
    config = MobileViTConfig(image_size=512, output_stride=16, num_labels=setting.num_classes)  # type: ignore[call-arg]
    processor = MobileViTImageProcessor(size={"shortest_edge": 544}, crop_size={"height": 512, "width": 512})
    return Network(MobileViTForSemanticSegmentation(config), processor, setting)


def _mobilenet(setting: Setting) -> Contestant:  # google/deeplabv3_mobilenet_v2_1.0_513
    config = MobileNetV2Config(image_size=513, output_stride=8, num_labels=setting.num_classes)  # type: ignore[call-arg]
    processor = MobileNetV2ImageProcessor(size={"shortest_edge": 513}, crop_size={"height": 513, "width": 513})
    return Network(MobileNetV2ForSemanticSegmentation(config), processor, setting)


PEERS: dict[str, Callable[[Setting], Contestant]] = {
    "segformer-b0": _segformer,
    "deeplabv3-mobilevit-small": _mobilevit,
    "deeplabv3-mobilenet-v2": _mobilenet,
    "clipseg": ClipSeg,
    "clipseg-once": ClipSegOnce,
    **LIBRARY_PEERS,
}
