"""Label Studio's JSON export: brush strokes, polygons, rectangles and ellipses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.imports.export import ExportedImage, LabelledObject, ObjectExport, in_order, member, pixel_size
from lclipseg.data.imports.shapes import (
    Bitmap,
    CocoPolygons,
    Shape,
    ellipse_corners,
    numbers_of,
    points_of,
    turned,
)
from lclipseg.data.imports.source import Source

PEEKED = 5
KINDS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
CHANNELS = 4  # of a brush stroke: red, green, blue and the one that counts
HALF = 127  # a pixel that a stroke covers at least half


class LabelStudioExport(ObjectExport):
    """
    The format "JSON". Of several annotations of a task the one marked as ground truth counts, else the last one that
    was not cancelled. Smaller objects lie on top. Tasks without an annotation are left out.
    """

    name = "label-studio"
    title = "Label Studio's JSON"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return any(_is_label_studio(source, path) for path in source.matching("*.json")[:PEEKED])

    def read(self) -> list[ExportedImage]:
        files = [path for path in self.source.matching("*.json") if _is_label_studio(self.source, path)]
        if not files:
            raise InputError(f"{self.source.given} holds no list of tasks; export Label Studio's format JSON")
        images: list[ExportedImage] = []
        several = 0
        self.of_whole_images = 0
        for path in files:
            for index, task in enumerate(self.source.json(path)):
                number = task.get("id", index + 1) if isinstance(task, dict) else index + 1
                where = f"{self.source.shown(path)}, task {number}"
                name = _image_name(member(task, "data", dict, where), where)
                found = [each for each in member(task, "annotations", list, where) if not _is_cancelled(each)]
                if not found:
                    self.findings.not_annotated.append(f"{name} (task {number})")
                    continue
                several += len(found) > 1
                chosen = next((each for each in found if each.get("ground_truth")), found[-1])
                where = f"{where}, annotation {chosen.get('id', '')}".rstrip()
                results = [each for each in member(chosen, "result", list, where) if self._is_area(each, where)]
                size = None
                for each in results:
                    one = pixel_size(each, "original_width", "original_height", where)
                    if size not in (None, one):
                        raise InputError(f"{where}: regions of {size} and of {one} pixels in one image")
                    size = one
                image = self.source.image(name, path.parent, where)
                images.append(ExportedImage(image, where, results, self.source.folder_split(path), size))
        self.classes = in_order(
            sorted({_label(one, image.where) for image in images for one in image.annotation if one})
        )
        self.classes = [name for name in self.classes if not self.ignore(name)]
        if several:
            self.findings.notes.append(
                f"tasks with several annotations: {several}; the one that is ground truth counts, else the last"
            )
        if self.of_whole_images:
            self.findings.notes.append(f"results that say nothing of pixels, such as choices: {self.of_whole_images}")
        return images

    def _is_area(self, each: Any, where: str) -> bool:
        """Whether a result is a region; others, such as a choice for the whole image, say nothing of pixels."""
        kind = member(each, "type", str, where).lower()
        if kind in ("keypointlabels", "videorectangle", "brush", "polygon", "rectangle", "ellipse", "vectorlabels"):
            raise InputError(
                f"{where}, region {each.get('id', '')}: {kind!r} has no class or no area; only {', '.join(KINDS)} "
                "can be read"
            )
        if kind not in KINDS:
            self.of_whole_images += 1
            return False
        return True

    def is_empty(self, image: ExportedImage) -> bool:
        return not image.annotation

    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        for each in image.annotation:
            label = _label(each, image.where)
            where = f"{image.where}, region {each.get('id', '')} ({label!r})"
            if float(each.get("image_rotation") or 0) % 360:
                raise InputError(f"{where}: the image was turned by {each['image_rotation']} degrees to label it")
            is_box = each["type"].lower() == "rectanglelabels"
            if is_box and self.args.boxes == "error":
                raise InputError(f"{where}: a rectangle, which --boxes error does not allow")
            shape = _shape(each, where)
            if is_box and self.args.boxes == "ignore":
                yield LabelledObject(None, shape, where, "a box")
            else:
                yield LabelledObject(None if self.ignore(label) else label, shape, where, repr(label))


def _shape(each: dict[str, Any], where: str) -> Shape:
    """The area of a region; coordinates are percent of the image's size."""
    value, kind = member(each, "value", dict, where), each["type"].lower()
    width, height = pixel_size(each, "original_width", "original_height", where)
    if kind == "brushlabels":
        return Bitmap(brush_pixels(value.get("rle"), height, width, where))
    scale = np.array([width, height]) / 100
    if kind == "polygonlabels":
        return CocoPolygons((points_of(value.get("points"), 3, where) * scale,))
    names = ("x", "y", "radiusX", "radiusY") if kind == "ellipselabels" else ("x", "y", "width", "height")
    x, y, across, down = np.array(numbers_of([value.get(name) for name in names], names, where)) * [*scale, *scale]
    (degrees,) = numbers_of([value.get("rotation") or 0], ["rotation"], where)
    if kind == "ellipselabels":
        return CocoPolygons((ellipse_corners(x, y, across, down, degrees),))
    corners = np.array([[x, y], [x + across, y], [x + across, y + down], [x, y + down]])
    return CocoPolygons((turned(corners, corners[0], degrees),))  # about the upper left corner


