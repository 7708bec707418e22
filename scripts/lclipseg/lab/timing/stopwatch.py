"""Timing several contestants fairly: in turns, so that whatever else the machine does meets them all alike."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

RESAMPLINGS = 2000
CONFIDENCE = 0.95
FEWEST_ROUNDS = 6


@dataclass(frozen=True)
class Timing:
    """Median and quartiles of repeated times, in milliseconds."""

    median: float
    quartiles: tuple[float, float]
    count: int

    @classmethod
    def of(cls, times: Sequence[float]) -> "Timing":
        """Of two times or more, in milliseconds."""
        low, middle, high = quantiles(times, n=4, method="inclusive")
        return cls(round(middle, 3), (round(low, 3), round(high, 3)), len(times))


@dataclass(frozen=True)
class Ratio:
    """
    How many times longer one contestant takes than another: the median over rounds, and a 95 % interval of it; none
    below six rounds, whose extremes are no such interval.
    """

    median: float
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, times: Sequence[float], reference: Sequence[float]) -> "Ratio":
        """
        Rounds are pairs, since both met the same machine in each; where one has fewer, the first rounds count. The
        interval is a percentile bootstrap over rounds with a fixed seed.
        """
        pairs = [time / other for time, other in zip(times, reference, strict=False)]
        if len(pairs) < FEWEST_ROUNDS:
            return cls(round(median(pairs), 3), None)
        draw = random.Random(0)
        medians = sorted(median(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLINGS))
        tail = int((1 - CONFIDENCE) / 2 * RESAMPLINGS)
        return cls(round(median(pairs), 3), (round(medians[tail], 3), round(medians[-1 - tail], 3)))


class Stopwatch:
    """
    Milliseconds of what happens inside `with`: by the clock on a CPU, by events on a CUDA device; and of this process
    in all its threads, which other programs hardly lengthen.

    Args:
        device (`torch.device`): Where the work is done.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.milliseconds = self.processor = 0.0

    def __enter__(self) -> "Stopwatch":
        self._spent = time.process_time()
        if self.device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            torch.cuda.synchronize(self.device)
            self._events[0].record()
        else:
            self._began = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self._events[1].record()
            torch.cuda.synchronize(self.device)
            self.milliseconds = self._events[0].elapsed_time(self._events[1])
        else:
            self.milliseconds = 1000 * (time.perf_counter() - self._began)
        self.processor = 1000 * (time.process_time() - self._spent)


def in_turns(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    warm_up: int,
    patience: float,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, list[Any]]:
    """
    What every contestant returns, round after round. The order is turned in every second round.

    Args:
        contestants (mapping of `str` to `Callable`): What is run.
        rounds (`int`): How often; at least 2.
        warm_up (`int`): Rounds before, which do not count.
        patience (`float`): A contestant that has had so many seconds and two rounds runs no more.
        progress (`Callable`, *optional*): Is told who runs.
    """
    results: dict[str, list[Any]] = {name: [] for name in contestants}
    spent = dict.fromkeys(contestants, 0.0)
    for turn in range(warm_up + rounds):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            if spent[name] > patience and (len(results[name]) >= 2 or turn < warm_up):
                continue
            progress(name)
            began = time.perf_counter()
            result = contestants[name]()
            spent[name] += time.perf_counter() - began
            if turn >= warm_up:
                results[name].append(result)
    return results
