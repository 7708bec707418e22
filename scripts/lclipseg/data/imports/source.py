"""The files of an export: listed once, found by the names that its annotations use, never outside of it."""

import json
import os
import posixpath
import re
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.data.files import IMAGE_SUFFIXES

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
LARGEST_RATIO = 200  # unpacked to packed size of an archive: images hardly shrink, JSON by a factor of 20
KEPT_FILES = 8  # parsed: one file an image may hold the image itself
UPLOAD_PREFIX = 9  # Label Studio puts eight hexadecimal digits and a dash before the name of an uploaded file


class Source:
    """
    An export on disk.

    Args:
        given (`Path`): a folder, or the annotation file of one, beside or above its images.
        images (`Path`, *optional*): a folder of images elsewhere.
        skip_missing (`bool`): whether images that are named, but not there, are left out, and noted in `missing`.

    Raises:
        [`InputError`]: there is no such file or folder.
    """

    def __init__(self, given: Path, images: Path | None = None, skip_missing: bool = False):
        if not given.exists():
            raise InputError(f"there is no such source as {given}")
        if images is not None and not images.is_dir():
            raise InputError(f"--images {images} is no folder")
        self.given, self.images = given, images
        self.root = given if given.is_dir() else given.parent
        self._parsed: dict[Path, Any] = {}
        self._skip_missing, self.missing = skip_missing, dict[Path, str]()

    @cached_property
    def files(self) -> list[Path]:
        """The files that may hold annotations, the shallow ones first: that which was named, or all of the folder."""
        if self.given.is_file():
            return [self.given]
        return sorted(_walked(self.root), key=lambda path: (len(path.parts), path))

    def matching(self, *patterns: str) -> list[Path]:
        """The files whose name fits one of the patterns, without regard to case."""
        return [path for path in self.files if any(fnmatch(path.name.lower(), pattern) for pattern in patterns)]

    def shown(self, path: Path) -> str:
        """A path as messages have it: below the source."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def json(self, path: Path) -> Any:
        """What a JSON file holds; the last ones are kept. Raises [`InputError`] if it is none."""
        if path not in self._parsed:
            if len(self._parsed) >= KEPT_FILES:
                self._parsed.pop(next(iter(self._parsed)))
            try:
                self._parsed[path] = json.loads(read_text(path))
            except (OSError, ValueError, RecursionError) as error:
                raise InputError(f"{self.shown(path)} cannot be read as JSON: {error}") from error
        return self._parsed[path]

    @cached_property
    def image_files(self) -> list[Path]:
        """All images of the export and of --images."""
        roots = dict.fromkeys((self.root, *([self.images] if self.images is not None else [])))
        return sorted({path for root in roots for path in _walked(root) if path.suffix.lower() in IMAGE_SUFFIXES})

    @cached_property
    def _by_name(self) -> Mapping[str, list[Path]]:
        found: dict[str, list[Path]] = defaultdict(list)
        for path in self.image_files:
            found[path.name].append(path)
        return found

    def image(self, name: Any, near: Path, where: str, split: str | None = None) -> Path:
        """
        The image that an annotation names. It is looked up among the files of the source, so that no name leads out.

        Args:
            name (`str`): as the annotation has it: a path or an address of whichever system.
            near (`Path`): the folder of the annotation; of images of one name the one beneath it counts.
            where (`str`): the annotation, for the error.
            split (`str`, *optional*): its split; of images of one name that of this split counts.

        Returns:
            `Path`: the image, or what `missing` has: the place where it was looked for.

        Raises:
            [`InputError`]: no image, or several, can be meant.
        """
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: the name of the image is {name!r}")
        parts = [part for part in name.replace("\\", "/").split("?")[0].split("/") if part not in ("", ".")]
        last = parts[-1] if parts else ""
        beside = Path(posixpath.normpath((near / "/".join(parts)).as_posix()))
        same = self._by_name.get(last) or self._by_name.get(last[UPLOAD_PREFIX:] if _is_upload(last) else last) or []
        if beside in same:
            return beside
        if len(same) > 1:
            same = self._closest(same, parts, near, split)
        if len(same) == 1:
            return same[0]
        if same:
            raise InputError(
                f"{where}: the image {name!r} may be {same[0]} or {same[1]}; give their folder as --images"
            )
        if self._skip_missing:
            self.missing[beside] = str(name)
            return beside
        hint = "" if self.images is not None else "; if the images lie elsewhere, give their folder as --images"
        raise InputError(
            f"{where}: there is no image {name!r} in {self.images or self.root}{hint}; --missing skip leaves out what "
            "is not there"
        )

    def _closest(self, paths: list[Path], parts: Sequence[str], near: Path, split: str | None) -> list[Path]:
        """Of paths with one file name those in --images, with most folders of the wanted name, beneath `near`, and in
        the split, as far as that leaves any."""

        def common(path: Path) -> int:
            pairs = zip(reversed(path.parts), reversed(parts), strict=False)
            return next((count for count, (one, other) in enumerate(pairs) if one != other), len(parts))

        if self.images is not None:
            paths = [path for path in paths if path.is_relative_to(self.images)] or paths
        most = max(map(common, paths))
        paths = [path for path in paths if common(path) == most]
        paths = [path for path in paths if path.is_relative_to(near)] or paths
        return [path for path in paths if split is not None and self.folder_split(path) == split] or paths

    def folder_split(self, path: Path) -> str | None:
        """The split that the name of a folder above a file tells: the file of one image may be called train_12."""
        return self.split_of(path.parent / "_")

    def split_of(self, path: Path) -> str | None:
        """The split that the name of a file, or of a folder above it, tells; `None` if none does."""
        relative = path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)
        for part in (relative.stem, *reversed(relative.parent.parts)):
            if (split := split_word(part)) is not None:
                return split
        return None


def split_word(name: str) -> str | None:
    """The split in a name such as "instances_train2017" or "Valid", as this project calls it."""
    words = (word.rstrip("0123456789") for word in re.split("[-_. ]", name.lower()))
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def unpacked(archive: Path, into: Path) -> Path:
    """
    Unpack a zip file; names that lead out of the folder are cut by Python's `zipfile`.

    Raises:
        [`InputError`]: it is damaged, or is to become absurdly large.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > LARGEST_RATIO * archive.stat().st_size:
                raise InputError(f"{archive} would become {size:,} bytes; unpack it yourself if that is right")
            into.mkdir(parents=True)
            if size > shutil.disk_usage(into).free:
                raise InputError(f"{archive} needs {size:,} bytes, more than the disk has; free some")
            packed.extractall(into)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive} cannot be unpacked: {error}") from error
    return into


def _walked(root: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones and what macOS adds to archives."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _is_upload(name: str) -> bool:
    return name[UPLOAD_PREFIX - 1 : UPLOAD_PREFIX] == "-" and all(
        digit in "0123456789abcdef" for digit in name[: UPLOAD_PREFIX - 1]
    )
