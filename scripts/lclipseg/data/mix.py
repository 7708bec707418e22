"""Several data sets in one run, each with its own classes, in one text space.

A class is known by its words: where two sets have a class of the same words it is one class, whatever they call it. An
image competes among its own set's classes alone, so that "building" here does not fight "window" and "door" there. The
idea of one network over several label spaces by language is that of SSIW (arXiv 2202.02002), LMSeg (arXiv 2302.13495)
and, without language, MSeg.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.labelled import SegmentationData, UnreadableError
from lclipseg.data.samples import PositionSampler, Repeats, Samples, mix
from modeling_lclipseg.class_embeddings_lclipseg import fold_name


@dataclass(frozen=True)
class MixedClasses:
    """
    The classes of several data sets as one list.

    Args:
        classes ([`ClassList`]): All of them, each once.
        ids (`tuple[tuple[int, ...], ...]`): for each data set the ids of its own classes in that list, in its order.
    """

    classes: ClassList
    ids: tuple[tuple[int, ...], ...]

    @classmethod
    def join(cls, lists: Sequence[ClassList], names: Sequence[str]) -> "MixedClasses":
        """
        Join class lists by the words of their classes. A name that two sets give to different words gets its set's
        name behind it.

        Args:
            lists (sequence of [`ClassList`]): of each data set.
            names (sequence of `str`): what the data sets are called.

        Raises:
            [`InputError`]: more classes than masks can number.
        """
        ids: dict[frozenset[str], int] = {}
        joined: list[str] = []
        prompts: list[tuple[str, ...]] = []
        rows = []
        for one, set_name in zip(lists, names, strict=True):
            row = []
            for name, words in zip(one.names, one.prompts, strict=True):
                key = frozenset(map(fold_name, words))
                if key not in ids:
                    ids[key] = len(joined)
                    taken = {fold_name(other) for other in joined}
                    joined.append(name if fold_name(name) not in taken else f"{name} ({set_name})")
                    prompts.append(words)
                row.append(ids[key])
            rows.append(tuple(row))
        if len(joined) > IGNORE_INDEX:
            raise InputError(f"the data sets have {len(joined)} classes together; at most {IGNORE_INDEX} are possible")
        return cls(ClassList(tuple(joined), tuple(prompts)), tuple(rows))


def set_names(sources: Sequence[str]) -> tuple[str, ...]:
    """
    What the sets of a mix are called: the last part of each one's path.

    Raises:
        [`InputError`]: two have the same.
    """
    names = [Path(source).stem for source in sources]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"two data sets are called {repeated[0]!r}; they could not be told apart. Rename one.")
    return tuple(names)


class MixedSamples(Samples):
    """
    Samples of several data sets, in shares. Besides those of [`Samples`] an item has a `class_mask` (K,), true for the
    classes of its image's own data set; `labels` are ids of the joint list.

    An epoch has as many samples as there are images in all; a set with a larger share than its images has them more
    often. After every epoch each image of a set has come equally often, give or take once, or as often as `repeats`
    says.

    Args:
        data (sequence of [`SegmentationData`]): The data sets.
        mixed ([`MixedClasses`]): Their classes.
        weights (sequence of `float`, *optional*): How often an image of each set is drawn, in any unit. By default by
            the square root of the number of its images, so that small sets are seen and large ones still count.
        transform, seed, device: see [`TrainingSamples`].
        repeats (sequence of [`Repeats`], *optional*): For each set, see [`TrainingSamples`].

    Raises:
        [`InputError`]: a set without images, or weights of another number or not above 0.
    """

    def __init__(
        self,
        data: Sequence[SegmentationData],
        mixed: MixedClasses,
        transform: v2.Transform,
        seed: int,
        device: torch.device | None = None,
        weights: Sequence[float] | None = None,
        repeats: Sequence[Repeats] | None = None,
    ):
        super().__init__(transform, seed, device)
        empty = [index for index, one in enumerate(data) if not len(one)]
        if empty:
            raise InputError(f"data set {empty[0] + 1} of {len(data)} has no image to train on")
        shares = [math.sqrt(len(one)) for one in data] if not weights else list(weights)
        if len(shares) != len(data) or min(shares) <= 0:
            raise InputError(f"--data_weights is {shares}; give one number above 0 for each of {len(data)} data sets")
        self.data = list(data)
        self.repeats = repeats
        total = sum(len(one) for one in data)
        # How many samples of each set an epoch has, and in which slots of it they are.
        self.counts = [max(1, round(total * share / sum(shares))) for share in shares]
        self._slots = [(index, visit) for index, count in enumerate(self.counts) for visit in range(count)]
        self._new_ids = []
        self._class_masks = []
        for ids in mixed.ids:
            table = torch.full((IGNORE_INDEX + 1,), IGNORE_INDEX, dtype=torch.long, device=device)
            table[: len(ids)] = torch.tensor(ids, device=device)
            self._new_ids.append(table)
            mask = torch.zeros(len(mixed.classes.names), dtype=torch.bool, device=device)
            mask[list(ids)] = True
            self._class_masks.append(mask)
        self._kept: dict[tuple[int, int], tuple[tv_tensors.Image, tv_tensors.Mask]] = {}

    @property
    def images_per_epoch(self) -> int:
        return len(self._slots)

    def batches(self, size: int, start: int, process: int, num_processes: int) -> Iterator[list[int]]:
        positions = PositionSampler(len(self._slots), self.seed, start * size * num_processes)
        return islice(BatchSampler(positions, size, drop_last=True), process, None, num_processes)

    def draws(self) -> list[np.ndarray]:
        """For each data set how often an epoch has each of its images (N), in the mean over epochs."""
        return [
            (np.ones(len(data)) if self.repeats is None else self.repeats[index].mean_draws()) * (count / len(data))
            for index, (data, count) in enumerate(zip(self.data, self.counts, strict=True))
        ]

    def image_at(self, position: int) -> tuple[int, int]:
        """Data set and index of the image at a position of the run."""
        epoch, slot = divmod(position, len(self._slots))
        index, visit = self._slots[slot]
        repetition, place = divmod(epoch * self.counts[index] + visit, len(self.data[index]))
        seed = mix(mix(self.seed, index + 1), repetition)
        image = _order(len(self.data[index]), seed)[place]
        return index, image if self.repeats is None else int(self.repeats[index].draw(seed)[image])

    def __getitem__(self, position: int) -> dict[str, Any]:
        index, image = self.image_at(position)
        try:
            item = self._augmented(*self._image(index, image), position)
        except UnreadableError as error:
            item = self._empty(position, error)
        return {
            **item,
            "labels": self._new_ids[index][item["labels"]],
            "class_mask": self._class_masks[index],
        }

    def _image(self, index: int, image: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if (index, image) in self._kept:
            return self._kept[index, image]
        tensors = self._tensors(self.data[index][image])
        if self.device is not None:
            self._kept[index, image] = tensors
        return tensors


@lru_cache(maxsize=64)
def _order(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist())
