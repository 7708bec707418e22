"""Sheets to look at: training samples as the network sees them, and what it makes of some validation images."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.labelled import Sample, SegmentationData
from lclipseg.data.samples import Samples
from lclipseg.prediction.evaluate import match_classes
from lclipseg.prediction.segment import segment_images
from lclipseg.training.sources import RunData
from modeling_lclipseg import LClipSegForSemanticSegmentation, draw_overlay

logger = logging.getLogger("lclipseg")

MOST = 16  # samples on a sheet
COLUMNS = 4
PREDICTED = 4  # images on a sheet of predictions
SIDE = 320  # of such an image in pixels, at most
TRACKED_SIDE = 1024  # of a sheet in a tracker, in pixels, at most


class ContactSheets:
    """
    Where sheets go: a file in the run's folder, and TensorBoard. None of them is worth a run: whatever goes wrong with
    one is logged.

    Args:
        folder (`Path`): The run's.
        accelerator ([`Accelerator`]): Its trackers.
    """

    def __init__(self, folder: Path, accelerator: Accelerator):
        self.folder = folder
        self.accelerator = accelerator

    def keep(self, name: str, draw: Callable[[], Image.Image], step: int) -> None:
        """Draw a sheet and keep it as the file `name`, and as an image of `step`; for the main process to call."""
        try:
            sheet = draw()
            sheet.save(self.folder / name)
            sheet.thumbnail((TRACKED_SIDE, TRACKED_SIDE))
            pixels = np.asarray(sheet).transpose(2, 0, 1)[None]  # (1, 3, H, W)
            for tracker in self.accelerator.trackers:
                if tracker.name == "tensorboard":
                    tracker.log_images({Path(name).stem: pixels}, step=step)
        except Exception as error:
            logger.warning(f"the sheet {self.folder / name} could not be made, and is left out: {error}")


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
    return _side_by_side([image, overlay])


def draw_predictions(
    model: LClipSegForSemanticSegmentation, image_processor: Any, data: RunData, most: int = PREDICTED
) -> Image.Image:
    """
    Some images to validate on, always the same: each beside its mask, and what the network makes of it with a legend.
    They are spread over the data set or, of a stream, the first ones; of several sets some of each.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): On its device; it is put in eval mode.
        image_processor: The one that belongs to it.
        data ([`RunData`]): What is validated on.
        most (`int`): How many images at most.
    """
    model.eval()
    rows = [_row(*one) for one in islice(_predicted(model, image_processor, data, most), most)]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _predicted(
    model: LClipSegForSemanticSegmentation, image_processor: Any, data: RunData, most: int
) -> Iterator[tuple[Sample, np.ndarray, Mapping[int, str]]]:
    """Images with their masks, the class ids of every pixel (H, W), and what these mean."""
    of_each = max(1, most // len(data.eval))
    for held, ids in zip(data.eval, data.mixed.ids, strict=True):
        alone = len(data.eval) == 1
        to_data_id = match_classes(model.config.id2label, held.classes) if alone else torch.arange(len(ids))
        embeddings = None if alone else model.class_embeddings[list(ids)]
        step = len(held) // of_each if isinstance(held, SegmentationData) else 1  # neighbours may be frames of a video
        some: Any = held.share(0, max(1, step))
        for sample in islice(some, of_each):
            (found,) = segment_images(model, image_processor, [sample.image], class_embeddings=embeddings)
            yield sample, to_data_id[found].numpy(), held.classes.id2label


def _row(sample: Sample, predicted: np.ndarray, id2label: Mapping[int, str]) -> Image.Image:
    """The image, its mask and the prediction side by side."""
    image = sample.image.copy()
    image.thumbnail((SIDE, SIDE))
    truth, found = (
        np.asarray(Image.fromarray(ids.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)).astype(int)
        for ids in (sample.mask, predicted)
    )
    truth[truth == IGNORE_INDEX] = -1
    return _side_by_side(
        [image, draw_overlay(image, truth, id2label, legend=False), draw_overlay(image, found, id2label)]
    )


def _side_by_side(tiles: Sequence[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)), "white")
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width
    return row
