"""Exports of labelling tools, made small, and what comes of importing them."""

import json
from pathlib import Path

import numpy as np
from photos import photo
from PIL import Image

from lclipseg.data.arguments import ImportArguments
from lclipseg.data.class_list import ClassList
from lclipseg.data.imports.run import import_data
from lclipseg.data.labelled import read_sample
from lclipseg.data.layout import find_pairs

EXIF_ORIENTATION = 0x0112
SIZE = (6, 5)  # width, height
SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]  # x, y of the corners
INSIDE = ["bbbbbb", "bcccbb", "bcccbb", "bbbbbb", "bbbbbb"]  # a cat's pixels in it, on background


def write_image(path: Path, size: tuple[int, int] = SIZE, orientation: int | None = None) -> Path:
    """An image file; `size` is as it is stored, before it is turned upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[EXIF_ORIENTATION] = orientation
    photo(*size).save(path, exif=exif)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def imported(tmp_path: Path, source: str = "source", **options) -> Path:
    """Import `tmp_path / source`; what is said of it is logged."""
    out = tmp_path / "out"
    return import_data(str(tmp_path / source), ImportArguments(out=str(out), **options))


def names_of(folder: Path, split: str | None = None) -> dict[str, list[list[str]]]:
    """For each image the class names of its pixels, "-" where ignored, as training reads them."""
    classes = ClassList.load(folder / "classes.json")
    if split is None:
        pairs = find_pairs(folder, "train") if len(list((folder / "images").rglob("*.*"))) > 1 else {}
        pairs = {**pairs, **find_pairs(folder, "val")} if pairs else _only_pair(folder)
    else:
        pairs = find_pairs(folder, split)
    shown = {}
    for stem, (image, mask) in pairs.items():
        ids = read_sample(image, mask, classes, stem).mask
        table = np.array([*classes.names, *["-"] * (256 - len(classes.names))])
        shown[stem] = table[ids].tolist()
    return shown


def _only_pair(folder: Path) -> dict[str, tuple[Path, Path]]:
    (image,), (mask,) = (folder / "images").iterdir(), (folder / "masks").iterdir()
    return {image.stem: (image, mask)}


def letters(rows: list[list[str]]) -> list[str]:
    """A mask of class names as one line of initials a row."""
    return ["".join(name[0] for name in row) for row in rows]


def mask_of_only_image(folder: Path) -> list[str]:
    """The initials of the classes in the only image of a folder without splits."""
    (rows,) = names_of(folder).values()
    return letters(rows)


def bits(*pairs: tuple[int, int]) -> list[int]:
    """Numbers of so many bits each, as bytes."""
    text = "".join(f"{value:0{length}b}" for value, length in pairs)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


def brush(covered: np.ndarray) -> list[int]:
    """A brush stroke: all values of a row in one literal run, or one run of equal values."""
    head = [(covered.size * 4, 32), (7, 5), (3, 4), (4, 4), (8, 4), (15, 4)]
    runs = []
    for row in covered:
        values = np.repeat(row, 4) * 255
        if (values == values[0]).all():
            runs += [(1, 1), (2, 2), (len(values) - 1, 9), (int(values[0]), 8)]
        else:
            runs += [(0, 1), (3, 2), (len(values) - 1, 16), *((int(value), 8) for value in values)]
    return bits(*head, *runs)
