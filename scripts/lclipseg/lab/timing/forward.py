"""How long one prediction of a network takes."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from lclipseg.lab.timing.stopwatch import Stopwatch, in_turns
from lclipseg.networks.costs import build
from modeling_lclipseg import LClipSegForSemanticSegmentation

WARM_UP = 3
PATIENCE = 600.0  # seconds a network; none of ours takes so long


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
    models: list[Any] = [build(*network).fold() for network in networks]
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
