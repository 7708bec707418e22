"""How an image becomes a label map: whole or in windows."""

from dataclasses import dataclass
from typing import Any

from lclipseg.console.errors import InputError

MODES = ("whole", "slide")


@dataclass(frozen=True)
class InferenceMode:
    """How an image becomes a label map.

    Args:
        mode (`str`, *optional*, defaults to `"whole"`): `"whole"`: one forward pass, at the size that the image
            processor chooses. `"slide"`: overlapping square windows of the image, each processed like an image of its
            own, logits averaged where they overlap. An image that one window covers is predicted whole.
        flip (`bool`, *optional*, defaults to `False`): average the class probabilities of the image and of its flip.
        window (`int`, *optional*): side of a window in pixels of the image; by default the image processor's size, at
            which windows are not resized.
        stride (`int`, *optional*): distance between windows in pixels; two thirds of the window by default.

    Raises:
        InputError: unknown mode, a window or stride without `"slide"`, below 1, or a stride that leaves gaps.
    """

    mode: str = "whole"
    flip: bool = False
    window: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode {self.mode!r} is not known; choose one of {', '.join(MODES)}")
        for name, pixels in (("window", self.window), ("stride", self.stride)):
            if pixels is not None and self.mode != "slide":
                raise InputError(f"{name} {pixels} needs mode 'slide', not {self.mode!r}; or leave it out")
            if pixels is not None and pixels < 1:
                raise InputError(f"{name} must be at least 1 pixel, got {pixels}")
        if self.window is not None and self.stride is not None:
            _check_stride(self.window, self.stride)

    @property
    def is_plain(self) -> bool:
        """Whether one forward pass says it all."""
        return self.mode == "whole" and not self.flip

    def window_and_stride(self, image_processor: Any) -> tuple[int, int]:
        """Both in pixels, with the defaults that follow from the image processor filled in."""
        window = self.window or _shortest_side(image_processor)
        stride = self.stride or max(1, window * 2 // 3)
        _check_stride(window, stride)
        return window, stride


def _check_stride(window: int, stride: int) -> None:
    if stride > window:
        raise InputError(f"stride {stride} is larger than the window ({window}) and would skip pixels; lower it")


def _shortest_side(image_processor: Any) -> int:
    return min(dict(image_processor.size).values())


def window_boxes(height: int, width: int, window: int, stride: int) -> list[tuple[int, int, int, int]]:
    """The windows of an image as (left, top, right, bottom) in pixels.

    All have the same size, `window` or the side of the image where that is shorter; the last ones of a row or column
    end at the border, so every pixel is covered.
    """
    return [
        (left, top, left + min(window, width), top + min(window, height))
        for top in _starts(height, window, stride)
        for left in _starts(width, window, stride)
    ]


def _starts(length: int, window: int, stride: int) -> list[int]:
    last = max(length - window, 0)
    return [*range(0, last, stride), last]
