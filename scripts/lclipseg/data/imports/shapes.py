"""Areas as labelling tools outline them, and the pixels that each covers: drawn as the tool itself draws them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lclipseg.console.errors import InputError

ELLIPSE_CORNERS = 360


class Shape(ABC):
    """An area in the pixels of an image: (0, 0) is the upper left corner of the upper left pixel."""

    @property
    def corners(self) -> np.ndarray:
        """Points (N, 2), x and y, between which it lies; none where it cannot reach out of the image."""
        return np.zeros((0, 2))

    @abstractmethod
    def pixels(self, height: int, width: int) -> np.ndarray:
        """The pixels of an image that it covers: `(height, width)`, bool."""


@dataclass(frozen=True)
class CocoPolygons(Shape):
    """Polygons as COCO's own tools fill them; together they are one object."""

    rings: tuple[np.ndarray, ...]  # each (N, 2)

    @property
    def corners(self) -> np.ndarray:
        return np.concatenate(self.rings)

    def pixels(self, height: int, width: int) -> np.ndarray:
        from pycocotools import mask  # a library of the extra "import"

        drawn = mask.frPyObjects([ring.ravel().tolist() for ring in self.rings], height, width)
        return mask.decode(mask.merge(drawn)).astype(bool)


@dataclass(frozen=True)
class OutlinedPolygon(Shape):
    """A polygon filled by Pillow, pixels of the outline included, as LabelMe does."""

    points: np.ndarray  # (N, 2)

    @property
    def corners(self) -> np.ndarray:
        return self.points

    def pixels(self, height: int, width: int) -> np.ndarray:
        canvas = Image.new("1", (width, height))
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in self.points.tolist()], fill=1, outline=1)
        return np.array(canvas)


@dataclass(frozen=True)
class OutlinedBox(Shape):
    """What lies between two opposite corners, filled by Pillow as LabelMe does; or the ellipse inside of it."""

    points: np.ndarray  # (2, 2)
    is_ellipse: bool = False

    @property
    def corners(self) -> np.ndarray:
        return self.points

    def pixels(self, height: int, width: int) -> np.ndarray:
        canvas = Image.new("1", (width, height))
        draw = ImageDraw.Draw(canvas)
        box = [*self.points.min(axis=0).tolist(), *self.points.max(axis=0).tolist()]
        (draw.ellipse if self.is_ellipse else draw.rectangle)(box, fill=1, outline=1)
        return np.array(canvas)


@dataclass(frozen=True)
class Line(Shape):
    """A line of some width in pixels, drawn by Pillow."""

    points: np.ndarray  # (N, 2)
    width: int

    @property
    def corners(self) -> np.ndarray:
        return self.points

    def pixels(self, height: int, width: int) -> np.ndarray:
        canvas = Image.new("1", (width, height))
        ImageDraw.Draw(canvas).line([(x, y) for x, y in self.points.tolist()], fill=1, width=self.width)
        return np.array(canvas)


@dataclass(frozen=True)
class Bitmap(Shape):
    """Pixels as they are, from (left, top) on; what lies outside of the image is cut off."""

    covered: np.ndarray  # (h, w) bool
    left: int = 0
    top: int = 0

    @property
    def corners(self) -> np.ndarray:
        height, width = self.covered.shape
        return np.array([[self.left, self.top], [self.left + width, self.top + height]], dtype=float)

    def pixels(self, height: int, width: int) -> np.ndarray:
        canvas = np.zeros((height, width), dtype=bool)
        top, left = max(self.top, 0), max(self.left, 0)
        part = self.covered[top - self.top :, left - self.left :][: max(height - top, 0), : max(width - left, 0)]
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        return canvas


def points_of(values: Any, least: int, where: str) -> np.ndarray:
    """
    Corners from a list of [x, y], or of x, y, x, y, ... in turn.

    Raises:
        [`InputError`]: fewer than `least`, or what is no finite number.
    """
    try:
        points = np.asarray(values, dtype=np.float64)
        points = points.reshape(-1, 2) if points.ndim < 2 else points
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: the corners are no pairs of numbers: {_cut(values)}") from error
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError(f"{where}: the corners are no pairs of finite numbers: {_cut(values)}")
    if len(points) < least:
        raise InputError(f"{where}: {len(points)} corners, where at least {least} make an area")
    return points


def box_corners(left: float, top: float, width: float, height: float, degrees: float = 0.0) -> np.ndarray:
    """The four corners of a box, turned clockwise about its centre: `(4, 2)`."""
    right, bottom = left + width, top + height
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return turned(corners, np.array([left + width / 2, top + height / 2]), degrees)


def ellipse_corners(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> np.ndarray:
    """Corners of a polygon that an ellipse about (x, y) is drawn as, turned clockwise: `(360, 2)`."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    ring = np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)
    return turned(ring, np.array([x, y]), degrees)


def turned(points: np.ndarray, centre: np.ndarray, degrees: float) -> np.ndarray:
    """Points turned clockwise, as y grows downwards."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (points - centre) @ turn + centre


def numbers_of(values: Sequence[Any], names: Sequence[str], where: str) -> list[float]:
    """Finite numbers, which may stand there as text. Raises [`InputError`] if one is missing or none."""
    found = []
    for name, value in zip(names, values, strict=True):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise InputError(f"{where}: {name} is {_cut(value)}, not a number")
        found.append(number)
    return found


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
