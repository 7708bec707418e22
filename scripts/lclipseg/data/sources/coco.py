"""Masks from COCO's JSON files: panoptic segments, and instances as polygons or run lengths."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.sources.masks import MaskReader, decoded

LONGEST_RUN = 60  # bits of a run's length: far more than an image has pixels


class CocoFile:
    """
    A JSON file of COCO: its images, categories and annotations.

    Args:
        path (`Path`): the file.
        names (`Sequence[str]`): the classes; a category is the class of its name (an underscore is a space), any other
            category is ignored.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self.path, self.names = path, names

    @cached_property
    def content(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be read as JSON: {error}") from error
        return checked_content(content, str(self.path))

    @cached_property
    def class_of(self) -> dict[int, int]:
        """The class id of every category."""
        position = {name: index for index, name in enumerate(self.names)}
        spelt = {each["id"]: each["name"].replace("_", " ") for each in self.content["categories"]}
        return {number: position.get(name, IGNORE_INDEX) for number, name in spelt.items()}

    @cached_property
    def images(self) -> dict[str, Mapping[str, Any]]:
        return {Path(each["file_name"]).stem: each for each in self.content["images"]}

    @cached_property
    def annotations(self) -> dict[int, list[Mapping[str, Any]]]:
        """The annotations of every image, by its id."""
        found = defaultdict(list)
        for each in self.content["annotations"]:
            found[each["image_id"]].append(each)
        return found

    def image(self, file: Path) -> Mapping[str, Any]:
        if file.stem not in self.images:
            raise InputError(f"{self.path} has no image {file.name}")
        return self.images[file.stem]


def checked_content(content: Any, where: str) -> dict[str, Any]:
    """What a JSON file of COCO holds. Raises [`InputError`] if it lacks one of its three lists."""
    if not isinstance(content, dict) or {"images", "categories", "annotations"} - set(content):
        raise InputError(f"{where} needs the keys images, categories and annotations, as COCO's files")
    return content


class PanopticMasks(MaskReader):
    """PNGs whose colours are numbers of segments, R + 256 G + 65536 B, which a JSON file gives categories."""

    def __init__(self, segments: Path, names: Sequence[str]):
        self.file = CocoFile(segments, names)

    def read(self, mask: Path, image: Path) -> np.ndarray:
        found = self.file.annotations[self.file.image(image)["id"]]
        numbers = segment_numbers(mask)
        ids = np.full(numbers.shape, IGNORE_INDEX, dtype=np.uint8)
        for segment in (segment for each in found for segment in each["segments_info"]):
            if not segment.get("iscrowd"):
                ids[numbers == segment["id"]] = self.file.class_of[segment["category_id"]]
        return ids


def segment_numbers(mask: Path) -> np.ndarray:
    """The number of the segment of every pixel of a panoptic PNG: `(H, W)`, int64, 0 where there is none."""
    pixels = np.asarray(decoded(mask).convert("RGB")).astype(np.int64)
    return pixels @ np.array([1, 256, 65536])


class InstanceMasks(MaskReader):
    """
    Instances painted to one map, the larger ones first, so that smaller ones stay visible; crowds are ignored.

    Args:
        instances (`Path`): the JSON file.
        names (`Sequence[str]`): the classes.
        rest (`int`): class id of the pixels that no instance covers.
    """

    def __init__(self, instances: Path, names: Sequence[str], rest: int):
        self.file, self.rest = CocoFile(instances, names), rest

    def read(self, mask: Path, image: Path) -> np.ndarray:
        entry = self.file.image(image)
        height, width = entry["height"], entry["width"]
        ids = np.full((height, width), self.rest, dtype=np.uint8)
        for each in sorted(self.file.annotations[entry["id"]], key=lambda each: -each.get("area", 0)):
            is_crowd = bool(each.get("iscrowd"))
            covered = covered_pixels(each["segmentation"], height, width, where=f"{mask}, image {image.name}")
            ids[covered] = IGNORE_INDEX if is_crowd else self.file.class_of[each["category_id"]]
        return ids


def covered_pixels(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """
    The pixels of a COCO segmentation.

    Args:
        segmentation (`list` or `dict`): polygons `[[x, y, x, y, ...], ...]` in pixels, or run lengths
            `{"counts": ...}` down the columns, as numbers or as COCO's text.
        height, width (`int`): the image's size.
        where (`str`): what it belongs to, for the error.

    Returns:
        `numpy.ndarray` of shape `(height, width)`, bool.

    Raises:
        [`InputError`]: the runs do not fill the image, or it is neither.
    """
    if isinstance(segmentation, list):
        canvas = Image.new("1", (width, height))
        for polygon in segmentation:
            if len(polygon) >= 6:  # three corners
                ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        return np.asarray(canvas)
    return run_length_pixels(segmentation, height, width, where)


def run_length_pixels(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """As [`covered_pixels`] for run lengths alone."""
    counts = segmentation.get("counts") if isinstance(segmentation, dict) else None
    try:
        runs = run_lengths(counts) if isinstance(counts, str) else counts
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error
    if (
        not isinstance(runs, list)
        or not all(type(run) is int and run >= 0 for run in runs)
        or sum(runs) != height * width
    ):
        raise InputError(f"{where}: a segmentation is neither polygons nor run lengths of {height} x {width} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def run_lengths(text: str) -> list[int]:
    """
    The numbers that COCO's text of run lengths holds: base 32 in characters from "0", the lowest digit first; from the
    fourth on, differences to the last but one. Raises ValueError for a text that is none.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > LONGEST_RUN:
            raise ValueError(f"the text of run lengths holds {character!r}, or a number that never ends")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:  # the last digit; its highest bit is the sign
            if digit & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
