"""Networks that a benchmark runs against each other: our presets, and what users would pick instead."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.lab.timing.contestant import Contestant, Network, Setting
from lclipseg.lab.timing.peers import PEERS
from lclipseg.networks.build import build_image_processor
from lclipseg.networks.presets import load_preset, preset_names
from modeling_lclipseg import LClipSegForSemanticSegmentation


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


VARIANTS: dict[str, tuple[Mapping[str, Any], Callable[[Any, Any], Any]]] = {
    "fusion": ({"guidance": "fusion"}, _folded),
    "one-block": ({"guidance": "fusion", "num_fusion_layers": 1}, _folded),
    "two-blocks": ({"guidance": "fusion", "num_fusion_layers": 2}, _folded),
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
            `none` (no guidance), both also `unfolded`, as they are trained; `one-block` and `two-blocks` (fusion with
            two-way blocks); `onnx` and `int8`, run by onnxruntime.
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
