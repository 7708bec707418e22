"""A window that shows the frames, by the tkinter of Python itself."""

from typing import Any

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError


class Window:
    """
    Args:
        title (`str`): What stands above the frames.

    Attributes:
        closed (`bool`): Whether the user has closed it, by its button or the key q.

    Raises:
        InputError: there is no display, or Python has no tkinter.
    """

    def __init__(self, title: str):
        try:
            import tkinter

            from PIL import ImageTk
        except ImportError as error:
            raise InputError(
                f"--show needs tkinter, which this Python lacks ({error}); install python3-tk, or leave --show out"
            ) from None
        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(f"--show needs a display, and there is none here ({error}); leave it out") from None
        self._title, self._photo = title, ImageTk.PhotoImage
        self._shown: Any = None
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._root.title(title)
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("q", lambda event: self._close())
        self.closed = False

    def show(self, pixels: np.ndarray, note: str) -> None:
        """A frame, RGB (height, width, 3) uint8, and a note beside the title."""
        self._shown = self._photo(Image.fromarray(pixels))  # kept: tkinter holds no reference to it
        self._label.configure(image=self._shown)
        self._root.title(f"{self._title}: {note}")
        self._root.update()

    def close(self) -> None:
        self._root.destroy()

    def _close(self) -> None:
        self.closed = True


__all__ = ["Window"]
