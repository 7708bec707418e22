"""Ctrl-C and a polite kill: a run finishes the step it is in, saves and ends."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger("lclipseg")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """
    Within this context the first SIGINT or SIGTERM is noted instead of ending the process. The same one again ends it;
    the other one may come from a launcher, which passes on Ctrl-C as SIGTERM.

    Attributes:
        signal (`int`, *optional*): The signal that came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            logger.info(f"{signal.Signals(number).name}: stopping after this step; once more ends the run at once")
        self.signal = number
        signal.signal(number, self._before.pop(number))


def ignore_stop_signals(worker: int) -> None:
    """For processes that read data: terminals and schedulers send a signal to them, too, and the run still needs its
    next batch. It ends them itself."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
