"""The pairs of a data source as they are, with everything that is wrong before a file is opened: the class list,
folders, lists and pairs. The rules are those of `data.py` and `table_data.py`."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Example, Kind, Problems, RawFile
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.imports.hint import refuse_export
from lclipseg.data.layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    SplitFiles,
    classes_file,
    files_by_stem,
    hold_out,
    is_folder_of_pairs,
    locate_split,
    read_list,
    split_names,
)
from lclipseg.data.open import load_segmentation_data, table_module
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names

LOSSY_SUFFIXES = frozenset({".jpeg", ".jpg", ".webp"})


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
        refuse_export(root)
    if is_folder_of_pairs(root):
        return _open_folder(root, splits, classes)
    return _open_table(source, splits, classes, image_column, mask_column)


def _open_folder(root: Path, splits: Sequence[str] | None, classes: str | Path | None) -> DataSource:
    problems = Problems()
    found = DataSource(str(root), _class_list(Path(classes or classes_file(root)), problems), problems=problems)
    pools: dict[Path, _Pool] = {}  # splits by list share their folders, whose problems count once
    unusable: list[InputError] = []
    for split in dict.fromkeys(splits or split_names(root)):
        try:
            files = locate_split(root, split)
            if files.images not in pools:
                pools[files.images] = _Pool.scan(root, files, problems)
            pairs = pools[files.images].members(root, split, files, problems)
        except InputError as error:
            problems.add(Kind.UNUSABLE_SPLIT, Example(split, split, str(error)))
            unusable.append(error)
            continue
        found.splits.append(FolderSplit(split, root, pairs))
    if not found.splits:
        raise unusable[0]
    return found


@dataclass(frozen=True)
class _Pool:
    """The pairs of two folders, and the stems of images that have no mask."""

    pairs: dict[str, tuple[Path, Path]]
    without_mask: frozenset[str]

    @classmethod
    def scan(cls, root: Path, files: SplitFiles, problems: Problems) -> "_Pool":
        """Pair the files of two folders and note whatever cannot be paired."""
        split = "" if files.images.parent == root else files.images.parent.name
        images, masks = files_by_stem(files.images, IMAGE_SUFFIXES), files_by_stem(files.masks, MASK_SUFFIXES)
        lossy = files_by_stem(files.masks, LOSSY_SUFFIXES)

        def note(kind: Kind, path: Path, detail: str) -> None:
            problems.add(kind, Example(split, os.path.relpath(path, root), detail))

        for first, *others in (*images.values(), *masks.values()):
            for other in others:
                note(Kind.SAME_STEM, other, f"has the stem of {first.name}")
        without = frozenset(images.keys() - masks.keys())
        for stem in sorted(without):
            note(Kind.NO_MASK, images[stem][0], f"{files.masks.name} holds no {stem}.png (or .bmp, .tif, .tiff)")
        for stem in sorted(masks.keys() - images.keys()):
            note(Kind.UNUSED_MASK, masks[stem][0], f"{files.images.name} holds no image of this stem")
        for stem in sorted(lossy):
            note(Kind.LOSSY_MASK, lossy[stem][0], "is not taken for a mask")
        pairs = {stem: (paths[0], masks[stem][0]) for stem, paths in images.items() if stem in masks}
        return cls(pairs, without)

    def members(self, root: Path, split: str, files: SplitFiles, problems: Problems) -> list[tuple[Path, Path]]:
        """The pairs of one split. Raises [`InputError`] if there are none."""
        stems = list(self.pairs)
        if files.listed is not None:
            stems = read_list(files.listed)
            for stem in stems:
                if stem not in self.pairs and stem not in self.without_mask:
                    detail = f"{files.listed.name} lists it, {files.images.name} does not hold it"
                    problems.add(Kind.UNKNOWN_STEM, Example(split, stem, detail))
        elif files.is_held_out:
            stems = hold_out(stems, split, str(root))
        pairs = [self.pairs[stem] for stem in stems if stem in self.pairs]
        if not pairs:
            raise InputError(f"{files.listed or files.images} gives the split {split!r} no image with a mask")
        return pairs


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
        return json.loads(path.read_text(encoding="utf-8"))
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
