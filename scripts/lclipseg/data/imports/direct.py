"""Exports given where a folder that training reads belongs: imported once, then found again.

`train`, `check-data` and `evaluate` take what `lclipseg import` takes wherever that needs no option. What it makes
lies in the user's cache, since all of them, and every run, take the same export, and only `train` has a folder of its
own. It is found by path, names, sizes and times of the files, so that a changed export is imported anew.
"""

import logging
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import ImportArguments
from lclipseg.data.class_list import CLASSES_FILE
from lclipseg.data.imports.formats import published_set, reader, recognised
from lclipseg.data.imports.source import Source, unpacked
from lclipseg.data.whole_folder import made_whole

logger = logging.getLogger("lclipseg")

ANNOTATION_SUFFIXES = (".json", ".xml", ".yaml", ".yml")
TABLE_FILES = ("metadata.jsonl", "metadata.csv")  # by which `datasets` reads a zip
ZIP = f"a zip file without {CLASSES_FILE} and {TABLE_FILES[0]}, which a folder of data and a table would have"


def as_data(given: Path) -> Path:
    """
    The folder to read in place of an export or of a zip file; anything else as it was given.

    Raises:
        [`InputError`]: an export that needs a decision, or is damaged; the message has the command that takes options.
    """
    if given.suffix.lower() == ".zip" and given.is_file():
        return _from_zip(given)
    is_annotation = given.is_file() and given.suffix.lower() in ANNOTATION_SUFFIXES
    if not is_annotation and (not given.is_dir() or (given / CLASSES_FILE).is_file()):
        return given
    source = Source(given)
    out = _cached(given, Source(source.root).files)
    if out.is_dir():
        logger.info(f"{given} was imported before: {_sizes(out)}")
        return out
    titles = [reader(name).title for name in recognised(source)]
    if given.is_dir() and (found := published_set(given, None)) is not None:
        titles = [f"the published data set {found[0]}"]
    return _imported(given, out, " or ".join(titles)) if titles else given


def _from_zip(given: Path) -> Path:
    """What `datasets` reads is left to it; a folder of data is unpacked, an export is imported."""
    try:
        with zipfile.ZipFile(given) as packed:
            names = packed.namelist()
    except (OSError, zipfile.BadZipFile):
        return given
    if any(name.rsplit("/", 1)[-1] in TABLE_FILES for name in names):
        return given
    out = _cached(given, [given])
    if not any(name.rsplit("/", 1)[-1] == CLASSES_FILE for name in names):
        if not out.is_dir():
            return _imported(given, out, ZIP)
        logger.info(f"{given} was imported before: {_sizes(out)}")
        return out
    if not out.is_dir():
        with made_whole(out) as made:
            unpacked(given, made / "data")
        logger.info(f"{given}: unpacked to {_sizes(out)}")
    return min(out.rglob(CLASSES_FILE), key=lambda path: len(path.parts)).parent


def _imported(given: Path, out: Path, what: str) -> Path:
    from lclipseg.data.imports.run import import_data  # what it needs is an extra

    logger.info(f"{given} is {what}: imported, as by `lclipseg import {given} --out my_folder`")
    try:
        return import_data(str(given), ImportArguments(out=str(out)))
    except (InputError, OSError) as error:
        if out.is_dir():  # another process was faster
            return out
        raise InputError(
            f"{given} is {what}: {error}. `lclipseg import {given} --out my_folder` makes data of it, and takes "
            "options where something is to be decided"
        ) from error


def _sizes(out: Path) -> str:
    """A folder of the cache and what it takes there: nothing is ever deleted from it but by its owner."""
    own, every = (f"{_bytes_below(folder) / 1e6:,.1f} MB" for folder in (out, out.parent))
    return f"{out} ({own}; all of {out.parent} is {every} and may be deleted)"


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # what another process is making may be gone by now
            total += path.lstat().st_size
    return total


def _cached(given: Path, files: Sequence[Path]) -> Path:
    """The folder for what is made of these files."""
    key = sha256(str(given.resolve()).encode(errors="surrogateescape"))
    for path in filter(Path.is_file, files):  # a link may lead nowhere
        status = path.stat()
        key.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "lclipseg" / "imports" / f"{given.stem or 'data'}-{key.hexdigest()[:16]}"
