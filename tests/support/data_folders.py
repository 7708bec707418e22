"""Small folders of images and masks, in the layouts that training reads."""

import json
from pathlib import Path

import numpy as np
from photos import photo
from PIL import Image

SIZE = (10, 6)  # width, height


def make_image(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return photo(*size, seed)


def mask_of(seed: int, high: int = 3, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, high, (size[1], size[0]), dtype=np.uint8))


def write_pairs(folder: Path, stems: list[str], masks: str = "masks") -> None:
    for seed, stem in enumerate(stems):
        for path, image in ((folder / "images", make_image(seed)), (folder / masks, mask_of(seed))):
            path = path / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def write_classes(folder: Path, content: object = ("sky", "road", "tree")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(content))
    return folder


def folder_with(tmp_path: Path, mask: Image.Image, image: Image.Image | None = None, classes: object = None) -> Path:
    """A folder with one pair in the split "train"."""
    write_classes(tmp_path, classes or ["sky", "road", "tree"])
    write_pairs(tmp_path / "train", ["a"])
    mask.save(tmp_path / "train" / "masks" / "a.png")
    if image is not None:
        image.save(tmp_path / "train" / "images" / "a.png")
    return tmp_path
