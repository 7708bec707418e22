"""What becomes of a frame and its label map."""

from collections.abc import Mapping

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.video.drawing import Drawing
from lclipseg.video.frames import Frame
from lclipseg.video.overlay_file import OverlayFile
from lclipseg.video.results import MaskFolder, ResultPaths, SharesTable
from lclipseg.video.stages import Stages
from lclipseg.video.window import Window


class Outputs:
    """
    The results of a video, opened when its first frame is there.

    Args:
        paths ([`ResultPaths`]): Where they go.
        window ([`Window`], *optional*): Where the overlay is shown.
        fps (`float`): Frames a second of the overlay.
        id2label (`Mapping[int, str]`): The name of each class.
        first ([`Frame`]): Frames of another size are refused.
        stages ([`Stages`]): Counts the time that each output takes.

    Raises:
        InputError: a file that cannot be written.
    """

    def __init__(
        self,
        paths: ResultPaths,
        window: Window | None,
        fps: float,
        id2label: Mapping[int, str],
        first: Frame,
        stages: Stages,
    ):
        self._stages, self._window, self._size = stages, window, first.pixels.shape[:2]
        self._drawing = Drawing(id2label, *self._size)
        self._overlay: OverlayFile | None = None
        self._masks: MaskFolder | None = None
        self._shares: SharesTable | None = None
        try:
            for path in paths.given():
                path.parent.mkdir(parents=True, exist_ok=True)
            self._shares = None if paths.shares is None else SharesTable(paths.shares, id2label)
            self._masks = None if paths.masks is None else MaskFolder(paths.masks)
        except OSError as error:
            raise InputError(f"{error.filename} cannot be written: {error.strerror}") from error
        if paths.overlay is not None:
            self._overlay = OverlayFile(paths.overlay, fps, self._drawing.size)

    def add(self, frame: Frame, ids: np.ndarray, note: str) -> None:
        """A frame and its label map (height, width); the note stands beside the window's title."""
        if frame.pixels.shape[:2] != self._size:
            (old_height, old_width), (height, width) = self._size, frame.pixels.shape[:2]
            raise InputError(
                f"its frames change from {old_width} x {old_height} to {width} x {height} pixels at frame "
                f"{frame.index}; the frames before are written"
            )
        if self._overlay is not None or self._window is not None:
            with self._stages("draw"):
                drawn = self._drawing(frame.pixels, ids)
        if self._overlay is not None:
            with self._stages("encode"):
                self._overlay.add(drawn, frame.seconds)
        if self._masks is not None:
            with self._stages("masks"):
                self._masks.add(frame.index, ids)
        if self._shares is not None:
            with self._stages("shares"):
                self._shares.add(frame.index, frame.seconds, ids)
        if self._window is not None:
            with self._stages("show"):
                self._window.show(drawn, note)

    def close(self) -> None:
        """Finish the files; an [`InputError`] where the overlay is none that can be played."""
        if self._shares is not None:
            self._shares.close()
        if self._overlay is not None:
            self._overlay.close()


__all__ = ["Outputs"]
