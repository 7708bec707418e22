"""Parquet files whose rows can be told apart: the mask of row n holds nothing but n."""

from pathlib import Path

import datasets
import numpy as np
from data_folders import make_image, write_classes
from PIL import Image


def write_numbered(folder: Path, files: int, rows: int, split: str = "train") -> Path:
    """Write `files` files of `rows` rows each, and a class list for all of them, into `folder`."""
    write_classes(folder, [f"class {number}" for number in range(files * rows)])
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    for file in range(files):
        numbers = range(file * rows, (file + 1) * rows)
        masks = [Image.fromarray(np.full((48, 64), number, dtype=np.uint8)) for number in numbers]
        columns = {"image": [make_image(number, (64, 48)) for number in numbers], "mask": masks}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{split}-{file:05d}.parquet")
    return folder
