"""Parts of a data set: some of its classes, some of its images; and the lists of classes that are held out."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.labelled import Sample, SegmentationData
from modeling_lclipseg.class_embeddings_lclipseg import fold_name


class ClassSubset(SegmentationData):
    """
    A view of a data set in which only some classes remain, numbered anew in the order of the data. The pixels of all
    others are ignored. Every image stays, also one without a remaining pixel.

    Args:
        data ([`SegmentationData`]): What is looked at; it also does the caching.
        kept_names (sequence of `str`): The classes that remain, in any order; case does not matter.

    Raises:
        [`InputError`]: a name is no class of the data (the nearest ones are shown), or none is given.
    """

    def __init__(self, data: SegmentationData, kept_names: Sequence[str]):
        kept_ids = find_classes(kept_names, data.classes)
        kept = data.classes.subset([data.classes.names[kept_id] for kept_id in kept_ids], where="the kept classes")
        super().__init__(kept, data.names)
        self.data = data
        self.new_ids = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        self.new_ids[kept_ids] = np.arange(len(kept_ids))

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def _read(self, index: int) -> Sample:
        sample = self.data[index]
        return replace(sample, mask=self.new_ids[sample.mask])


class ImageSubset(SegmentationData):
    """
    A view of a data set in which only some images remain, drawn at random.

    Args:
        data ([`SegmentationData`]): What is looked at; it also does the caching.
        count (`int`): How many images remain.
        seed (`int`): Seed of the draw; a larger `count` of the same seed has these images among its own.

    Raises:
        [`InputError`]: there are not so many.
    """

    def __init__(self, data: SegmentationData, count: int, seed: int):
        if not 0 < count <= len(data):
            raise InputError(f"--max_images is {count}, but there are {len(data)} images to train on")
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        self.indices = sorted(order[:count].tolist())
        super().__init__(data.classes, [data.names[index] for index in self.indices])
        self.data = data

    def fingerprint(self) -> str:
        return f"{self.data.fingerprint()} {self.indices}"

    def _read(self, index: int) -> Sample:
        return self.data[self.indices[index]]


def find_classes(names: Sequence[str], classes: ClassList) -> list[int]:
    """
    The ids of some classes, ascending; case and the amount of white space do not matter.

    Raises:
        [`InputError`]: a name is no class (the nearest ones are shown), or none is given.
    """
    ids = {fold_name(name): class_id for class_id, name in enumerate(classes.names)}
    unknown = [name for name in names if fold_name(name) not in ids]
    if unknown or not names:
        near = [
            classes.names[ids[match]] for name in unknown for match in difflib.get_close_matches(fold_name(name), ids)
        ]
        hint = f"the nearest are {near}" if near else f"the classes are {list(classes.names)}"
        raise InputError(f"{unknown} are no classes of the data; {hint}" if unknown else f"no class is named; {hint}")
    return sorted({ids[fold_name(name)] for name in names})


def load_held_out(path: str | Path) -> list[str]:
    """
    Read a list of held-out classes, such as those in configuration/held_out/: YAML, `classes: [jeans, suit]`.

    Raises:
        [`InputError`]: the file is missing or is not of that form.
    """
    content = read_yaml(path, "the list of classes ")
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"the list of classes {path} must be `classes: [jeans, suit]`, at least one name, all texts")
    return names
