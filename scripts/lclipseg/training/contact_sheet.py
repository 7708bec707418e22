"""A sheet of training samples as the network sees them, to be looked at before the hours that follow."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.samples import Samples
from modeling_lclipseg import draw_overlay

MOST = 16  # samples on a sheet
COLUMNS = 4


def draw_samples(samples: Samples, count: int, id2label: Mapping[int, str], image_processor: Any) -> Image.Image:
    """
    The first samples of a run after augmentation, each beside its mask in colour; ignored pixels stay uncoloured.

    Args:
        samples ([`Samples`]): Where they come from; drawing changes nothing for the training.
        count (`int`): How many, 16 at most.
        id2label (`dict[int, str]`): The classes.
        image_processor: Whose normalisation is taken back.
    """
    (keys,) = next(zip(samples.batches(min(count, MOST), 0, 0, 1), strict=False))
    tiles = [_tile(samples[key], id2label, image_processor) for key in keys]
    columns = min(COLUMNS, len(tiles))
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


def _tile(sample: dict[str, Any], id2label: Mapping[int, str], image_processor: Any) -> Image.Image:
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (image_processor.image_mean, image_processor.image_std)
    )
    pixels = (sample["pixel_values"].cpu() * std + mean).clamp(0, 1)
    image = Image.fromarray((255 * pixels).round().byte().permute(1, 2, 0).numpy())
    ids = sample["labels"].cpu().numpy()
    overlay = draw_overlay(image, np.where(ids == IGNORE_INDEX, -1, ids), id2label, legend=False)
    tile = Image.new("RGB", (2 * image.width, image.height))
    tile.paste(image, (0, 0))
    tile.paste(overlay, (image.width, 0))
    return tile
