"""What every network does that a benchmark runs against others: the whole way, from an image to the class of every
pixel, as its own documentation shows it, with its own image processor, at its own input size."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers.modeling_outputs import SemanticSegmenterOutput


@dataclass(frozen=True)
class Setting:
    """
    What all contestants have in common.

    Args:
        num_classes (`int`): Number of classes K.
        size (`int`): Height and width of the image in pixels.
        device (`torch.device`): Where.
        dtype (`torch.dtype`): Of the networks.
        compiled (`bool`): Whether the networks go through `torch.compile`.
        for_training (`bool`): Whether they are to be trained, and not folded for inference.
    """

    num_classes: int
    size: int
    device: torch.device
    dtype: torch.dtype
    compiled: bool = False
    for_training: bool = False


class Contestant(ABC):
    """
    One network and its processor.

    Args:
        model (`nn.Module`): In any mode; it is put in eval mode, and where and as the setting says.
        setting ([`Setting`]): See there.
    """

    def __init__(self, model: Any, processor: Any, setting: Setting):
        self.model = model.eval().to(setting.device, setting.dtype)
        self.processor, self.setting = processor, setting
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        if setting.compiled:
            self.compile()

    def compile(self) -> None:
        """Put what `forward` calls through `torch.compile`."""
        self.model.compile()

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """The image as the network takes it, (1, 3, h, w)."""
        values = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return values.to(self.setting.device, self.setting.dtype)

    def input_size(self, image: Image.Image) -> tuple[int, int]:
        """Height and width that the network sees of the image."""
        height, width = self.prepare(image).shape[-2:]
        return height, width

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (1, K, h, w)."""
        return self.model(pixel_values).logits

    @abstractmethod
    def label(self, logits: torch.Tensor) -> torch.Tensor:
        """The class of every pixel of the image, (H, W)."""


class Network(Contestant):
    """A network whose processor makes the label map: a peer's enlarges all logits, ours does not."""

    def label(self, logits: torch.Tensor) -> torch.Tensor:
        outputs = SemanticSegmenterOutput(logits=logits)
        return self.processor.post_process_semantic_segmentation(outputs, [(self.setting.size,) * 2])[0]
