"""Ctrl-C and a polite kill: a run finishes the step it is in, saves and ends."""

import logging
import multiprocessing
import os
import signal
import threading
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

logger = logging.getLogger("lclipseg")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """
    Within this context the first SIGINT or SIGTERM is noted instead of ending the process. The same one again ends it;
    the other one may come from a launcher, which passes on Ctrl-C as SIGTERM. A signal that the process was told to
    ignore, as shells tell what they start in the background, stays ignored.

    Attributes:
        signal (`int`, *optional*): The signal that came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            logger.info(f"{signal.Signals(number).name}: stopping after this step; once more ends the run at once")
        self.signal = number
        signal.signal(number, self._before.pop(number))


class WorkerSignals:
    """
    What processes that read data do with signals; a `worker_init_fn`. Terminals and schedulers send theirs to such
    processes, too, and the run still needs its next batch: they ignore them until the process that started them ends.
    That one, as it ends, sends SIGTERM to its readers and waits for them, for ever if they went on ignoring it.
    """

    def __init__(self) -> None:
        self._ending = multiprocessing.Event()
        Finalize(self, self._ending.set, exitpriority=0)  # not atexit, which processes of multiprocessing do not run

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._ending.is_set():
            os._exit(0)
