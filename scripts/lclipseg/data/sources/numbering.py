"""What the numbers or colours of a mask file mean: each numbering turns them to class ids, ignored pixels to 255."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.labelled import class_ids


class Numbering(ABC):
    """How the pixels of a mask file name the classes of a list."""

    is_coloured = False  # whether it reads RGB

    @abstractmethod
    def ids(self, values: np.ndarray, name: str) -> np.ndarray:
        """
        Args:
            values (`numpy.ndarray` of shape `(H, W)`, or `(H, W, 3)` where it `is_coloured`): the file's content.
            name (`str`): the file, for the error.

        Returns:
            `numpy.ndarray` of shape `(H, W)`, uint8: class ids, 255 where the pixel is ignored.

        Raises:
            [`InputError`]: a pixel can mean nothing.
        """


class Positions(Numbering):
    """The number is the class's position in the list (from 1 with `do_reduce_labels`); any other is an error."""

    def __init__(self, classes: ClassList):
        self.classes = classes

    def ids(self, values: np.ndarray, name: str) -> np.ndarray:
        return class_ids(values, self.classes, name)


class IdTable(Numbering):
    """Numbers of the publisher's own; those that the table lacks are ignored."""

    def __init__(self, numbers: Mapping[str, Sequence[int]], names: Sequence[str]):
        self.table = np.full(1 << 16, IGNORE_INDEX, dtype=np.uint8)
        for name, values in numbers.items():
            self.table[list(values)] = names.index(name)

    def ids(self, values: np.ndarray, name: str) -> np.ndarray:
        if values.dtype.kind not in "iub" or values.min() < 0 or values.max() >= len(self.table):
            raise InputError(
                f"{name}: a mask needs whole numbers 0 to {len(self.table) - 1}, got {values.dtype} from "
                f"{values.min()} to {values.max()}"
            )
        return self.table[values]


class Colours(Numbering):
    """RGB colours; those that the table lacks are ignored."""

    is_coloured = True

    def __init__(self, colours: Mapping[str, Sequence[Sequence[int]]], names: Sequence[str]):
        self.table = np.full(1 << 24, IGNORE_INDEX, dtype=np.uint8)
        for name, values in colours.items():
            for red, green, blue in values:
                self.table[red << 16 | green << 8 | blue] = names.index(name)

    def ids(self, values: np.ndarray, name: str) -> np.ndarray:
        red, green, blue = np.moveaxis(values.astype(np.int64), -1, 0)
        return self.table[red << 16 | green << 8 | blue]


def parse_numbering(content: Mapping[str, object], classes: ClassList, where: str) -> Numbering:
    """
    The numbering of a recipe or of one of its layouts.

    Args:
        content (`Mapping`): with `ids`, `{class: number or numbers}` or one number for each class, or with `colours`,
            `{class: [r, g, b] or a list of them}`; with neither, numbers are positions.
        classes ([`ClassList`]): the classes of the source.
        where (`str`): the file, for the error.

    Raises:
        [`InputError`]: a class that is none, or what is no number or colour.
    """
    key = "colours" if "colours" in content else "ids"
    table = content.get(key)
    if table is None:
        return Positions(classes)
    if key == "ids" and isinstance(table, list) and len(table) == len(classes.names):
        table = dict(zip(classes.names, table, strict=True))
    if not isinstance(table, dict):
        raise InputError(
            f"{where}: {key} must be {{class name: ...}}, or ids one for each of the classes, not {table!r}"
        )
    unknown = [name for name in table if name not in classes.names]
    if unknown:
        raise InputError(f"{where}: {key} of {unknown}, which are no classes; they are {list(classes.names)}")
    try:
        if key == "ids":
            return IdTable({name: _listed(value) for name, value in table.items()}, classes.names)
        return Colours({name: _listed(value, depth=2) for name, value in table.items()}, classes.names)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{where}: {key} holds what is no number or colour: {error}") from error


def _listed(value: Any, depth: int = 1) -> list:
    """One number or several as a list of numbers; with depth 2, one colour or several as a list of colours."""
    first = value
    for _ in range(depth - 1):
        first = first[0]
    return value if isinstance(first, list) else [value]
