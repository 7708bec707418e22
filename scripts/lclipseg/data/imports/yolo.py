"""YOLO's text files of polygons, one an image, and the data.yaml that names classes and splits."""

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text, read_yaml
from lclipseg.data.imports.export import ExportedImage, LabelledObject, ObjectExport, in_order
from lclipseg.data.imports.shapes import CocoPolygons, OutlinedPolygon, Shape, box_corners, points_of
from lclipseg.data.imports.source import Source, split_word

SPLITS = ("train", "val", "valid", "test")


class YoloExport(ObjectExport):
    """
    Lines `class x y x y ...` with coordinates from 0 to 1 of the upright image. An image without a text file, or with
    an empty one, shows no object, as in YOLO's own training. Smaller objects lie on top, as there.
    """

    name = "yolo"
    title = "YOLO's polygons"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(_tables(source))

    def read(self) -> list[ExportedImage]:
        tables = _tables(self.source)
        if len(tables) != 1:
            found = ", ".join(self.source.shown(path) for path in tables) or "none"
            raise InputError(
                f"{self.source.given} needs one data.yaml with the names of the classes; there is {found}"
            )
        (table,) = tables
        content = read_yaml(table)
        self.names = _names(content, self.source.shown(table))
        self.classes = in_order([name for name in self.names.values() if not self.ignore(name)])
        labels = {path for path in self.source.matching("*.txt") if "labels" in path.parts}
        if self.source.given.is_file():
            labels = {path for path in Source(self.source.root).matching("*.txt") if "labels" in path.parts}
        images: list[ExportedImage] = []
        for split, folder in self._folders(content, table):
            within = [path for path in self.source.image_files if path.is_relative_to(folder)]
            if not within:
                raise InputError(f"{self.source.shown(table)}: {folder} holds no images")
            images += [self._image(path, split, labels) for path in within]
        files = {each.annotation for each in images}
        if unused := sorted(labels - files):
            self.findings.notes.append(
                f"label files without an image: {len(unused)}, left out, for example {self.source.shown(unused[0])}"
            )
        return images

    def _folders(self, content: Mapping[str, Any], table: Path) -> Iterator[tuple[str | None, Path]]:
        """The folder of images of every split; paths of another machine are found by their end."""
        given = [(split, content[split]) for split in SPLITS if content.get(split)]
        where = self.source.shown(table)
        folders = {path.parent for path in self.source.image_files}
        folders |= {
            parent for folder in set(folders) for parent in folder.parents if parent.is_relative_to(self.source.root)
        }
        for split, paths in given:
            for path in paths if isinstance(paths, list) else [paths]:
                if not isinstance(path, str) or path.endswith(".txt"):
                    raise InputError(f"{where}: {split} is {path!r}; only a folder of images can be read")
                folder = self._folder(path, folders)
                if folder is not None:
                    yield split_word(split), folder
                elif split == "train":
                    raise InputError(f"{where}: train is {path!r}, which is no folder of images in {self.source.root}")
                else:
                    self.findings.notes.append(
                        f"{where}: {split} is {path!r}, which is not there: there is no such split"
                    )
        if not given:
            yield None, self.source.root

    @staticmethod
    def _folder(name: str, folders: set[Path]) -> Path | None:
        """The folder whose path ends as a name does: in at least two parts, as "images" alone is in every split."""
        parts = [
            part for part in posixpath.normpath(name.replace("\\", "/")).split("/") if part not in ("", ".", "..")
        ]
        for length in range(len(parts), min(1, len(parts) - 1), -1):
            same = [folder for folder in folders if folder.parts[-length:] == tuple(parts[-length:])]
            if same:
                return min(same, key=lambda folder: len(folder.parts))
        return None

    def _image(self, path: Path, split: str | None, labels: set[Path]) -> ExportedImage:
        """The label file of images/.../a.jpg is labels/.../a.txt."""
        parts = list(path.parts)
        file = None
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            file = Path(*parts[:last], "labels", *parts[last + 1 :]).with_suffix(".txt")
        if file not in labels:
            file = path.with_suffix(".txt") if path.with_suffix(".txt") in labels else None
        return ExportedImage(path, self.source.shown(file or path), file, split)

    def is_empty(self, image: ExportedImage) -> bool:
        return image.annotation is None or not _text(image.annotation, image.where).split()

    def objects(self, image: ExportedImage, height: int, width: int) -> Iterator[LabelledObject]:
        if image.annotation is None:
            return
        for index, line in enumerate(_text(image.annotation, image.where).splitlines()):
            if not line.strip():
                continue
            where = f"{image.where}, line {index + 1}"
            first, *rest = line.split()
            if not first.isdigit() or int(first) not in self.names:
                raise InputError(f"{where}: {first!r} is no class; data.yaml has {sorted(self.names)}")
            label = self.names[int(first)]
            try:
                values = [float(value) for value in rest]
            except ValueError:
                raise InputError(f"{where}: {line[:60]!r} is not a class and numbers") from None
            if values and max(map(abs, values)) > 2:
                raise InputError(f"{where}: coordinates are parts of the image's size, 0 to 1, not {max(values):g}")
            is_box = len(values) in (4, 5)  # centre and size, of predictions with a confidence
            shape = self._box(values, width, height, where) if is_box else self._polygon(values, width, height, where)
            if is_box and self.args.boxes == "ignore":
                yield LabelledObject(None, shape, where, "a box")
            else:
                yield LabelledObject(None if self.ignore(label) else label, shape, where, repr(label))

    @staticmethod
    def _polygon(values: list[float], width: int, height: int, where: str) -> Shape:
        # YOLO's training cuts the corners to whole pixels and fills them with their outline.
        return OutlinedPolygon(np.trunc(points_of(values, 3, where) * [width, height]))

    def _box(self, values: list[float], width: int, height: int, where: str) -> Shape:
        if self.args.boxes in (None, "error"):
            raise InputError(
                f"{where}: a class and {len(values)} numbers is a box, for detection. --boxes fill takes boxes for "
                "areas, --boxes ignore leaves them unlabelled"
            )
        x, y, across, down = points_of(values[:4], 2, where).ravel() * [width, height, width, height]
        return CocoPolygons((box_corners(x - across / 2, y - down / 2, across, down),))


def _tables(source: Source) -> list[Path]:
    """Files such as data.yaml."""
    found = []
    for path in source.matching("*.yaml", "*.yml"):
        try:
            content = read_yaml(path)
        except InputError:
            continue
        if isinstance(content, dict) and "names" in content and (set(SPLITS) | {"nc", "path"}) & set(content):
            found.append(path)
    return found


def _names(content: Any, where: str) -> dict[int, str]:
    given = content["names"]
    named = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(named, dict) or not named:
        raise InputError(f"{where}: names must be [cat, dog] or {{0: cat, 1: dog}}, not {given!r:.60}")
    for number, name in named.items():
        if type(number) is not int or not isinstance(name, (str, int)):
            raise InputError(f"{where}: names has {number!r}: {name!r}, where a number and a word belong")
    return {number: str(name).strip() for number, name in named.items()}


def _text(path: Path, where: str) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} cannot be read as text in UTF-8: {error}") from error
