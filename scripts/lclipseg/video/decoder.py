"""Frames out of files, cameras and addresses, by OpenCV and the FFmpeg inside it."""

import math
import os
from typing import Any, Protocol

import cv2
import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.video.places import Place

USUAL_FPS, HIGHEST_FPS = 30.0, 1000.0
PATIENCE = 10_000  # milliseconds that an address may be silent
SILENT = 0  # OpenCV's level


class Decoder(Protocol):
    """
    Gives one frame after the other.

    Attributes:
        fps (`float`): Frames a second, as the source says or else 30.
        count (`int`, *optional*): How many frames a file promises; `None` for what has no end.
    """

    fps: float
    count: int | None

    def grab(self) -> bool:
        """Decode the next frame: false where it is broken, and at the end."""

    def seconds(self) -> float:
        """When the frame is shown, counted from the beginning."""

    def pixels(self) -> np.ndarray | None:
        """The frame as upright RGB, (height, width, 3) uint8; `None` where it cannot be had."""

    def close(self) -> None: ...


class OpenCvDecoder:
    """
    A [`Decoder`] of what OpenCV has opened.

    Args:
        capture (`cv2.VideoCapture`): It.
    """

    def __init__(self, capture: Any):
        self._capture = capture
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones turn the video by a note in the file
        fps, count = (capture.get(prop) for prop in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.fps = fps if math.isfinite(fps) and 0 < fps <= HIGHEST_FPS else USUAL_FPS
        self.count = int(count) if math.isfinite(count) and count >= 1 else None

    def grab(self) -> bool:
        return self._capture.grab()

    def seconds(self) -> float:
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000

    def pixels(self) -> np.ndarray | None:
        given, pixels = self._capture.retrieve()
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if given else None

    def close(self) -> None:
        self._capture.release()


def open_decoder(place: Place, max_pixels: int) -> OpenCvDecoder:
    """
    Args:
        place ([`Place`]): The file, camera or address.
        max_pixels (`int`): The most pixels that a frame may have.

    Raises:
        InputError: no such camera, no answer, no video, or frames that are too large.
    """
    hush()
    capture = _opened(place)
    if not capture.isOpened():
        raise InputError(_why_not(place))
    num_pixels = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if num_pixels > max_pixels:
        capture.release()
        raise InputError(f"{place.shown}: frames of {num_pixels:,} pixels, more than --max_pixels {max_pixels:,}")
    return OpenCvDecoder(capture)


def hush() -> None:
    """Without OpenCV's and FFmpeg's own lines on stderr: what goes wrong is said here."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # which is read when the first video is opened
    library: Any = cv2
    logging = library if hasattr(library, "setLogLevel") else library.utils.logging  # the latter from 5.0 on
    logging.setLogLevel(SILENT)


def _opened(place: Place) -> Any:
    if isinstance(place.given, int):
        return cv2.VideoCapture(place.given)
    if place.is_file:
        # By one thread each frame fails on its own; by several, FFmpeg passes over broken ones without a word.
        return cv2.VideoCapture(place.given, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, PATIENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, PATIENCE]
    return cv2.VideoCapture(place.given, cv2.CAP_FFMPEG, patience)


def _why_not(place: Place) -> str:
    if isinstance(place.given, int):
        return f"there is no {place.shown} that can be opened; give another number, or end what else uses it"
    if place.is_file:
        return f"{place.shown}: not a video, or of a format that OpenCV does not read"
    return f"{place.shown}: no video comes from this address; is it right, and can it be reached?"


__all__ = ["Decoder", "OpenCvDecoder", "hush", "open_decoder"]
