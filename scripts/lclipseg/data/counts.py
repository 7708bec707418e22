"""How many pixels every class has in every image: what class weights and repeated images are made from."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.labelled import SegmentationData, UnreadableError

logger = logging.getLogger("lclipseg")


class _Counts(Dataset):
    """Pixels (K) of each class in each image; none in an image that cannot be decoded."""

    def __init__(self, data: SegmentationData):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            mask = self.data[index].mask
        except UnreadableError:
            mask = np.full((1, 1), IGNORE_INDEX, dtype=np.uint8)  # the training itself names and counts it
        return np.bincount(mask.ravel(), minlength=IGNORE_INDEX + 1)[: len(self.data.classes.names)]


def count_pixels(data: SegmentationData, num_workers: int = 0) -> torch.Tensor:
    """
    Read a data set once.

    Args:
        data ([`SegmentationData`]): What to read.
        num_workers (`int`, *optional*, defaults to 0): Processes that read; 0 is this one.

    Returns:
        `torch.Tensor` of shape `(num_images, num_classes)`, int64.
    """
    logger.info(f"counting the pixels of every class in {len(data):,} images")
    # Its own generator: the global one must not advance, or a run that counts would draw other numbers.
    loader: DataLoader = DataLoader(
        _Counts(data), 64, num_workers=num_workers, collate_fn=_stacked, generator=torch.Generator()
    )
    return torch.cat(list(loader))


def _stacked(counts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(counts)).long()
