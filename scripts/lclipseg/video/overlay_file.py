"""The overlay as a video file, at the pace of its source."""

from pathlib import Path

import cv2
import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.video.decoder import hush

# MPEG-4 and Motion JPEG: what the FFmpeg of OpenCV's wheels encodes fast, without a library under the GPL.
CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class OverlayFile:
    """
    A file has one frame every 1 / `fps` seconds. Where the source has fewer, as a camera does from which frames were
    dropped or a phone in poor light, the frame before stands longer. No frame is left out: where the source has more
    for a while, the file runs late until there are fewer again.

    Args:
        path (`Path`): The file; its suffix says the format.
        fps (`float`): Frames a second.
        size (`tuple[int, int]`): Width and height, both even.

    Attributes:
        written (`int`): Frames in the file, repeated ones counted.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]):
        hush()
        self.path, self._fps, self._size = path, fps, size
        self.written = 0
        self._last: np.ndarray | None = None
        codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, size)
        if not self._writer.isOpened():
            raise InputError(f"{path} cannot be written: {size[0]} x {size[1]} pixels at {fps:g} frames a second")

    def add(self, pixels: np.ndarray, seconds: float) -> None:
        """The frame of a time, as RGB (height, width, 3) uint8; times rise."""
        while self._last is not None and self.written < round(seconds * self._fps):
            self._write(self._last)
        self._last = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        self._write(self._last)

    def close(self) -> None:
        """Finish the file, and see that it can be opened."""
        self._writer.release()
        check = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if self.written and not check.grab():
            raise InputError(f"{self.path} cannot be read again after it was written; is the disk full?")
        check.release()

    def _write(self, bgr: np.ndarray) -> None:
        self._writer.write(bgr)
        self.written += 1


__all__ = ["CODECS", "OverlayFile"]
