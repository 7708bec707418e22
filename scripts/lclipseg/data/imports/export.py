"""What every reader of an export gives: its images, its classes, and the class id of every pixel."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import ImportArguments
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.imports.shapes import Line, Shape, points_of
from lclipseg.data.imports.source import Source

FARTHEST = 1.0  # how many times the image's size an outline may reach out of it
NOT_LABELLED = frozenset({"__ignore__", "ignore", "unlabeled", "unlabelled", "void"})  # names of no class


@dataclass
class Findings:
    """What was read and decided, for the words at the end."""

    objects: Counter[str] = field(default_factory=Counter)  # by class
    ignored: Counter[str] = field(default_factory=Counter)  # what became "not labelled", by its name
    overlapping: int = 0  # images in which objects of different classes overlap
    cut: list[str] = field(default_factory=list)  # objects that reach out of their image
    without_pixels: list[str] = field(default_factory=list)  # objects that cover no pixel
    not_annotated: list[str] = field(default_factory=list)  # images that nobody has labelled, which are left out
    unknown_values: Counter[str] = field(default_factory=Counter)  # pixels of each colour or number of no class
    notes: list[str] = field(default_factory=list)  # what a reader decided for the whole export


@dataclass(frozen=True)
class ExportedImage:
    """
    One image of an export.

    Args:
        file (`Path`): where it lies.
        where (`str`): its annotation, for messages.
        annotation (`Any`): what its reader needs for the mask.
        split (`str`, *optional*): the split that the export puts it in.
        size (`tuple[int, int]`, *optional*): width and height that the annotation means.
    """

    file: Path
    where: str
    annotation: Any
    split: str | None = None
    size: tuple[int, int] | None = None


class Export(ABC):
    """
    An export that has been opened: `name` is that of its format, `rest` what pixels are that it says nothing of unless
    --rest says otherwise: the name of a class, or `None` for "not labelled".
    """

    name: ClassVar[str]
    title: ClassVar[str]  # for messages: "a COCO export"
    rest: str | None = None

    def __init__(self, source: Source, args: ImportArguments):
        self.source, self.args, self.findings = source, args, Findings()
        self.classes: list[str] = []
        self.palette: Mapping[str, tuple[int, int, int]] = {}

    @classmethod
    @abstractmethod
    def recognises(cls, source: Source) -> bool:
        """Whether a source is of this format, by the names of its files and what they begin with."""

    @abstractmethod
    def read(self) -> list[ExportedImage]:
        """Read all annotations, set `classes`, and list the images. Raises [`InputError`] for what cannot be meant."""

    @abstractmethod
    def draw(self, image: ExportedImage, height: int, width: int, ids: Mapping[str, int], rest: int) -> np.ndarray:
        """
        The mask of an image.

        Args:
            height, width (`int`): its size in pixels, as the annotation means it.
            ids (`Mapping`): the id of each class that is kept.
            rest (`int`): the id of pixels that nothing is said of.

        Returns:
            `numpy.ndarray` of shape `(height, width)`, uint8.
        """

    def is_empty(self, image: ExportedImage) -> bool:
        """Whether somebody has looked at an image and found nothing on it."""
        return False

    def ignore(self, name: str) -> bool:
        """Whether a name means "not labelled" rather than a class."""
        return name.strip().lower() in NOT_LABELLED


@dataclass(frozen=True)
class LabelledObject:
    """
    An area and its class.

    Args:
        label (`str`, *optional*): the class; `None` is "not labelled".
        shape ([`Shape`]): the area.
        where (`str`): file, image and object, for messages.
        counted_as (`str`): what an area without class is: "a crowd".
    """

    label: str | None
    shape: Shape
    where: str
    counted_as: str = ""


class ObjectExport(Export):
    """An export of outlined objects; what none of them covers is background."""

    rest: str | None = "background"
    smaller_on_top: ClassVar[bool] = True  # else later ones lie on top

    @abstractmethod
    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        """The objects of an image of so many pixels, in their order."""

    def line(self, points: Any, kind: str, where: str) -> Line:
        """An open line. Raises [`InputError`] unless --line_width gives it an area."""
        if self.args.line_width is None:
            raise InputError(
                f"{where}: a {kind} covers no area; --line_width N draws it N pixels wide, or make it a polygon"
            )
        return Line(points_of(points, 2, where), self.args.line_width)

    def draw(self, image: ExportedImage, height: int, width: int, ids: Mapping[str, int], rest: int) -> np.ndarray:
        placed = []
        for each in self.objects(image, height, width):
            patch = self._patch(each, height, width)
            if patch is not None:
                placed.append((each, *patch))
        if self.smaller_on_top:
            placed.sort(key=lambda one: -np.count_nonzero(one[3]))
        mask = np.full((height, width), rest, dtype=np.uint8)
        claimed = np.zeros((height, width), dtype=bool)
        overlaps = False
        for each, top, left, covered in placed:
            window = np.s_[top : top + covered.shape[0], left : left + covered.shape[1]]
            value = IGNORE_INDEX if each.label is None else ids.get(each.label, IGNORE_INDEX)
            overlaps = overlaps or bool((claimed[window] & covered & (mask[window] != value)).any())
            mask[window][covered] = value
            claimed[window] |= covered
            if value == IGNORE_INDEX:
                self.findings.ignored[each.counted_as or f"{each.label!r}"] += 1
            else:
                self.findings.objects[str(each.label)] += 1
        self.findings.overlapping += overlaps
        return mask

    def _patch(self, each: LabelledObject, height: int, width: int) -> tuple[int, int, np.ndarray] | None:
        """Top, left and pixels of the box around what an object covers; `None` if that is nothing."""
        if len(corners := each.shape.corners):
            size = np.array([width, height])
            beyond = np.maximum(-corners, corners - size)
            if (beyond > FARTHEST * size).any():
                x, y = corners[(beyond > FARTHEST * size).any(axis=1)][0]
                raise InputError(
                    f"{each.where}: the corner ({x:g}, {y:g}) lies far outside of the image of {width} x {height} "
                    "pixels; were the coordinates made for another size?"
                )
            if (beyond > 1).any():  # tools let outlines end on the border, give or take a pixel
                self.findings.cut.append(each.where)
        covered = each.shape.pixels(height, width)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        if not len(rows):
            self.findings.without_pixels.append(each.where)
            return None
        return rows[0], columns[0], covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()


def in_order(names: Sequence[str]) -> list[str]:
    """Names, each once."""
    return list(dict.fromkeys(names))


def member(content: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value of a JSON object. Raises [`InputError`] if it is missing or of another type."""
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{where}: {key!r} must be there as {wanted}, got {value!r:.60}")
    return value


def pixel_size(content: Any, width: str, height: str, where: str) -> tuple[int, int]:
    """Width and height of an image as an annotation has them."""
    size = (member(content, width, (int, float), where), member(content, height, (int, float), where))
    if not all(1 <= side < 1 << 31 and side == int(side) for side in size):
        raise InputError(f"{where}: {width} x {height} is {size[0]} x {size[1]}; that is no size of an image")
    return int(size[0]), int(size[1])
