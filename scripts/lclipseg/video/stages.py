"""How long the stages of a frame take."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

KEPT = 5000  # frames: a camera may run for months


class Stages:
    """
    Attributes:
        seconds (`dict[str, deque[tuple[float, float]]]`): Of every stage, for each of the last frames that went
            through it: by the clock, and of the processor in all threads, which other programs do not lengthen.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=KEPT))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """What is done within this context is the stage's."""
        clock, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds[stage].append((time.perf_counter() - clock, time.process_time() - processor))

    def table(self) -> list[str]:
        """A line a stage: its name and the medians, in milliseconds."""
        lines = [f"{'':8}    clock  processor, ms"]
        for stage, seconds in self.seconds.items():
            clock, processor = (1000 * median(kind) for kind in zip(*seconds, strict=True))
            lines.append(f"{stage:8} {clock:8.2f} {processor:10.2f}")
        return lines
