"""Ctrl-C and a polite kill: what is being done is finished, and what was written stays whole."""

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
    the other one may come from a launcher, which passes on Ctrl-C as SIGTERM. A signal that the process was told to
    ignore, as shells tell what they start in the background, stays ignored.

    Args:
        last (`str`): What is still finished, for the message: "this step".

    Attributes:
        signal (`int`, *optional*): The signal that came.
    """

    def __init__(self, last: str = "this step") -> None:
        self._last = last
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
            logger.info(f"{signal.Signals(number).name}: stopping after {self._last}; once more ends it at once")
        self.signal = number
        signal.signal(number, self._before.pop(number))
