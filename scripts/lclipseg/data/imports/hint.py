"""What to say to somebody who gives an export where a folder that training reads belongs."""

from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import CLASSES_FILE
from lclipseg.data.imports.formats import published_set, reader, recognised
from lclipseg.data.imports.source import Source


def refuse_export(root: Path) -> None:
    """Raises [`InputError`] if a file, or a folder without a class list, is an export that `lclipseg import` reads."""
    is_annotation = root.is_file() and root.suffix.lower() in (".json", ".xml")
    if not is_annotation and (not root.is_dir() or (root / CLASSES_FILE).is_file()):
        return
    titles = [reader(name).title for name in recognised(Source(root))]
    if root.is_dir() and (name := published_set(root, None)) is not None:
        titles = [f"the published data set {name}"]
    if titles:
        raise InputError(f"{root} is {' or '.join(titles)}: `lclipseg import {root} --out my_folder` makes data of it")
