"""COCO's JSON files: instances and stuff as polygons and run lengths, and panoptic segments."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.imports.export import ExportedImage, LabelledObject, ObjectExport, in_order, member, pixel_size
from lclipseg.data.imports.shapes import Bitmap, CocoPolygons, Shape, box_corners, numbers_of, points_of
from lclipseg.data.imports.source import Source
from lclipseg.data.sources.coco import checked_content, run_length_pixels, segment_numbers

BESIDE = re.compile("^(captions|person_keypoints|image_info)_")  # files of COCO's that hold no areas of their own
KIND = re.compile("^(instances|stuff|panoptic)_")


@dataclass(frozen=True)
class Panoptic:
    """The PNG of an image, and what its segments are."""

    png: Path
    segments: list[dict[str, Any]]
    where: str
    names: Mapping[int, str]


@dataclass(frozen=True)
class Instances:
    """The annotations of an image."""

    annotations: list[dict[str, Any]]
    file: str
    names: Mapping[int, str]
    size: tuple[int, int]


class CocoExport(ObjectExport):
    """
    JSON files of COCO's form. What no object covers is background in files of instances; in panoptic and stuff files,
    which name every pixel, it is not labelled. Crowds are not labelled either. Smaller objects lie on top.
    """

    name = "coco"
    title = "COCO's JSON"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(_files(source))

    def read(self) -> list[ExportedImage]:
        files = _files(self.source)
        if not files:
            raise InputError(f"{self.source.given} holds no JSON file with images, categories and annotations")
        if len(given := {kind.group(1) for path in files if (kind := KIND.match(path.name))}) > 1:
            raise InputError(
                f"{self.source.given} holds {' and '.join(sorted(given))} files of COCO's: name one of them as the "
                f"source, such as {files[0]}, and the folder of the images as --images"
            )
        images: list[ExportedImage] = []
        used: Counter[str] = Counter()
        groups: set[str] = set()
        kinds: set[str] = set()
        for path in files:
            content = checked_content(self.source.json(path), self.source.shown(path))
            names = self._categories(content, path, groups)
            is_panoptic = _is_panoptic(content)
            kinds.add("panoptic" if is_panoptic else "stuff" if path.name.startswith("stuff") else "instances")
            images += self._images(content, path, names, is_panoptic, used)
        if len(kinds) > 1:
            raise InputError(f"{self.source.given} holds {' and '.join(sorted(kinds))} files; name one as the source")
        self.rest = "background" if kinds == {"instances"} else None
        if unused := [name for name in self.classes if name in groups and not used[name]]:
            self.classes = [name for name in self.classes if name not in unused]
            self.findings.notes.append(f"categories that only group others are no classes: {', '.join(unused)}")
        return images

    def _categories(self, content: Mapping[str, Any], path: Path, groups: set[str]) -> dict[int, str]:
        """The name of every category by its id. Adds to `classes`, and the names of super-categories to `groups`."""
        names: dict[int, str] = {}
        for index, each in enumerate(_listed(content, "categories", self.source.shown(path))):
            where = f"{self.source.shown(path)}, category {index + 1}"
            number, name = member(each, "id", int, where), member(each, "name", str, where).strip()
            if names.setdefault(number, name) != name:
                raise InputError(f"{where}: the id {number} is that of {names[number]!r} already")
            if (group := each.get("supercategory")) and group != name:
                groups.add(str(group))
        self.classes = in_order([*self.classes, *(name for name in names.values() if not self.ignore(name))])
        return names

    def _images(
        self, content: Mapping[str, Any], path: Path, names: Mapping[int, str], is_panoptic: bool, used: Counter[str]
    ) -> Iterator[ExportedImage]:
        file = self.source.shown(path)
        of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for index, each in enumerate(_listed(content, "annotations", file)):
            where = _where(file, each, index)
            of_image[member(each, "image_id", int, where)].append(each)
            for one in member(each, "segments_info", list, where) if is_panoptic else [each]:
                number = member(one, "category_id", int, where)
                if number not in names:
                    raise InputError(f"{where}: there is no category {number}; there are {sorted(names)}")
                used[names[number]] += 1
        seen: set[int] = set()
        for index, each in enumerate(_listed(content, "images", file)):
            where = f"{file}, image {index + 1}"
            number = member(each, "id", int, where)
            if number in seen:
                raise InputError(f"{where}: a second image has the id {number}")
            seen.add(number)
            size, given = pixel_size(each, "width", "height", where), member(each, "file_name", str, where)
            split = self.source.split_of(path)
            image = self.source.image(given, path.parent, where, split)
            found = of_image.pop(number, [])
            annotation: Panoptic | Instances | None = Instances(found, file, names, size)
            if is_panoptic:
                annotation = self._panoptic(found, path, names, f"{where} ({given})")
            yield ExportedImage(image, f"{where} ({given})", annotation, split, size)
        if of_image:
            raise InputError(f"{file}: there are annotations of the image {next(iter(of_image))}, which is not listed")

    def _panoptic(
        self, found: list[dict[str, Any]], path: Path, names: Mapping[int, str], where: str
    ) -> Panoptic | None:
        if not found:
            return None
        name = member(found[0], "file_name", str, where)
        folder = path.with_suffix("")
        png = self.source.image(name, folder if folder.is_dir() else path.parent, f"{where}, segments")
        return Panoptic(png, [one for each in found for one in each["segments_info"]], where, names)

    def is_empty(self, image: ExportedImage) -> bool:
        return image.annotation is None or (
            isinstance(image.annotation, Instances) and not image.annotation.annotations
        )

    def draw(self, image: ExportedImage, height: int, width: int, ids: Mapping[str, int], rest: int) -> np.ndarray:
        if not isinstance(image.annotation, Panoptic):
            return super().draw(image, height, width, ids, rest)
        of = image.annotation
        numbers = segment_numbers(of.png)
        if numbers.shape != (height, width):
            raise InputError(
                f"{of.png} is {numbers.shape[1]} x {numbers.shape[0]} pixels, its image {width} x {height}"
            )
        mask = np.full(numbers.shape, rest, dtype=np.uint8)
        known = {0}  # what no segment covers
        for segment in of.segments:
            number, label = member(segment, "id", int, of.where), of.names[segment["category_id"]]
            is_crowd = bool(segment.get("iscrowd"))
            value = IGNORE_INDEX if is_crowd else ids.get(label, IGNORE_INDEX)
            mask[numbers == number] = value
            known.add(number)
            if value == IGNORE_INDEX:
                self.findings.ignored["a crowd" if is_crowd else repr(label)] += 1
            else:
                self.findings.objects[label] += 1
        if strange := set(np.unique(numbers).tolist()) - known:
            raise InputError(f"{of.where}: {of.png.name} shows the segment {min(strange)}, which has no category")
        return mask

    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        of: Instances = image.annotation
        for index, each in enumerate(of.annotations):
            where = f"{image.where}, {_where('', each, index)}"
            label = of.names[each["category_id"]]
            is_box = each.get("segmentation") in (None, [])
            shape = self._box(each, where) if is_box else self._shape(each, of.size, where)
            if each.get("iscrowd"):
                yield LabelledObject(None, shape, where, "a crowd")
            elif is_box and self.args.boxes == "ignore":
                yield LabelledObject(None, shape, where, "a box")
            else:
                yield LabelledObject(None if self.ignore(label) else label, shape, where, repr(label))

    def _box(self, each: Mapping[str, Any], where: str) -> Shape:
        if self.args.boxes in (None, "error"):
            raise InputError(
                f"{where} has no segmentation, only a box: these are data for detection. --boxes fill takes the boxes "
                "for areas, --boxes ignore leaves them unlabelled"
            )
        names = ("x", "y", "width", "height")
        values = member(each, "bbox", list, where)
        left, top, width, height = numbers_of((values + 4 * [None])[:4], names, where)
        return CocoPolygons((box_corners(left, top, width, height),))

    @staticmethod
    def _shape(each: Mapping[str, Any], size: tuple[int, int], where: str) -> Shape:
        segmentation = each.get("segmentation")
        if isinstance(segmentation, dict):
            width, height = size
            given = segmentation.get("size", [height, width])
            if given != [height, width]:
                raise InputError(f"{where}: run lengths of {given} (height, width) in an image of {[height, width]}")
            return Bitmap(run_length_pixels(segmentation, height, width, where))
        if isinstance(segmentation, list):
            rings = [segmentation] if isinstance(segmentation[0], (int, float)) else segmentation
            return CocoPolygons(tuple(points_of(ring, 3, where) for ring in rings))
        raise InputError(f"{where}: the segmentation is neither polygons nor run lengths: {segmentation!r:.60}")


def _files(source: Source) -> list[Path]:
    """The JSON files of COCO's form, without those that only accompany others."""
    found = [path for path in source.matching("*.json") if path == source.given or not BESIDE.match(path.name)]
    # A folder of one JSON file an image is another tool's: look into a few of each folder only.
    few: dict[Path, list[Path]] = defaultdict(list)
    for path in found:
        few[path.parent].append(path)
    return [path for paths in few.values() if len(paths) <= 20 for path in paths if _is_coco(source, path)]


def _is_coco(source: Source, path: Path) -> bool:
    try:
        content = source.json(path)
    except InputError:
        return source.given == path
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def _is_panoptic(content: Mapping[str, Any]) -> bool:
    first = next(iter(content["annotations"]), None) if isinstance(content["annotations"], list) else None
    return isinstance(first, dict) and "segments_info" in first


def _listed(content: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = member(content, key, list, where)
    for index, each in enumerate(values):
        if not isinstance(each, dict):
            raise InputError(f"{where}: entry {index + 1} of {key!r} is {each!r:.60}, not an object")
    return values


def _where(file: str, annotation: Any, index: int) -> str:
    number = annotation.get("id", f"number {index + 1}") if isinstance(annotation, dict) else f"number {index + 1}"
    return f"{file}, annotation {number}" if file else f"annotation {number}"
