"""The frames of a file, every one of them, and of a live source, the newest."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lclipseg.video.decoder import Decoder

BROKEN_IN_A_ROW = 100  # so many frames that cannot be decoded are the end of a file
LOST_AFTER, PAUSE = 20, 0.02  # so many of a live source, a pause (seconds) after each
GLANCE = 0.2  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Frame:
    """
    Args:
        index (`int`): Which frame of the source it is, from 0; broken and dropped ones are counted.
        seconds (`float`): When it is shown, from the first frame on.
        pixels (`np.ndarray` of shape `(height, width, 3)`): uint8, upright RGB.
        arrived (`float`): When it had been decoded, by `time.perf_counter`.
    """

    index: int
    seconds: float
    pixels: np.ndarray
    arrived: float


class FileFrames:
    """
    Every frame of a file that can be decoded, however long it takes.

    Args:
        decoder ([`Decoder`]): The file.

    Attributes:
        broken (`list[int]`): Which frames could not be decoded.
        dropped (`int`): 0.
        missing (`int`): How many frames the file promises beyond its end, where that is a second or more.
    """

    dropped = 0

    def __init__(self, decoder: Decoder):
        self._decoder = decoder
        self.broken: list[int] = []
        self.missing = 0

    def __iter__(self) -> Iterator[Frame]:
        index, failed, seconds = 0, 0, -1.0 / self._decoder.fps
        while failed < BROKEN_IN_A_ROW:
            pixels = self._decoder.pixels() if self._decoder.grab() else None
            if pixels is None:  # broken if another one follows, else the end
                failed += 1
                continue
            self.broken += range(index, index + failed)
            said = self._decoder.seconds()  # 0 where the file does not say
            seconds = said if said > seconds else seconds + (1 + failed) / self._decoder.fps
            index, failed = index + failed, 0
            yield Frame(index, max(seconds, 0.0), pixels, time.perf_counter())
            index += 1
        promised = (self._decoder.count or 0) - index
        self.missing = promised if promised >= self._decoder.fps else 0

    def close(self) -> None:
        self._decoder.close()


class LiveFrames:
    """
    The newest frame of a source that does not wait. What came while the last one was in work is dropped, so that no
    frame is older than it must be.

    Args:
        decoder ([`Decoder`]): The source. A thread of its own reads it.
        is_stopped (`Callable[[], bool]`): Whether to wait for no further frame.

    Attributes:
        broken (`list[int]`): Which frames could not be decoded.
        dropped (`int`): How many frames were passed over.
        missing (`int`): 0.
    """

    missing = 0

    def __init__(self, decoder: Decoder, is_stopped: Callable[[], bool]):
        self._decoder, self._is_stopped = decoder, is_stopped
        self.broken: list[int] = []
        self.dropped = 0
        self._newest: Frame | None = None
        self._ended = self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)  # a camera may hang for ever

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        while True:
            with self._changed:
                while self._newest is None and not self._ended and not self._is_stopped():
                    self._changed.wait(GLANCE)
                frame, self._newest = self._newest, None
            if frame is None or self._is_stopped():
                return
            yield frame

    def close(self) -> None:
        self._closing = True
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        if not self._thread.is_alive():  # else the thread is inside of the decoder
            self._decoder.close()

    def _read(self) -> None:
        index, failed, began = 0, 0, None
        while failed < LOST_AFTER and not self._closing:
            pixels = self._decoder.pixels() if self._decoder.grab() else None
            if pixels is None:
                failed += 1
                time.sleep(PAUSE)
                continue
            now = time.perf_counter()
            began = now if began is None else began
            with self._changed:
                self.broken += range(index, index + failed)
                index, failed = index + failed, 0
                self.dropped += self._newest is not None
                self._newest = Frame(index, now - began, pixels, now)
                self._changed.notify()
            index += 1
        with self._changed:
            self._ended = True
            self._changed.notify()


__all__ = ["FileFrames", "Frame", "LiveFrames"]
