"""What lies in a folder: its files, and what is left out with the reason."""

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.console.hub import check_data_cached
from lclipseg.console.nearest import nearest

PHONE_SUFFIXES = frozenset({".avif", ".heic", ".heif", ".hif"})  # which not every Pillow reads: `open_image` says so
IMAGE_SUFFIXES = PHONE_SUFFIXES | {
    *(".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
MASK_SUFFIXES = frozenset({".bmp", ".gif", ".png", ".tif", ".tiff"})  # lossless: a JPEG mask has wrong ids at edges
LOSSY_SUFFIXES = IMAGE_SUFFIXES & {".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".webp", *PHONE_SUFFIXES}

LEFTOVERS = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir"})  # beside names with a dot
MAX_EXAMPLES = 20
SHOWN_EXAMPLES = 3


def check_source_exists(source: str) -> None:
    """
    Raises [`InputError`] if a source can only be a file or folder, by its name, and is not there; or a data set on the
    Hub, and neither it nor a copy is to be had.
    """
    path = Path(source).expanduser()
    in_folder = "/" in source and path.parent.is_dir()
    is_local = in_folder or path.suffix or source.startswith(("/", ".", "~")) or source.count("/") > 1
    if path.exists():
        return
    if not is_local:
        if find_spec("huggingface_hub") and find_spec("torch"):  # else these are what is told
            check_data_cached(source)
        return
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, siblings)
    hint = f"; did you mean {path.parent / near}?" if near else ""
    raise InputError(f"the data source {source} does not exist{hint}")


class Why(Enum):
    """Why something that lies in a data set's folder is not used."""

    HIDDEN = "hidden files and leftovers of the system (.NAME, __MACOSX, Thumbs.db)"
    OTHER_KIND = "files of other kinds"
    DEAD_LINK = "links that lead nowhere"
    CYCLE = "links to a folder that they lie in"
    LOCKED = "folders that may not be read"
    NO_MASK = "images without a mask"
    NO_IMAGE = "masks without an image"
    LOSSY = "JPEG or WebP files among the masks"
    NO_SPLIT = "images outside of every split"


@dataclass
class LeftOut:
    """How many files are left out for each reason, and the first of them, relative to `root`."""

    root: Path
    counts: Counter[Why] = field(default_factory=Counter)
    examples: dict[Why, list[str]] = field(default_factory=dict)

    def add(self, why: Why, path: str | Path) -> None:
        self.counts[why] += 1
        shown = self.examples.setdefault(why, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append(os.path.relpath(path, self.root))

    def merge(self, other: "LeftOut") -> None:
        """Take in what lies in the same root."""
        self.counts.update(other.counts)
        for why, examples in other.examples.items():
            shown = self.examples.setdefault(why, [])
            shown += examples[: MAX_EXAMPLES - len(shown)]

    def __str__(self) -> str:
        return "; ".join(
            f"{count:,} {why.value}: {named(self.examples[why], count)}" for why, count in self._ordered()
        )

    def _ordered(self) -> list[tuple[Why, int]]:
        return [(why, self.counts[why]) for why in Why if self.counts[why]]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see, or that a system left behind."""
    return name.startswith(".") or name in LEFTOVERS


def named(examples: Collection[object], count: int | None = None) -> str:
    """The first three of some names, and how many more there are."""
    count = len(examples) if count is None else count
    shown = [str(example) for example in list(examples)[:SHOWN_EXAMPLES]]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def walk(folder: Path, left_out: LeftOut, skip: Collection[Path] = ()) -> list[Path]:
    """
    All files below a folder, in the order of their paths.

    Links are followed, but not to a folder that they lie in. What is hidden and what cannot be reached is counted.

    Args:
        folder (`Path`): Where to look.
        left_out ([`LeftOut`]): Takes what is left out.
        skip (collection of `Path`, *optional*): Files and folders below it that count elsewhere.
    """
    files: list[Path] = []
    above = frozenset(_identity(parent) for parent in folder.resolve().parents)
    _visit(str(folder), above, left_out, frozenset(map(str, skip)), files)
    return sorted(files)


def _visit(
    folder: str, above: frozenset[tuple[int, int]], left_out: LeftOut, skip: frozenset[str], files: list[Path]
) -> None:
    try:
        identity = _identity(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        left_out.add(Why.LOCKED, folder)
        return
    if identity in above:
        left_out.add(Why.CYCLE, folder)
        return
    for entry in entries:
        if entry.path in skip:
            continue
        if is_hidden(entry.name):
            _count_hidden(entry, left_out)
        elif os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            _visit(entry.path, above | {identity}, left_out, skip, files)
        elif os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
            files.append(Path(entry.path))
        else:  # a pipe would never end
            left_out.add(Why.DEAD_LINK if entry.is_symlink() else Why.OTHER_KIND, entry.path)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _count_hidden(entry: os.DirEntry[str], left_out: LeftOut) -> None:
    if not entry.is_dir(follow_symlinks=False):
        left_out.add(Why.HIDDEN, entry.path)
        return
    for folder, _, names in os.walk(entry.path):
        for name in names:
            left_out.add(Why.HIDDEN, os.path.join(folder, name))
