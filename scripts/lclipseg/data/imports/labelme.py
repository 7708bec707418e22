"""LabelMe's JSON files, one an image."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.imports.export import ExportedImage, LabelledObject, ObjectExport, in_order, member, pixel_size
from lclipseg.data.imports.shapes import Bitmap, OutlinedBox, OutlinedPolygon, Shape, points_of
from lclipseg.data.imports.source import Source
from modeling_lclipseg.opening_lclipseg import open_image

PEEKED = 5  # JSON files that are looked into to recognise the format
BACKGROUND = "_background_"  # what LabelMe's own converter calls it


class LabelMeExport(ObjectExport):
    """
    Polygons, rectangles, circles and masks, as LabelMe draws them: with their outline, later ones on top. An image
    without a JSON file has not been labelled, and is left out.
    """

    name = "labelme"
    title = "LabelMe's JSON"
    smaller_on_top = False

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return any(_is_labelme(source, path) for path in source.matching("*.json")[:PEEKED])

    def read(self) -> list[ExportedImage]:
        images = []
        labels: set[str] = set()
        for path in self.source.matching("*.json"):
            content, where = self.source.json(path), self.source.shown(path)
            if not isinstance(content, dict) or not {"shapes", "imagePath"} & set(content):
                self.findings.notes.append(f"{where} is no file of LabelMe's, and left out")
                continue
            shapes = member(content, "shapes", list, where)
            for index, shape in enumerate(shapes):
                label = member(shape, "label", str, f"{where}, shape {index + 1}").strip()
                if not label:
                    raise InputError(f"{where}, shape {index + 1} has no label")
                labels.add(label)
            size = None
            if content.get("imageWidth") is not None or content.get("imageHeight") is not None:
                size = pixel_size(content, "imageWidth", "imageHeight", where)
            name = content.get("imagePath") or f"{path.stem}.jpg"
            split = self.source.folder_split(path)
            image = self.source.image(name, path.parent, where, split)
            images.append(ExportedImage(image, where, shapes, split, size))
        if not images:
            raise InputError(f"{self.source.given} holds no JSON file of LabelMe's")
        if BACKGROUND in labels:
            self.rest = BACKGROUND
        self.classes = in_order(sorted(label for label in labels if not self.ignore(label)))
        labelled = {each.file for each in images}
        if self.source.given.is_dir():
            self.findings.not_annotated += [self.source.shown(p) for p in self.source.image_files if p not in labelled]
        return images

    def is_empty(self, image: ExportedImage) -> bool:
        return not image.annotation

    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        for index, each in enumerate(image.annotation):
            label = each["label"].strip()
            where = f"{image.where}, shape {index + 1} ({label!r})"
            shape = self._shape(each, where)
            if each.get("shape_type") == "rectangle" and self.args.boxes == "ignore":
                yield LabelledObject(None, shape, where, "a box")
            else:
                yield LabelledObject(None if self.ignore(label) else label, shape, where, repr(label))

    def _shape(self, each: dict[str, Any], where: str) -> Shape:
        kind, given = each.get("shape_type") or "polygon", each.get("points")
        if kind in ("polygon", "oriented_rectangle"):
            return OutlinedPolygon(points_of(given, 3, where))
        if kind in ("line", "linestrip"):
            return self.line(given, kind, where)
        if kind == "point":
            raise InputError(f"{where}: a point covers no area; leave it out, or draw what it stands for")
        if kind not in ("rectangle", "circle", "mask"):
            raise InputError(f"{where}: there is no shape {kind!r}")
        if kind == "rectangle" and self.args.boxes == "error":
            raise InputError(f"{where}: a rectangle, which --boxes error does not allow")
        points = points_of(given, 2, where)
        if len(points) != 2:
            raise InputError(f"{where}: a {kind} has 2 points, not {len(points)}")
        if kind == "rectangle":
            return OutlinedBox(points)
        if kind == "circle":
            centre, radius = points[0], float(np.hypot(*(points[1] - points[0])))
            return OutlinedBox(np.array([centre - radius, centre + radius]), is_ellipse=True)
        return _bitmap(each.get("mask"), points, where)


def _bitmap(text: Any, points: np.ndarray, where: str) -> Bitmap:
    """A mask in its box: a PNG as text."""
    try:
        drawn = open_image(base64.b64decode(text, validate=True), name=where, formats=("PNG",))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: the mask is no PNG in base64: {error}") from error
    (left, top), (right, bottom) = np.trunc(points)
    covered = np.asarray(drawn.convert("L") if drawn.mode != "1" else drawn) > 0
    if covered.shape != (bottom - top + 1, right - left + 1):
        raise InputError(
            f"{where}: the mask is {covered.shape[1]} x {covered.shape[0]} pixels, its box "
            f"{right - left + 1:.0f} x {bottom - top + 1:.0f}"
        )
    return Bitmap(covered, int(left), int(top))


def _is_labelme(source: Source, path: Path) -> bool:
    try:
        content = source.json(path)
    except InputError:
        return False
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content
