"""Masks of colours or numbers with a table of what they mean: CVAT's and VOC's folders, Roboflow's, one's own."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lclipseg.console.errors import InputError, naming
from lclipseg.console.files import read_text
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.files import IMAGE_SUFFIXES, MASK_SUFFIXES, named
from lclipseg.data.imports.export import Export, ExportedImage, in_order
from lclipseg.data.imports.source import Source, split_word
from lclipseg.data.layout import FolderLayout
from lclipseg.data.lists import listed_stems, read_list
from lclipseg.data.sources.masks import decoded
from lclipseg.data.sources.recipe import Recipe
from modeling_lclipseg.inputs_lclipseg import to_mask

Colour = tuple[int, int, int]
LABELMAP, ROBOFLOW = "labelmap.txt", "_classes.csv"
VOC_MASKS, VOC_IMAGES, VOC_LISTS = "SegmentationClass", "JPEGImages", "ImageSets/Segmentation"
VOC_OTHERS = ("Annotations", "ImageSets", "SegmentationObject")  # which say nothing that masks do not
VOC_BORDER = (224, 224, 192)  # around its objects, where nobody can tell
ROBOFLOW_SUFFIX = "_mask"


@dataclass(frozen=True)
class Coloured:
    """A mask whose colours have names; `None` is "not labelled"."""

    names: Mapping[Colour, str | None]


@dataclass(frozen=True)
class Numbered:
    """A mask whose numbers are ids of a class list, or have names."""

    names: Mapping[int, str]


@dataclass(frozen=True)
class MaskFile:
    """Where a mask lies, and what its pixels mean."""

    path: Path
    meaning: Coloured | Numbered


class ColourExport(Export):
    """
    Masks in files of their own. A colour or number that the table lacks is not labelled, and counted. Images without a
    mask are left out.
    """

    name = "colours"
    title = "masks with a table of their classes"

    @classmethod
    def recognises(cls, source: Source) -> bool:
        return bool(
            source.matching(LABELMAP, ROBOFLOW)
            or any(path.parent.name == VOC_MASKS for path in source.files)
            or _own_palette(source)
        )

    def read(self) -> list[ExportedImage]:
        if self.source.given.is_file():
            raise InputError(f"{self.source.given}: give the folder of the images and masks")
        if self.args.rest is not None:
            raise InputError("--rest is for outlined objects; a mask says what every pixel is")
        if tables := self.source.matching(ROBOFLOW):
            found = [image for table in tables for image in self._roboflow(table)]
        elif voc := sorted({path.parent for path in self.source.files if path.parent.name == VOC_MASKS}):
            found = [image for folder in voc for image in self._voc(folder)]
        elif (classes := _own_palette(self.source)) is not None:
            found = list(self._own(classes))
        else:
            raise InputError(
                f"{self.source.given} has neither {LABELMAP} with {VOC_MASKS}/ nor {ROBOFLOW} nor a palette in "
                f"{CLASSES_FILE}"
            )
        if not found:
            raise InputError(f"{self.source.given} holds no image with a mask")
        return found

    # ------------------------------------------------------------------------------------------------- where they lie

    def _voc(self, masks: Path) -> Iterator[ExportedImage]:
        """VOC's folders, with the table that CVAT adds, or VOC's own classes."""
        root = masks.parent
        tables = [path for path in (root / LABELMAP, self.source.root / LABELMAP) if path.is_file()]
        meaning = self._labelmap(tables[0]) if tables else self._voc_classes(masks)
        images = {path.stem: path for path in self.source.image_files if path.parent.name == VOC_IMAGES}
        if not images:
            images = {path.stem: path for path in self.source.image_files if not path.is_relative_to(root)}
        lists = {
            split: path
            for path in sorted((root / VOC_LISTS).glob("*.txt"))
            if (split := split_word(path.stem)) is not None and path.stem.lower() != "trainval"
        }
        files = {path.stem: path for path in sorted(masks.iterdir()) if path.suffix.lower() in MASK_SUFFIXES}
        self._without_mask(images, files)
        known = {masks.name, VOC_IMAGES, *VOC_OTHERS, LABELMAP}
        if others := sorted(path.name for path in root.iterdir() if path.name not in known):
            self.findings.notes.append(f"beside {self.source.shown(masks)} there are {named(others)}: not read")
        if not lists:
            yield from self._paired(files, images, meaning, None)
        unlisted = set(files)
        for split, path in lists.items():
            listed = [line.split()[0] for line in read_list(path)]
            if missing := [stem for stem in listed if stem not in files]:
                raise InputError(f"{path} lists {missing[0]!r}, which has no mask in {masks}")
            unlisted -= set(listed)
            yield from self._paired({stem: files[stem] for stem in listed}, images, meaning, split)
        if lists and unlisted:
            self.findings.not_annotated += sorted(f"{stem} (in no list of {VOC_LISTS})" for stem in unlisted)

    def _roboflow(self, table: Path) -> Iterator[ExportedImage]:
        """Images and masks NAME_mask.png in one folder, with a table of their numbers."""
        names: dict[int, str] = {}
        where = self.source.shown(table)
        for index, row in enumerate(csv.reader(_text(table).splitlines())):
            if len(row) < 2 or not row[0].strip().isdigit():
                if index and row:
                    raise InputError(f"{where}, line {index + 1}: {','.join(row)!r} is no number and name")
                continue
            number, name = int(row[0]), row[1].strip()
            if names.setdefault(number, name) != name:
                raise InputError(f"{where}, line {index + 1}: {number} is {names[number]!r} already")
        if not names:
            raise InputError(f"{where} names no class: its lines are 'Pixel Value, Class', then '0, background'")
        self._add_classes(list(names.values()))
        self.rest = next((name for name in names.values() if name.lower() == "background"), None)
        files = {path.stem: path for path in sorted(table.parent.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
        masks = {
            stem.removesuffix(ROBOFLOW_SUFFIX): path for stem, path in files.items() if stem.endswith(ROBOFLOW_SUFFIX)
        }
        images = {stem: path for stem, path in files.items() if not stem.endswith(ROBOFLOW_SUFFIX)}
        self._without_mask(images, masks)
        yield from self._paired(masks, images, Numbered(names), self.source.split_of(table))

    def _own(self, classes: ClassList) -> Iterator[ExportedImage]:
        """A folder of pairs in any layout that training reads, the masks in the colours of the palette."""
        assert classes.palette is not None
        self._add_classes(list(classes.names))
        self.palette = dict(zip(classes.names, classes.palette, strict=True))
        self.rest = classes.none_of_these
        meaning = Coloured({colour: name for name, colour in self.palette.items()})
        if len(meaning.names) < len(self.palette):
            raise InputError(f"{self.source.root / CLASSES_FILE}: two classes have the same colour")
        layout = FolderLayout.find(self.source.root)
        every: dict[Path, None] = {}
        listed: set[Path] = set()
        for name, files in layout.splits.items():
            pairing = layout.pairing(files)
            stems = list(pairing.pairs) if files.listed is None else listed_stems(files.listed, pairing)[0]
            pairs = {stem: pairing.pairs[stem] for stem in stems if stem in pairing.pairs}
            if pairs and decoded(next(iter(pairs.values()))[1]).mode in ("L", "I", "I;16"):
                raise InputError(
                    f"{pairing.masks} holds numbers, not colours: `lclipseg train --data` takes it as it is"
                )
            self._without_mask(pairing.without_mask, {})
            masks = {stem: mask for stem, (_, mask) in pairs.items()}
            masks |= {str(path): path for path in pairing.without_image}
            images = {stem: image for stem, (image, _) in pairs.items()}
            yield from self._paired(masks, images, meaning, None if files.is_held_out else name)
            every |= dict.fromkeys(image for image, _ in pairing.pairs.values())
            listed |= set(images.values())
            if files.is_held_out:  # the other split has the same images
                break
        unlisted = [path for path in every if path not in listed]
        self.findings.not_annotated += [f"{self.source.shown(path)} (on no list)" for path in unlisted]

    def _without_mask(self, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
        self.findings.not_annotated += [self.source.shown(images[stem]) for stem in images if stem not in masks]

    def _paired(
        self, masks: Mapping[str, Path], images: Mapping[str, Path], meaning: Coloured | Numbered, split: str | None
    ) -> Iterator[ExportedImage]:
        if without := [path for stem, path in masks.items() if stem not in images]:
            raise InputError(f"{len(without)} masks have no image of the same name, for example {without[0]}")
        for stem, path in masks.items():
            yield ExportedImage(images[stem], self.source.shown(path), MaskFile(path, meaning), split)

    # -------------------------------------------------------------------------------------------------- what they mean

    def _labelmap(self, path: Path) -> Coloured:
        """CVAT's table: lines `name:r,g,b:parts:actions`."""
        names: dict[Colour, str | None] = {VOC_BORDER: None}
        where = self.source.shown(path)
        for index, line in enumerate(_text(path).splitlines()):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, rest = line.partition(":")
            values = rest.split(":")[0].split(",")
            try:
                red, green, blue = (int(value) for value in values)
                if not name.strip() or not all(0 <= value <= 255 for value in (red, green, blue)):
                    raise ValueError
            except ValueError:
                raise InputError(f"{where}, line {index + 1}: {line!r} is not name:r,g,b::") from None
            colour, name = (red, green, blue), name.strip()
            if colour in names and names[colour] is not None:
                raise InputError(f"{where}, line {index + 1}: {names[colour]!r} has the colour {colour} already")
            names[colour] = None if self.ignore(name) else name
        coloured = [(name, colour) for colour, name in names.items() if name is not None]
        self._add_classes([name for name, _ in coloured])
        self.palette = {**self.palette, **dict(coloured)}
        self.rest = "background" if "background" in self.classes else None
        return Coloured(names)

    def _voc_classes(self, masks: Path) -> Numbered:
        """VOC's own masks have a palette, so that their numbers tell the class."""
        first = next((path for path in sorted(masks.iterdir()) if path.suffix.lower() == ".png"), None)
        if first is None or decoded(first).mode not in ("P", "L"):
            raise InputError(
                f"{masks} holds coloured masks; write what the colours mean to {masks.parent / LABELMAP}, a line for "
                "each class: name:r,g,b::"
            )
        classes = Recipe.load("voc2012").given
        self._add_classes(list(classes.names))
        self.rest = classes.none_of_these
        self.findings.notes.append(f"there is no {LABELMAP}: the numbers are those of VOC's own 21 classes")
        return Numbered(classes.id2label)

    def _add_classes(self, names: list[str]) -> None:
        self.classes = in_order([*self.classes, *(name for name in names if not self.ignore(name))])

    # ----------------------------------------------------------------------------------------------------- the masks

    def draw(self, image: ExportedImage, height: int, width: int, ids: Mapping[str, int], rest: int) -> np.ndarray:
        file: MaskFile = image.annotation
        drawn = decoded(file.path)
        if isinstance(file.meaning, Coloured):
            values = np.asarray(drawn.convert("RGB")).astype(np.int64) @ np.array([65536, 256, 1])
            table = {r << 16 | g << 8 | b: name for (r, g, b), name in file.meaning.names.items()}
        else:
            try:
                values = to_mask(drawn).astype(np.int64)
            except ValueError as error:
                raise InputError(naming(file.path, error)) from error
            table = {**file.meaning.names, IGNORE_INDEX: file.meaning.names.get(IGNORE_INDEX)}
        if values.shape != (height, width):
            raise InputError(
                f"{file.path} is {values.shape[1]} x {values.shape[0]} pixels (width x height), its image "
                f"{image.file} {width} x {height}: they must be equal"
            )
        flat = values.ravel()
        starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))  # of runs of one value: far fewer than pixels
        lengths = np.diff(starts, append=flat.size)
        found, where = np.unique(flat[starts], return_inverse=True)
        counts = np.bincount(where, weights=lengths)
        new = np.full(len(found), IGNORE_INDEX, dtype=np.uint8)
        for index, value in enumerate(found.tolist()):
            name = table.get(value)
            if name is not None and not self.ignore(name):
                new[index] = ids.get(name, IGNORE_INDEX)
                self.findings.objects[name] += 1
            elif value not in table:
                colour = (value >> 16, value >> 8 & 255, value & 255)
                known = isinstance(file.meaning, Coloured)
                self.findings.unknown_values[str(colour if known else value)] += int(counts[index])
        return np.repeat(new[where], lengths).reshape(height, width)


def _own_palette(source: Source) -> ClassList | None:
    """The class list of a folder of coloured masks."""
    path = source.root / CLASSES_FILE
    if source.given.is_file() or not path.is_file():
        return None
    classes = ClassList.load(path)
    return classes if classes.palette is not None else None


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text in UTF-8: {error}") from error
