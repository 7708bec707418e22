"""Videos of a few frames, made in milliseconds, and a decoder that needs no file."""

import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from lclipseg.video.overlay_file import CODECS

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def plain(*colours: str, size: tuple[int, int] = (48, 32)) -> list[np.ndarray]:
    """Frames of one colour each, RGB; `size` is width and height."""
    return [np.full((size[1], size[0], 3), COLOURS[colour], dtype=np.uint8) for colour in colours]


def write_video(path: Path, frames: Sequence[np.ndarray], fps: float = 10) -> Path:
    """Frames of even sides, in the format of the suffix."""
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def read_video(path: Path) -> list[np.ndarray]:
    """All frames of a file, RGB."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    while capture.grab():
        frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return frames


def break_frame(path: Path, index: int) -> None:
    """Fill a frame of a .avi with zeros."""
    content = bytearray(path.read_bytes())
    place = content.index(b"movi")
    for _ in range(index + 1):
        place = content.index(b"00dc", place + 4)
    (length,) = struct.unpack_from("<I", content, place + 4)
    content[place + 8 : place + 8 + length] = bytes(length)
    path.write_bytes(content)


def turn_clockwise(path: Path) -> None:
    """Note in a .mp4 that its frames are to be shown turned by 90 degrees, as a phone held upright does."""
    content = bytearray(path.read_bytes())
    matrix = struct.pack(">9i", 0, 2**16, 0, -(2**16), 0, 0, 0, 0, 2**30)
    place = content.index(b"tkhd") + 44
    content[place : place + len(matrix)] = matrix
    path.write_bytes(content)


class StandInDecoder:
    """
    Gives the frames in turn; `None` is a broken one.

    Args:
        frames (iterable of `np.ndarray` or `None`): RGB.
        times (iterable of `float`, *optional*): When each is shown; else the file does not say.
        pause (`float`): Seconds that a camera takes for a frame.
        count (`int`, *optional*): How many frames a file promises.
    """

    fps = 10.0

    def __init__(
        self,
        frames: Iterable[np.ndarray | None],
        times: Iterable[float] = (),
        pause: float = 0.0,
        count: int | None = None,
    ):
        self.count, self.closed = count, False
        self._frames, self._times, self._pause = iter(frames), iter(times), pause
        self._now: np.ndarray | None = None
        self._second = 0.0

    def grab(self) -> bool:
        time.sleep(self._pause)
        self._now = next(self._frames, None)
        if self._now is not None:
            self._second = next(self._times, 0.0)
        return self._now is not None

    def seconds(self) -> float:
        return self._second

    def pixels(self) -> np.ndarray | None:
        return self._now

    def close(self) -> None:
        self.closed = True


def numbered(count: int) -> Iterator[np.ndarray]:
    """Frames whose pixels have the number of the frame as their value."""
    for index in range(count):
        yield np.full((4, 6, 3), index, dtype=np.uint8)
