"""What a network costs: parameters, multiply-accumulates and the time of one prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lclipseg.lab.timing.stopwatch import Stopwatch, in_turns
from lclipseg.networks.presets import load_preset
from modeling_lclipseg import LClipSegForSemanticSegmentation

Size3 = tuple[int, int, int]

WARM_UP = 3
PATIENCE = 600.0  # seconds a network; none of ours takes so long


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
        model = _build(preset, config, num_classes)
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


def time_forward(
    networks: Sequence[tuple[str, Mapping[str, Any], int]], size: int, rounds: int, device: torch.device
) -> list[list[float]]:
    """
    Milliseconds of the forward pass from one image to its logits at stride 4, networks taking turns so that what else
    the machine does meets them all alike. Weights and class embeddings are random; the networks are folded.

    Args:
        networks (sequence of `(preset, config fields, number of classes)`): What is timed.
        size (`int`): Height and width of the image in pixels.
        rounds (`int`): Timed passes of every network.
        device (`torch.device`): Where.

    Returns:
        `list[list[float]]`: for every network the times of its passes.
    """
    image = torch.rand(1, 3, size, size, device=device)
    models: list[Any] = [_build(*network).fold() for network in networks]
    for model in models:
        model.to(device)

    def timed(model: LClipSegForSemanticSegmentation) -> float:
        with Stopwatch(device) as watch:
            model(image)
        return watch.milliseconds

    with torch.inference_mode():
        times = in_turns(
            {str(index): partial(timed, model) for index, model in enumerate(models)}, rounds, WARM_UP, PATIENCE
        )
    return list(times.values())


def _build(preset: str, config: Mapping[str, Any], num_classes: int) -> LClipSegForSemanticSegmentation:
    names = {index: f"class {index}" for index in range(num_classes)}
    model = LClipSegForSemanticSegmentation(load_preset(preset).build_config(**{**config, "id2label": names})).eval()
    if model.head.takes_text and model.device.type != "meta":
        model.set_classes(model.config.class_names, torch.randn(num_classes, model.config.class_embed_dim))
    return model
