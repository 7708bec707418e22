"""A frame with its classes in colour, and beside it a panel with the share of each: of one size for a whole video."""

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lclipseg.console.torch_free import class_palette

OPACITY = 0.6
PAPER, INK = (255, 255, 255), (32, 33, 36)
WIDEST = 0.4  # of the width of a frame, that the names may take
KEPT_ROWS = 512


class Drawing:
    """
    Args:
        id2label (`Mapping[int, str]`): The name of each class.
        height, width (`int`): Of the frames.

    Attributes:
        size (`tuple[int, int]`): Width and height of what is drawn, both even, as videos must be.
    """

    def __init__(self, id2label: Mapping[int, str], height: int, width: int):
        self._height, self._width = height, width
        self._names = dict(id2label)
        self._colours = class_palette(max(self._names) + 1)
        em = int(np.clip((height * width) ** 0.5 / 32, 11, 48))
        self._font = ImageFont.load_default(size=em)
        self._gap, self._row_height = max(3, em // 2), round(em * 1.6)
        self._numbers = round(self._font.getlength("100 %")) + self._gap
        names = min(max(map(self._font.getlength, self._names.values())), max(WIDEST * width, 8 * em))
        panel = 3 * self._gap + em + self._numbers + round(names)
        self.size = (width + panel + (width + panel) % 2, height + height % 2)
        self._chip = em
        self._blank = np.full((self.size[1], self.size[0], 3), PAPER, dtype=np.uint8)
        self._row = lru_cache(maxsize=KEPT_ROWS)(self._row_of)

    def __call__(self, pixels: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """
        Args:
            pixels (`np.ndarray` of shape `(height, width, 3)`): The frame, uint8 RGB.
            ids (`np.ndarray` of shape `(height, width)`): Its label map; pixels of no class, -1, stay as they are.

        Returns:
            `np.ndarray`: uint8 RGB of the drawing's size.
        """
        canvas = self._blank.copy()
        tint = self._colours.take(ids, axis=0, mode="clip")
        if (of_none := ids < 0).any():
            tint[of_none] = pixels[of_none]
        canvas[: self._height, : self._width] = cv2.addWeighted(pixels, 1 - OPACITY, tint, OPACITY, 0)
        canvas[self._height :, : self._width] = canvas[self._height - 1, : self._width]
        for place, (class_id, percent) in enumerate(self._shown(ids)):
            top = self._gap + place * self._row_height
            row = self._row(class_id, percent)[: max(0, self.size[1] - top)]
            canvas[top : top + len(row), self._width :] = row
        return canvas

    def _shown(self, ids: np.ndarray) -> list[tuple[int, int]]:
        """The classes in the panel with their shares in percent: all, or the largest where not all have room."""
        room = max(1, (self.size[1] - self._gap) // self._row_height)
        counts = np.bincount(ids[ids >= 0], minlength=len(self._colours))
        largest = sorted(self._names, key=lambda class_id: -counts[class_id])[:room]
        return [(class_id, round(100 * counts[class_id] / ids.size)) for class_id in sorted(largest)]

    def _row_of(self, class_id: int, percent: int) -> np.ndarray:
        """A row of the panel: a chip in the colour of the class, its share, its name."""
        image = Image.new("RGB", (self.size[0] - self._width, self._row_height), PAPER)
        draw = ImageDraw.Draw(image)
        middle, left = self._row_height // 2, self._gap
        colour = tuple(map(int, self._colours[class_id]))
        half = self._chip // 2
        draw.rectangle((left, middle - half, left + self._chip, middle + half), fill=colour)
        left += self._chip + self._numbers
        draw.text((left, middle), f"{percent} %", fill=INK, font=self._font, anchor="rm")
        name = "".join(letter if letter.isprintable() else " " for letter in self._names[class_id])
        draw.text((left + self._gap, middle), name, fill=INK, font=self._font, anchor="lm")
        return np.asarray(image)


__all__ = ["Drawing"]
