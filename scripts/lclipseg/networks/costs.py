"""What a network costs in parameters and multiply-accumulates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lclipseg.networks.presets import load_preset
from modeling_lclipseg import LClipSegForSemanticSegmentation

Size3 = tuple[int, int, int]


@dataclass(frozen=True)
class Cost:
    """Parameters (without a text tower) and multiply-accumulates of one image's prediction."""

    parameters: int
    backbone_macs: int
    macs: int


def count(preset: str, config: Mapping[str, Any], size: int, num_classes: int) -> Cost:
    """
    Count the cost of one image's prediction. Nothing is computed: the network is on the meta device.

    Args:
        preset (`str`): Name of a preset.
        config (`dict`): Fields of [`LClipSegConfig`] over the preset's own.
        size (`int`): Height and width of the image in pixels.
        num_classes (`int`): Number of classes.
    """
    with torch.device("meta"):
        model = build(preset, config, num_classes)
        image = torch.empty(1, 3, size, size)
    # The fused attention kernels have no formula for tensors without data; the plain product is the same arithmetic.
    model.set_attn_implementation("eager")
    counter = flop_counter()
    with counter, torch.no_grad():
        model(image)
    of_backbone = sum(counter.get_flop_counts().get(f"{type(model).__name__}.backbone", {}).values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, of_backbone // 2, counter.get_total_flops() // 2)


def flop_counter() -> FlopCounterMode:
    """torch's counter, which does not know the product that is added in place."""

    def flops(bias: Size3, left: Size3, right: Size3, **options: Any) -> int:
        return 2 * left[0] * left[1] * left[2] * right[2]

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: flops})


def build(preset: str, config: Mapping[str, Any], num_classes: int) -> LClipSegForSemanticSegmentation:
    """The network of a preset for so many classes, with random weights and class embeddings, in eval mode."""
    names = {index: f"class {index}" for index in range(num_classes)}
    model = LClipSegForSemanticSegmentation(load_preset(preset).build_config(**{**config, "id2label": names})).eval()
    if model.head.takes_text and model.device.type != "meta":
        model.set_classes(model.config.class_names, torch.randn(num_classes, model.config.class_embed_dim))
    return model
