"""What processes that read data do with Ctrl-C and a polite kill, which the run heeds: see [`StopRequest`]."""

import multiprocessing
import os
import signal
from multiprocessing.util import Finalize
from types import FrameType


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
