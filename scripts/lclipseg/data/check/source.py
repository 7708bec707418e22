"""The pairs of a data source as they are, with everything that is wrong before a file is opened: the class list,
folders, lists and pairs. The rules are those of layout.py and tables.py."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.data.check.problems import Example, Kind, Problems, RawFile
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.files import LeftOut, Why, named
from lclipseg.data.imports.direct import as_data
from lclipseg.data.layout import FolderLayout, hold_out, is_folder_of_pairs
from lclipseg.data.lists import listed_stems
from lclipseg.data.open import load_segmentation_data, table_module
from lclipseg.data.pairs import Pairing
from lclipseg.data.splits import ALIASES, SplitFiles
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names

# What becomes of what is left out, but for images without a mask, which count with their split.
LEFT_OUT = {
    Why.HIDDEN: (Kind.HIDDEN, "is hidden, or a leftover of the system"),
    Why.OTHER_KIND: (Kind.OTHER_FILE, "is no image"),
    Why.DEAD_LINK: (Kind.DEAD_LINK, "leads nowhere"),
    Why.CYCLE: (Kind.CYCLE, "leads to a folder that it lies in"),
    Why.LOCKED: (Kind.LOCKED, "may not be read"),
    Why.NO_IMAGE: (Kind.UNUSED_MASK, "no image has its name"),
    Why.LOSSY: (Kind.LOSSY_MASK, "is not taken for a mask"),
    Why.NO_SPLIT: (Kind.NO_SPLIT, "is in no split"),
}


class SplitSource(ABC):
    """The pairs of one split, still encoded; can be sent to other processes."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image_name(self, index: int) -> str:
        """What the image of one pair is called in reports."""

    @abstractmethod
    def pair(self, index: int) -> tuple[RawFile, RawFile]:
        """The image and the mask of one pair."""


class FolderSplit(SplitSource):
    """Pairs of files; their names in reports are relative to the source."""

    def __init__(self, name: str, root: Path, pairs: Sequence[tuple[Path, Path]]):
        self.name, self._prefix = name, f"{root}{os.sep}"
        self._pairs = [(str(image), str(mask)) for image, mask in pairs]  # a tenth of the memory of paths

    def __len__(self) -> int:
        return len(self._pairs)

    def image_name(self, index: int) -> str:
        return self._pairs[index][0].removeprefix(self._prefix)

    def pair(self, index: int) -> tuple[RawFile, RawFile]:
        image, mask = map(self._file, self._pairs[index])
        return image, mask

    def _file(self, path: str) -> RawFile:
        return RawFile(path.removeprefix(self._prefix), Path(path), os.path.splitext(path)[1].lower())


class CheckedTable(SplitSource):
    """Rows of a table that [`load_segmentation_data`] has opened."""

    def __init__(self, name: str, rows: Any, image_column: str, mask_column: str):
        self.name, self.columns, self._rows = name, (image_column, mask_column), rows

    def __len__(self) -> int:
        return len(self._rows)

    def image_name(self, index: int) -> str:
        return f"row {index}, column {self.columns[0]!r}"

    def pair(self, index: int) -> tuple[RawFile, RawFile]:
        row = self._rows[index]
        image, mask = (self._file(row[column], f"row {index}, column {column!r}") for column in self.columns)
        return image, mask

    @staticmethod
    def _file(cell: dict[str, Any] | None, name: str) -> RawFile:
        try:
            return RawFile(name, table_module().cell_bytes(cell))
        except (ValueError, OSError):
            return RawFile(name, b"")  # no image, as the check will say


@dataclass
class DataSource:
    """All splits of a source that can be checked, its classes, and what is wrong without a look into the files."""

    name: str
    classes: ClassList
    splits: list[SplitSource] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return sum(map(len, self.splits))


def open_source(
    source: str,
    splits: Sequence[str] | None = None,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
) -> DataSource:
    """
    List the pairs of a data source.

    Args:
        source, classes, image_column, mask_column: as for [`load_segmentation_data`].
        splits (sequence of `str`, *optional*): the splits to check; all by default.

    Raises:
        [`InputError`]: there is no such source, no class list, or not one split that can be used.
    """
    root = Path(source).expanduser()
    if classes is None:
        root = as_data(root)
    if is_folder_of_pairs(root):
        return _open_folder(root, splits, classes)
    return _open_table(source, splits, classes, image_column, mask_column)


def _open_folder(root: Path, splits: Sequence[str] | None, classes: str | Path | None) -> DataSource:
    problems = Problems()
    layout = FolderLayout.find(root)
    found = DataSource(str(root), _class_list(Path(classes or layout.classes_file()), problems), problems=problems)
    notes = _FolderNotes(root, problems)
    unusable: list[InputError] = []
    for split in dict.fromkeys(splits or layout.splits):
        try:
            pairs = notes.pairs(split, layout.split(split), layout)
        except InputError as error:
            problems.add(Kind.UNUSABLE_SPLIT, Example(split, split, str(error)))
            unusable.append(error)
            continue
        found.splits.append(FolderSplit(split, root, pairs))
    if splits and not found.splits:
        raise unusable[0]
    for split in ALIASES:
        if len(same := layout.of_one_meaning(split)) > 1:
            example = Example("", same[0], f"{named(same)} mean the same: {same[0]!r} is used")
            found.problems.add(Kind.SAME_SPLIT, example, len(same) - 1)
    notes.note_left_out(layout.left_out())
    return found


