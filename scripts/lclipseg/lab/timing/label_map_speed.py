"""The label map alone: ours against enlarging all logits and taking the argmax, on the same logits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.timing.stopwatch import Ratio, Stopwatch, Timing, in_turns
from modeling_lclipseg.label_map_lclipseg import label_map

OURS, OURS_APART, PLAIN = "label_map", "label_map, classes apart in memory", "bilinear + argmax"


@dataclass(frozen=True)
class LabelMapRow:
    """One way at one number of classes: how much longer than ours it takes, and the share of pixels with our label."""

    method: str
    num_classes: int
    time_ms: Timing
    ratio: Ratio
    identical: float


def label_map_rows(
    realistic: RealisticLogits, num_classes: int, size: int, rounds: int, warm_up: int, device: torch.device
) -> list[LabelMapRow]:
    """
    Time the label map of an image.

    Args:
        realistic ([`RealisticLogits`]): What the image's logits are like.
        num_classes (`int`), size (`int`): Number of classes; height and width of the image in pixels.
        rounds (`int`), warm_up (`int`): Timed rounds, and rounds before them.
        device (`torch.device`): Where.
    """
    cells = -(-size // 4)
    apart = realistic.like(torch.empty(1, num_classes, cells, cells, device=device))
    together = apart.contiguous(memory_format=torch.channels_last)  # as our networks give them
    target = (size, size)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        OURS: lambda: label_map(together[0], target, target),
        OURS_APART: lambda: label_map(apart[0], target, target),
        PLAIN: lambda: F.interpolate(apart, size=target, mode="bilinear", align_corners=False)[0].argmax(dim=0),
    }

    def timed(way: Callable[[], torch.Tensor]) -> float:
        with Stopwatch(device) as watch:
            way()
        return watch.milliseconds

    with torch.inference_mode():
        times = in_turns({name: partial(timed, way) for name, way in ways.items()}, rounds, warm_up, patience=60)
        ours = ways[OURS]()
        return [
            LabelMapRow(
                method=name,
                num_classes=num_classes,
                time_ms=Timing.of(times[name]),
                ratio=Ratio.of(times[name], times[OURS]),
                identical=(way() == ours).float().mean().item(),
            )
            for name, way in ways.items()
        ]