def brush_pixels(rle: Any, height: int, width: int, where: str) -> np.ndarray:
    """
    The pixels of a brush stroke.

    Args:
        rle (`list[int]`): bytes. Their bits: 32 for the number of values, 5 for the bits of a value less one, four
            times 4 for the bits of a length less one. Then runs: one bit whether all values of the run are equal, two
            that choose one of the four sizes, the length less one, and the value, or as many values as it is long.
        height, width (`int`): the image's size; the values are its pixels with four channels each.
        where (`str`): the region, for the error.

    Returns:
        `numpy.ndarray` of shape `(height, width)`, bool: where the fourth channel is above 127.

    Raises:
        [`InputError`]: the bits end too early, or are of another size.
    """
    try:
        bits = _Bits(bytes(rle))
        count, word, *sizes = bits.read(32), bits.read(5) + 1, *(bits.read(4) + 1 for _ in range(4))
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: the brush stroke is no list of bytes: {error}") from error
    if count != height * width * CHANNELS or word != 8:
        raise InputError(
            f"{where}: the brush stroke has {count} values of {word} bits, not {height * width * CHANNELS} of 8 for "
            f"{width} x {height} pixels"
        )
    values = np.zeros(count, dtype=np.uint8)
    at = 0
    try:
        while at < count:
            is_equal = bits.read(1)
            end = at + 1 + bits.read(sizes[bits.read(2)])
            if end > count:
                raise ValueError("a run reaches beyond the end")
            values[at:end] = bits.read(word) if is_equal else bits.words(end - at)
            at = end
    except ValueError as error:
        raise InputError(f"{where}: the brush stroke is damaged: {error}") from error
    return values.reshape(height, width, CHANNELS)[..., 3] > HALF


class _Bits:
    """Numbers from bytes, the highest bit first."""

    def __init__(self, content: bytes):
        self.bits, self.at = np.unpackbits(np.frombuffer(content, dtype=np.uint8)), 0

    def read(self, length: int) -> int:
        return int("".join("1" if bit else "0" for bit in self._take(length)), 2)

    def words(self, count: int) -> np.ndarray:
        """So many numbers of 8 bits."""
        return np.packbits(self._take(8 * count))

    def _take(self, length: int) -> np.ndarray:
        taken = self.bits[self.at : self.at + length]
        if len(taken) < length:
            raise ValueError("it ends too early")
        self.at += length
        return taken


def _label(each: dict[str, Any], where: str) -> str:
    """The class of a region."""
    labels = member(each, "value", dict, where).get(each["type"].lower())
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str) or not labels[0].strip():
        raise InputError(f"{where}, region {each.get('id', '')}: it must have one class, got {labels!r:.60}")
    return labels[0].strip()


def _image_name(data: dict[str, Any], where: str) -> str:
    """The name of a task's image: an address, a path, or that of a local file behind `?d=`."""
    names = [
        value for key, value in data.items() if isinstance(value, str) and ("image" in key.lower() or "/" in value)
    ]
    if not names:
        raise InputError(f"{where}: its data name no image: {sorted(data)}")
    return names[0].partition("?d=")[2] or names[0]


def _is_cancelled(annotation: Any) -> bool:
    return not isinstance(annotation, dict) or bool(annotation.get("was_cancelled"))


def _is_label_studio(source: Source, path: Path) -> bool:
    try:
        content = source.json(path)
    except InputError:
        return False
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and isinstance(first.get("data"), dict) and "annotations" in first
