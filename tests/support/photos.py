"""Photographs made of noise."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from modeling_lclipseg.image_processing_lclipseg import LClipSegImageProcessor

EXIF_ORIENTATION = 0x0112


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    return Image.fromarray(noise(height, width, seed))


def save_photo(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    """`size` is width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(*size, seed).save(path)
    return path


def png(size: tuple[int, int], seed: int = 0) -> bytes:
    file = BytesIO()
    photo(*size, seed).save(file, "PNG")
    return file.getvalue()


def pixel_values(images, processor=None, **settings) -> torch.Tensor:
    return (processor or native())(images, return_tensors="pt", **settings)["pixel_values"]


def save_photo_on_its_side(path):
    """A photo, 6 wide and 4 high in the file, that its orientation tag turns upright (90 degrees clockwise)."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[:, :3] = 255  # left half white: the upper half, once upright
    Image.fromarray(pixels).save(path, exif=exif)


def native(**settings) -> LClipSegImageProcessor:
    return LClipSegImageProcessor(do_resize=False, **settings)
