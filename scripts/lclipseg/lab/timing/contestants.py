"""Networks that a benchmark runs against each other: our presets, and what users would pick instead.

Every contestant goes the whole way, from an image to the class of every pixel, as its own documentation shows it:
with its own image processor, at its own input size. Weights are random, since the time does not depend on them, with
the dimensions of the published checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
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
from transformers.modeling_outputs import SemanticSegmenterOutput

from lclipseg.console.errors import InputError
from lclipseg.networks.build import build_image_processor
from lclipseg.networks.presets import load_preset, preset_names
from modeling_lclipseg import LClipSegForSemanticSegmentation

# CLIPSeg takes one copy of the image a prompt; more at a time would need more memory than a user has.
PROMPTS_AT_A_TIME = 16


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


class OwnNetwork(Network):
    """
    One of our presets, with random class embeddings that stand for the classes' words.

    Args:
        name (`str`): Which one.
        config (`dict`): Fields of its configuration over the preset's own.
        setting ([`Setting`]): See there.
        made_ready (`Callable`): From the model as it is trained, and its processor, to what is run.
    """

    def __init__(self, name: str, config: Mapping[str, Any], setting: Setting, made_ready: Callable[[Any, Any], Any]):
        preset = load_preset(name)
        names = [f"class {index}" for index in range(setting.num_classes)]
        model: Any = LClipSegForSemanticSegmentation(
            preset.build_config(id2label=dict(enumerate(names)), **config)
        ).eval()
        if model.head.takes_text:
            model.set_classes(names, torch.randn(len(names), model.config.class_embed_dim))
        processor = build_image_processor(preset, setting.size)
        super().__init__(model if setting.for_training else made_ready(model, processor), processor, setting)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())  # before they are folded


def _folded(model: Any, processor: Any) -> Any:
    return model.fold()


def _unfolded(model: Any, processor: Any) -> Any:
    return model


def _exported(model: Any, processor: Any, **options: Any) -> Any:
    """Through what users export with, to onnxruntime."""
    from lclipseg.export.arguments import ExportArguments
    from lclipseg.export.export import export_model
    from lclipseg.networks.exported import load_exported

    with TemporaryDirectory() as folder:
        checkpoint, out = Path(folder, "checkpoint"), Path(folder, "exported")
        model.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        vocabulary: Any = "open" if model.open_vocabulary else "baked"
        export_model(str(checkpoint), ExportArguments(vocabulary=vocabulary, out=str(out), **options))
        return load_exported(out)


def _int8(model: Any, processor: Any) -> Any:
    with TemporaryDirectory() as folder:  # the time does not depend on the ranges
        Image.effect_noise((640, 480), 50).convert("RGB").save(Path(folder, "noise.png"))
        return _exported(model, processor, int8=True, calibration=folder)


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
}
VARIANTS: dict[str, tuple[Mapping[str, Any], Callable[[Any, Any], Any]]] = {
    "fusion": ({"guidance": "fusion"}, _folded),
    "one-block": ({"guidance": "fusion", "num_fusion_layers": 1}, _folded),
    "none": ({"guidance": "none"}, _folded),
    "unfolded": ({"guidance": "fusion"}, _unfolded),
    "none-unfolded": ({"guidance": "none"}, _unfolded),
    "onnx": ({"guidance": "fusion"}, _exported),
    "int8": ({"guidance": "fusion"}, _int8),
}
ON_CPU = ("onnx", "int8")


def build_contestant(name: str, setting: Setting) -> Contestant:
    """
    Build a contestant by its name.

    Args:
        name (`str`): A peer, or `PRESET` or `PRESET:VARIANT` with one of our presets: `fusion` (the default) or
            `none` (no guidance), both also `unfolded`, as they are trained; `one-block` (fusion with a two-way block);
            `onnx` and `int8`, run by onnxruntime.
        setting ([`Setting`]): What it is built for.

    Raises:
        InputError: no such name.
    """
    if name in PEERS:
        return PEERS[name](setting)
    preset, _, variant = name.partition(":")
    if preset not in preset_names() or (variant or "fusion") not in VARIANTS:
        raise InputError(
            f"--models {name}: allowed are {', '.join(PEERS)}, and PRESET or PRESET:VARIANT with PRESET one of "
            f"{', '.join(preset_names())} and VARIANT one of {', '.join(VARIANTS)}."
        )
    if variant in ON_CPU and (setting.device.type != "cpu" or setting.dtype != torch.float32 or setting.compiled):
        raise InputError(
            f"--models {name} runs in onnxruntime on the CPU in float32; leave it out, or leave --device, --dtype and "
            "--compile at their defaults."
        )
    config, made_ready = VARIANTS[variant or "fusion"]
    return OwnNetwork(preset, config, setting, made_ready)
