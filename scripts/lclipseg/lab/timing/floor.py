"""Where a prediction's time goes, part by part, against the least that this machine's arithmetic and memory allow."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lclipseg.lab.timing.stopwatch import Stopwatch
from lclipseg.networks.costs import flop_counter
from modeling_lclipseg import LClipSegForSemanticSegmentation

PARTS = ("backbone", "head.neck", "head.fusion", "head.decoder")
REST = "similarity and class embeddings"
MATRIX_SIDE, COPIED_VALUES, TRIES = 1024, 2**24, 7


@dataclass(frozen=True)
class Rates:
    """What the machine does at best: multiply-accumulates and bytes (read and written) a millisecond."""

    macs: float
    bytes: float


@dataclass(frozen=True)
class PartCost:
    """
    One part of the network.

    Args:
        name (`str`): Its name.
        milliseconds (`float`): Median over the passes.
        macs, bytes (`int`): Multiply-accumulates, and bytes that its operations read and write, each for itself.
    """

    name: str
    milliseconds: float
    macs: int
    bytes: int

    def floor(self, rates: Rates) -> float:
        """Milliseconds at the machine's rates: for the arithmetic or for the memory, whichever takes longer."""
        return max(self.macs / rates.macs, self.bytes / rates.bytes)


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """By a large matrix product and a large copy, the best of some tries."""
    square = torch.rand(MATRIX_SIDE, MATRIX_SIDE, device=device, dtype=dtype)
    long = torch.rand(COPIED_VALUES, device=device)
    target = torch.empty_like(long)
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(TRIES):
        with Stopwatch(device) as watch:
            square @ square
        times["product"].append(watch.milliseconds)
        with Stopwatch(device) as watch:
            target.copy_(long)
        times["copy"].append(watch.milliseconds)
    return Rates(MATRIX_SIDE**3 / min(times["product"]), 2 * long.nbytes / min(times["copy"]))


def part_costs(model: LClipSegForSemanticSegmentation, pixel_values: torch.Tensor, rounds: int) -> list[PartCost]:
    """
    The cost of the parts of a [`LClipSegForSemanticSegmentation`], and of what is left.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): In eval mode.
        pixel_values (`torch.Tensor` of shape `(1, 3, height, width)`): On its device.
        rounds (`int`): Timed passes, after one that is not.
    """
    with torch.inference_mode():
        macs, traffic = _count(model, pixel_values)
        times: dict[str, list[float]] = defaultdict(list)
        for turn in range(rounds + 1):
            spent = _time_parts(model, pixel_values)
            for name in spent if turn else ():
                times[name].append(spent[name])
    return [PartCost(name, median(of_part), macs[name], traffic[name]) for name, of_part in times.items()]


def _time_parts(model: LClipSegForSemanticSegmentation, pixel_values: torch.Tensor) -> dict[str, float]:
    watches = {name: Stopwatch(pixel_values.device) for name in _parts(model)}
    whole = Stopwatch(pixel_values.device)
    with _at_parts(model, lambda name: watches[name].__enter__(), lambda name: watches[name].__exit__()), whole:
        model(pixel_values)
    spent = {name: watch.milliseconds for name, watch in watches.items()}
    return {**spent, REST: whole.milliseconds - sum(spent.values())}


def _count(
    model: LClipSegForSemanticSegmentation, pixel_values: torch.Tensor
) -> tuple[dict[str, int], dict[str, int]]:
    """Multiply-accumulates and bytes by part."""
    flops, traffic = flop_counter(), _Traffic()
    with flops:
        model(pixel_values)
    by_module = flops.get_flop_counts()
    macs = {name: sum(by_module[f"{type(model).__name__}.{name}"].values()) // 2 for name in _parts(model)}
    macs[REST] = flops.get_total_flops() // 2 - sum(macs.values())
    with traffic, _at_parts(model, traffic.enter, lambda name: traffic.enter(REST)):
        model(pixel_values)
    return macs, traffic.bytes


def _parts(model: LClipSegForSemanticSegmentation) -> list[str]:
    """Those of [`PARTS`] that the network has: without text there is no fusion."""
    modules = {name for name, _ in model.named_modules()}
    return [name for name in PARTS if name in modules]


class _Traffic(TorchDispatchMode):
    """Counts what every operation reads and writes, under the name of the part that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = defaultdict(int)
        self.part = REST

    def enter(self, part: str) -> None:
        self.part = part

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            # Of a tensor that is expanded, only what is there.
            self.bytes[self.part] += sum(
                min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in _tensors([*args, result])
            )
        return result


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@contextmanager
def _at_parts(
    model: LClipSegForSemanticSegmentation, enter: Callable[[str], Any], leave: Callable[[str], Any]
) -> Iterator[None]:
    """Inside, `enter(name)` and `leave(name)` are called around every part of the network."""
    hooks = []
    for name in _parts(model):
        part = model.get_submodule(name)
        hooks.append(part.register_forward_pre_hook(lambda *_, name=name: _no_result(enter(name))))
        hooks.append(part.register_forward_hook(lambda *_, name=name: _no_result(leave(name))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _no_result(value: Any) -> None:
    """What a hook returns would take the place of inputs or outputs."""
