"""Labelled images from a folder, a Hub data set, a parquet file or a zip, all behind one contract.

Every source gives [`Sample`]s: an upright RGB image and a map of class ids in which ignored pixels are 255. Every id
is checked against the class list when a mask is read, and the error names the file.

A folder holds `classes.json` and images and masks, as splits.py and pairs.py say.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from lclipseg.console.errors import InputError, naming
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.layout import ALL_PROBLEMS
from modeling_lclipseg.inputs_lclipseg import to_mask, to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image


class UnreadableError(InputError):
    """An image or a mask cannot be decoded: it is damaged, cut short, too large or no image at all."""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Args:
        image (`PIL.Image.Image`): upright RGB image of size (W, H).
        mask (`numpy.ndarray` of shape `(H, W)`, uint8): class ids, 255 = ignored.
        name (`str`): its stem in a folder, or its split and row.
    """

    image: Image.Image
    mask: np.ndarray  # (H, W)
    name: str


def class_ids(values: np.ndarray, classes: ClassList, name: str) -> np.ndarray:
    """Map the numbers of a mask file to class ids.

    Args:
        values (`numpy.ndarray` of shape `(H, W)`): numbers as they stand in the file.
        classes ([`ClassList`]): which of them are classes, and which mean "not labelled".
        name (`str`): the file, for the error.

    Returns:
        `numpy.ndarray` of shape `(H, W)`, uint8: 0 to K - 1, or 255 where the pixel is ignored.

    Raises:
        [`InputError`]: a number is neither a class nor ignored.
    """
    ids, wrong = map_ids(values, classes)
    if wrong.any():
        first = int(classes.do_reduce_labels)
        found = np.unique(values[wrong]).tolist()
        shown = ", ".join(map(str, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise InputError(
            f"{name} holds the id {shown}, but the {len(classes.names)} classes have {first} to "
            f"{len(classes.names) - 1 + first} and ignored pixels 255. If it means 'not labelled', set ignore_index "
            f"in {CLASSES_FILE}; if the ids count from 1, set do_reduce_labels there. {ALL_PROBLEMS}"
        )
    return ids


def map_ids(values: np.ndarray, classes: ClassList) -> tuple[np.ndarray, np.ndarray]:
    """As [`class_ids`] for numbers of any shape, which may be wrong: class ids (255 there), and which ones are."""
    ids = values.astype(np.int64)
    ignored = ids == IGNORE_INDEX
    if classes.ignore_index is not None:
        ignored |= ids == classes.ignore_index
    if classes.do_reduce_labels:
        ignored |= ids == 0
        ids -= 1
    wrong = ~ignored & ((ids < 0) | (ids >= len(classes.names)))
    ids[ignored | wrong] = IGNORE_INDEX
    return ids.astype(np.uint8), wrong


def check_sample(
    image: Image.Image, mask: Image.Image, classes: ClassList, name: str, image_name: str, mask_name: str
) -> Sample:
    """Make a sample of two decoded images; `image_name` and `mask_name` stand for them in the errors.

    Raises:
        [`InputError`]: the mask is no map of class ids, has an id that is no class, or another size than the image.
    """
    try:
        upright = to_rgb_image(image)
    except ValueError as error:
        raise InputError(naming(image_name, error)) from error
    try:
        values = to_mask(mask)
    except ValueError as error:
        raise InputError(naming(mask_name, error)) from error
    height, width = values.shape
    if upright.size != (width, height):
        raise InputError(
            f"{image_name} is {image.width} x {image.height} (width x height, upright), its mask {mask_name} is "
            f"{width} x {height}: they must be equal. {ALL_PROBLEMS}"
        )
    return Sample(image=upright, mask=class_ids(values, classes, mask_name), name=name)


def read_sample(image: Path, mask: Path, classes: ClassList, name: str) -> Sample:
    """Decode and check a pair of files."""
    try:
        opened, drawn = open_image(image), open_image(mask)
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    return check_sample(opened, drawn, classes, name, str(image), str(mask))


class SegmentationData(ABC):
    """A finite set of labelled images that can be indexed.

    Args:
        classes ([`ClassList`]): what the mask ids mean.
        names (`list[str]`): one name for each sample.
        cache (`bool`): whether to keep decoded samples in memory; a worker process keeps its own.
    """

    def __init__(self, classes: ClassList, names: Sequence[str], cache: bool = False):
        self.classes = classes
        self.names = list(names)
        self._cached: list[tuple[np.ndarray, np.ndarray] | None] | None = [None] * len(self.names) if cache else None

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """Decode one sample."""

    def fingerprint(self) -> str:
        """What stays the same while the data do, wherever they lie; nothing is decoded for it."""
        return sha256("\n".join(self.names).encode()).hexdigest()

    def share(self, process: int, num_processes: int, limit: int | None = None) -> "Subset[Sample]":
        """Every sample, or every one of the first `limit`, belongs to exactly one of the processes: those of one."""
        end = len(self) if limit is None else min(limit, len(self))
        return Subset(cast(Any, self), range(process, end, num_processes))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if self._cached is None:
            return self._read(index)
        kept = self._cached[index]
        if kept is None:
            sample = self._read(index)
            kept = self._cached[index] = (np.asarray(sample.image), sample.mask)
        pixels, mask = kept
        return Sample(image=Image.fromarray(pixels), mask=mask.copy(), name=self.names[index])


class FolderData(SegmentationData):
    """Pairs of image and mask files."""

    def __init__(self, classes: ClassList, pairs: Mapping[str, tuple[Path, Path]], cache: bool = False):
        super().__init__(classes, list(pairs), cache)
        self.pairs = list(pairs.values())

    def fingerprint(self) -> str:
        digest = sha256()
        for name, (image, mask) in zip(self.names, self.pairs, strict=True):
            digest.update(f"{name}\0{image.stat().st_size}\0{mask.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _read(self, index: int) -> Sample:
        image, mask = self.pairs[index]
        return read_sample(image, mask, self.classes, self.names[index])
