"""CVAT's XML for images, version 1.1."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.imports.export import ExportedImage, LabelledObject, ObjectExport, in_order, pixel_size
from lclipseg.data.imports.shapes import (
    Bitmap,
    CocoPolygons,
    Shape,
    box_corners,
    ellipse_corners,
    numbers_of,
    points_of,
)
from lclipseg.data.imports.source import Source, split_word

AREAS = ("polygon", "box", "mask", "ellipse", "polyline")
HEAD = 4096  # bytes of a file in which its root stands


class CvatExport(ObjectExport):
    """
    Polygons, masks, boxes and ellipses. What has the higher z-order lies on top, of equals the later. Polygons are
    filled as CVAT's own masks are, by COCO's tools.
    """

    name = "cvat"
    title = "CVAT's XML for images"
    smaller_on_top = False

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(_files(source))

    def read(self) -> list[ExportedImage]:
        images: list[ExportedImage] = []
        for path in _files(self.source):
            root = _parsed(path, self.source.shown(path))
            if root.find("track") is not None:
                raise InputError(f"{self.source.shown(path)} has tracks of a video; export 'CVAT for images 1.1'")
            self._labels(root, self.source.shown(path))
            images += [self._image(each, path, index) for index, each in enumerate(root.iter("image"))]
        if not images:
            raise InputError(f"{self.source.given} holds no XML file with images of CVAT's")
        if all(each.split is None for each in images):
            return images
        return [each for each in images if each.split is not None or self._unsplit(each)]

    def _unsplit(self, image: ExportedImage) -> bool:
        self.findings.not_annotated.append(f"{image.where} (in no split, while others are)")
        return False

    def _labels(self, root: Element, where: str) -> None:
        names = []
        for each in root.iterfind("meta//labels/label"):
            name, colour = (each.findtext("name") or "").strip(), (each.findtext("color") or "").strip()
            if not name:
                raise InputError(f"{where}: a label has no name")
            names.append(name)
            try:
                red, green, blue = bytes.fromhex(colour.removeprefix("#"))
            except ValueError:
                continue
            self.palette = {**self.palette, name: (red, green, blue)}
        self.classes = in_order([*self.classes, *(name for name in names if not self.ignore(name))])

    def _image(self, each: Element, path: Path, index: int) -> ExportedImage:
        name = each.get("name")
        where = f"{self.source.shown(path)}, image {each.get('id', index + 1)} ({name})"
        split = split_word(each.get("subset") or "") or self.source.folder_split(path)
        width, height = numbers_of([each.get("width"), each.get("height")], ["width", "height"], where)
        size = pixel_size({"width": width, "height": height}, "width", "height", where)
        shapes = [shape for shape in each if shape.tag not in ("tag", "attribute")]
        shapes.sort(key=lambda shape: int(_number(shape, "z_order", where, "0")))
        return ExportedImage(self.source.image(name, path.parent, where, split), where, shapes, split, size)

    def is_empty(self, image: ExportedImage) -> bool:
        return not image.annotation

    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        for index, each in enumerate(image.annotation):
            label = (each.get("label") or "").strip()
            where = f"{image.where}, {each.tag} {index + 1} ({label!r})"
            if label not in self.classes and not self.ignore(label):
                raise InputError(f"{where}: there is no such label; there are {self.classes}")
            shape = self._shape(each, (width, height), where)
            if each.tag == "box" and self.args.boxes == "ignore":
                yield LabelledObject(None, shape, where, "a box")
            else:
                yield LabelledObject(None if self.ignore(label) else label, shape, where, repr(label))

    def _shape(self, each: Element, size: tuple[int, int], where: str) -> Shape:
        if each.tag == "polygon":
            return CocoPolygons((points_of(_points(each, where), 3, where),))
        if each.tag == "polyline":
            return self.line(_points(each, where), "polyline", where)
        if each.tag == "mask":
            return _mask(each, size, where)
        if each.tag == "ellipse":
            x, y, across, down = _numbers(each, ("cx", "cy", "rx", "ry"), where)
            return CocoPolygons((ellipse_corners(x, y, across, down, _turn(each, where)),))
        if each.tag == "box":
            if self.args.boxes == "error":
                raise InputError(f"{where}: a box, which --boxes error does not allow")
            left, top, right, bottom = _numbers(each, ("xtl", "ytl", "xbr", "ybr"), where)
            return CocoPolygons((box_corners(left, top, right - left, bottom - top, _turn(each, where)),))
        raise InputError(f"{where} covers no area; only {', '.join(AREAS)} can be read")


def _files(source: Source) -> list[Path]:
    found = []
    for path in source.matching("*.xml"):
        with path.open("rb") as file:
            if b"<annotations" in file.read(HEAD):
                found.append(path)
    return found


def _parsed(path: Path, where: str) -> Element:
    from defusedxml import DefusedXmlException, ElementTree  # a library of the extra "import"

    try:
        root: Element = ElementTree.parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read as XML: {error!s:.200}") from error
    if root.tag != "annotations":
        raise InputError(f"{where}: the root is <{root.tag}>, not <annotations>")
    return root


def _mask(each: Element, size: tuple[int, int], where: str) -> Bitmap:
    """Run lengths along the rows of a box, the first of them outside."""
    left, top, width, height = map(int, _numbers(each, ("left", "top", "width", "height"), where))
    if min(left, top, width, height) < 0 or left + width > size[0] or top + height > size[1]:
        raise InputError(f"{where}: its box reaches out of the image of {size[0]} x {size[1]} pixels")
    try:
        runs = [int(run) for run in (each.get("rle") or "").split(",")]
    except ValueError as error:
        raise InputError(f"{where}: rle holds what is no number: {error}") from error
    if min(runs) < 0 or sum(runs) != width * height:
        raise InputError(f"{where}: rle has {sum(runs)} pixels, its box {width} x {height}")
    return Bitmap(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width), left, top)


def _points(each: Element, where: str) -> list[list[float]]:
    pairs = [pair.partition(",") for pair in (each.get("points") or "").split(";")]
    return [numbers_of([x, y], ("x", "y"), where) for x, _, y in pairs]


def _numbers(each: Element, names: tuple[str, ...], where: str) -> list[float]:
    return numbers_of([each.get(name) for name in names], names, where)


def _number(each: Element, name: str, where: str, default: str) -> float:
    return numbers_of([each.get(name, default)], [name], where)[0]


def _turn(each: Element, where: str) -> float:
    return _number(each, "rotation", where, "0")