@dataclass
class _FolderNotes:
    """Notes what is wrong with the names of files; splits by list share their folders, whose problems count once."""

    root: Path
    problems: Problems
    pairings: list[Pairing] = field(default_factory=list)
    without_mask: set[Path] = field(default_factory=set)

    def pairs(self, split: str, files: SplitFiles, layout: FolderLayout) -> list[tuple[Path, Path]]:
        """The pairs of one split. Raises [`InputError`] if there are none."""
        pairing = layout.pairing(files)
        if not any(pairing is other for other in self.pairings):
            self.pairings.append(pairing)
            for first, other in pairing.doubles:
                self._note(Kind.SAME_STEM, split, other, f"has the stem of {first.name}, or a name that says the same")
        stems = [*pairing.pairs, *pairing.without_mask]
        if files.listed is not None:
            called, (stems, unknown) = named(stems), listed_stems(files.listed, pairing)
            for line in unknown:
                detail = f"{files.listed.name} lists it, {pairing.images.name} does not hold it; it holds {called}"
                self.problems.add(Kind.UNKNOWN_STEM, Example(split, line, detail))
        self._note_without_mask(split, stems, pairing)
        if files.is_held_out:
            stems, _ = hold_out(list(pairing.pairs), split, str(self.root))
        pairs = [pairing.pairs[stem] for stem in stems if stem in pairing.pairs]
        if not pairs:
            raise InputError(f"{files.listed or files.images} gives the split {split!r} no image with a mask")
        return pairs

    def _note_without_mask(self, split: str, stems: Sequence[str], pairing: Pairing) -> None:
        unused = (
            f"; masks without an image: {named([path.name for path in pairing.without_image])}"
            if pairing.without_image
            else ""
        )
        for stem in stems:
            image = pairing.without_mask.get(stem)
            if image is not None and image not in self.without_mask:
                self.without_mask.add(image)
                detail = f"{pairing.masks.name} holds no {stem}.png (or {stem}_mask.png, ...){unused}"
                self._note(Kind.NO_MASK, split, image, detail)

    def note_left_out(self, left_out: LeftOut) -> None:
        """Whatever else lies in the folder."""
        for pairing in self.pairings:
            for image in pairing.without_mask.values():
                if image not in self.without_mask:
                    self._note(Kind.NO_SPLIT, "", image, "is on no list, and has no mask")
        for why, count in left_out.counts.items():
            if why in LEFT_OUT:
                kind, detail = LEFT_OUT[why]
                for name in left_out.examples[why]:
                    self.problems.add(kind, Example("", name, detail))
                self.problems.counts[kind] += count - len(left_out.examples[why])

    def _note(self, kind: Kind, split: str, path: Path, detail: str) -> None:
        self.problems.add(kind, Example(split, os.path.relpath(path, self.root), detail))


def _open_table(
    source: str,
    splits: Sequence[str] | None,
    classes: str | Path | None,
    image_column: str | None,
    mask_column: str | None,
) -> DataSource:
    def opened(split: str) -> Any:
        return load_segmentation_data(
            source, split, classes=classes, image_column=image_column, mask_column=mask_column
        )

    tables = {split: opened(split) for split in splits or _table_splits(source, opened)}
    found = DataSource(source, next(iter(tables.values())).classes)
    for split, table in tables.items():
        found.splits.append(CheckedTable(split, table.rows, table.columns.image, table.columns.mask))
    return found


def _table_splits(source: str, opened: Any) -> list[str]:
    """A file has one split, which its name tells; whatever else `datasets` reads lists its splits beside its train."""
    path = Path(source).expanduser()
    if path.is_file():
        return [table_module().split_of(path)]
    return list(opened("train").rows.info.splits)


def _class_list(path: Path, problems: Problems) -> ClassList:
    """The class list of a file. Names that cannot be used are noted, and replaced so that the ids can be checked."""
    try:
        return ClassList.load(path)
    except InputError:
        content = _json(path)
        names = _names(content)
        if not 0 < len(names) < IGNORE_INDEX:
            raise
    wrong = _wrong_names(names)
    if not wrong:
        return ClassList.load(path)  # something else is wrong with it: its error says what
    for position, detail in wrong.items():
        problems.add(Kind.CLASS_NAMES, Example("", f"id {position} of {path.name}", detail))
    replaced = [f"{name} (id {position})" if position in wrong else name for position, name in enumerate(names)]
    options = content if isinstance(content, dict) and "classes" in content else {}
    return ClassList.parse({**options, "classes": replaced, "prompts": None}, where=str(path))


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (OSError, ValueError):
        return None


def _names(content: Any) -> list[Any]:
    """The class names of any form that [`ClassList.load`] reads, as they stand there."""
    if isinstance(content, dict):
        content = content.get("classes", [content.get(str(index)) for index in range(len(content))])
    return content if isinstance(content, list) else []


def _wrong_names(names: Sequence[Any]) -> dict[int, str]:
    """What is wrong with each name, by its position."""
    wrong: dict[int, str] = {}
    for position, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            wrong[position] = f"{name!r} is no name"
            continue
        try:
            check_class_names([*(other for at, other in enumerate(names[:position]) if at not in wrong), name])
        except ValueError as error:
            wrong[position] = str(error)
    return wrong
