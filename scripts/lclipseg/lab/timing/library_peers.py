"""Networks of other libraries than transformers, which users would pick for their speed.

torchvision comes with ours; segmentation_models.pytorch and ultralytics (AGPL-3.0) are installed by whoever wants them
here, and nothing of them is needed or copied. As ours, they are timed with their batch normalisations folded.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights, lraspp_mobilenet_v3_large

from lclipseg.console.errors import InputError
from lclipseg.lab.timing.contestant import Contestant, Setting
from modeling_lclipseg.folding_lclipseg import fold_norms

BACKBONE = "tu-mobilenetv3_large_100"  # that of lclipseg-mbv3, of timm, with weights from ImageNet at the Hub
PROBE_SIDE = 128  # pixels: DeepLabV3+ pools over regions that a smaller image would not have


class LibraryPeer(Contestant):
    """
    A network that takes a normalised image and gives logits (1, K, h, w).

    Args:
        model (`nn.Module`): With its batch normalisations; they are folded.
        setting ([`Setting`]): See there.
        memory_format (`torch.memory_format`): In which model and image lie. Its library leaves it contiguous.

    Raises:
        InputError: it is to be trained, for which it has no loss.
    """

    def __init__(self, model: Any, setting: Setting, memory_format: torch.memory_format):
        if setting.for_training:
            raise InputError("train: --models takes networks with a loss, which are ours and those of transformers.")
        # All of them publish weights for torchvision's way with ImageNet's colours.
        processor = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.transforms(resize_size=setting.size)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        fold_norms(model.eval(), torch.randn(1, 3, PROBE_SIDE, PROBE_SIDE))
        super().__init__(model, processor, setting)
        self.model.to(memory_format=memory_format)
        self.memory_format, self.parameters = memory_format, parameters

    def prepare(self, image: Image.Image) -> torch.Tensor:
        return self._placed(self.processor(image)[None])

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values)

    def label(self, logits: torch.Tensor) -> torch.Tensor:
        return logits[0].argmax(dim=0)

    def _placed(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values.to(self.setting.device, self.setting.dtype, memory_format=self.memory_format)


class LrAspp(LibraryPeer):
    """torchvision's LR-ASPP with MobileNetV3-large. Its logits have the size of the image."""

    def __init__(self, setting: Setting, memory_format: torch.memory_format):
        model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=setting.num_classes)
        super().__init__(model, setting, memory_format)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values)["out"]


class SmpPeer(LibraryPeer):
    """An architecture of segmentation_models.pytorch on our backbone. Its logits have the size of the image."""

    def __init__(self, setting: Setting, memory_format: torch.memory_format, architecture: str):
        library = _library("segmentation_models_pytorch", "segmentation-models-pytorch")
        model = getattr(library, architecture)(
            encoder_name=BACKBONE, encoder_weights=None, classes=setting.num_classes
        )
        super().__init__(model, setting, memory_format)


class YoloPeer(LibraryPeer):
    """ultralytics' YOLO26n for semantic segmentation: its image is not normalised, its logits are at stride 8. The
    label map is made as its predictor makes it: all logits enlarged, then their maximum."""

    def __init__(self, setting: Setting, memory_format: torch.memory_format):
        tasks = _library("ultralytics.nn.tasks", "ultralytics")
        model = tasks.SemanticSegmentationModel("yolo26n-sem.yaml", nc=setting.num_classes, verbose=False)
        super().__init__(model, setting, memory_format)

    def prepare(self, image: Image.Image) -> torch.Tensor:
        image = image.resize((self.setting.size, self.setting.size))
        return self._placed(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]) / 255

    def label(self, logits: torch.Tensor) -> torch.Tensor:
        enlarged = F.interpolate(logits, size=(self.setting.size,) * 2, mode="bilinear", align_corners=False)
        return enlarged[0].max(dim=0).indices.to(torch.uint8 if len(enlarged[0]) <= 256 else torch.int16)


def _library(module: str, package: str) -> Any:
    """
    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"--models: {package} is not installed (no module named {error.name!r}), and is no dependency; install it "
            f"by pip install {package}, or leave its networks out."
        ) from error


NETWORKS: dict[str, Callable[..., Contestant]] = {
    "lraspp-mobilenet-v3": LrAspp,
    "smp-deeplabv3plus": partial(SmpPeer, architecture="DeepLabV3Plus"),
    "smp-fpn": partial(SmpPeer, architecture="FPN"),
    "yolo26n-sem": YoloPeer,
}
# As the library does it, and with channels last in memory, which speeds up depthwise convolutions on a CPU.
LIBRARY_PEERS: dict[str, Callable[[Setting], Contestant]] = {
    name + suffix: partial(network, memory_format=memory_format)
    for name, network in NETWORKS.items()
    for suffix, memory_format in (("", torch.contiguous_format), (":channels-last", torch.channels_last))
}
