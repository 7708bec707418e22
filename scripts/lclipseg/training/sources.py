"""What a run trains and validates on: one data set, a stream, or several sets at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torchvision.transforms import v2

from lclipseg.console.errors import InputError
from lclipseg.data.check.at_start import look
from lclipseg.data.class_list import ClassList
from lclipseg.data.counts import count_pixels
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.mix import MixedClasses, MixedSamples, set_names
from lclipseg.data.open import load_splits, stream_segmentation_data
from lclipseg.data.samples import Repeats, Samples, TrainingSamples
from lclipseg.data.subset import ClassSubset, ImageSubset, find_classes, load_held_out
from lclipseg.training.arguments import DataArguments

if TYPE_CHECKING:
    from lclipseg.data.tables import StreamedData


@dataclass(frozen=True)
class RunData:
    """
    The data sets of a run, in the order of `--data`.

    Args:
        names (`tuple[str, ...]`): The last part of each one's path.
        train, eval (`tuple`): Their splits to train and to validate on.
        all_classes (`tuple[ClassList, ...]`): Their classes, those that are held out of training among them.
    """

    names: tuple[str, ...]
    train: tuple["SegmentationData | StreamedData", ...]
    eval: tuple["SegmentationData | StreamedData", ...]
    all_classes: tuple[ClassList, ...]

    @classmethod
    def open(cls, arguments: DataArguments, seed: int) -> "RunData":
        """
        Args:
            arguments ([`DataArguments`]): What is asked for.
            seed (`int`): Seed of what is drawn, see `--max_images`.

        Raises:
            [`InputError`]: a source that cannot be used, or options that do not go together.
        """
        if arguments.streaming and len(arguments.data) > 1:
            raise InputError("--streaming true takes one data set; several in one run are read from folders or tables")
        opened = [_open(arguments, source) for source in arguments.data]
        splits = [_without(arguments, *both) for both in opened]
        if arguments.max_images is not None:
            splits = [(ImageSubset(train, arguments.max_images, seed), held) for train, held in splits]
        return cls(
            names=set_names(arguments.data),
            train=tuple(train for train, _ in splits),
            eval=tuple(held for _, held in splits),
            all_classes=tuple(train.classes for train, _ in opened),
        )

    def look(self, arguments: DataArguments) -> list[str]:
        """What is odd about some of the pairs, but allowed. Raises [`InputError`] where they cannot be trained on."""
        remarks = []
        for source, *both in zip(arguments.data, self.train, self.eval, strict=True):
            whole = [_whole(data) for data in both]
            if all(isinstance(data, SegmentationData) for data in whole):
                splits = dict(zip((arguments.train_split, arguments.eval_split), whole, strict=True))
                remarks += look(source, splits, arguments.max_unreadable)
        return remarks

    @cached_property
    def mixed(self) -> MixedClasses:
        """The classes to train, joined by their words."""
        return MixedClasses.join([one.classes for one in self.train], self.names)

    @property
    def classes(self) -> ClassList:
        return self.train[0].classes if len(self.train) == 1 else self.mixed.classes

    def samples(self, arguments: DataArguments, transform: v2.Transform, seed: int, device: torch.device) -> Samples:
        """Augmented training samples."""
        kept = device if arguments.cache_on_device else None
        repeats = self._repeats(arguments) if arguments.repeat_rare else None
        if len(self.train) > 1:
            return MixedSamples(self._sets(), self.mixed, transform, seed, kept, arguments.data_weights, repeats)
        (only,) = self.train
        if isinstance(only, SegmentationData):
            return TrainingSamples(only, transform, seed, kept, repeats[0] if repeats else None)
        from lclipseg.data.streams import StreamedSamples  # needs `datasets`, as the data did

        streamed = StreamedSamples(only, transform, seed, arguments.images_per_epoch)
        if streamed.images_per_epoch is None:
            raise InputError(
                f"{arguments.data[0]} does not say how many images it has, which the schedule is made from; give "
                "--images_per_epoch."
            )
        return streamed

    def class_pixels(self, arguments: DataArguments, samples: TrainingSamples | MixedSamples) -> list[float]:
        """How many pixels each class has in an epoch of whole images, each as often as `samples` draw it."""
        pixels = torch.zeros(len(self.classes.names), dtype=torch.float64)
        for index, often in enumerate(samples.draws()):
            ids = self.mixed.ids[index] if len(self.train) > 1 else range(len(pixels))
            of_set = torch.from_numpy(often) @ self._pixels(index, arguments.num_workers).double()
            pixels.index_add_(0, torch.tensor(list(ids)), of_set)
        return pixels.tolist()

    def _repeats(self, arguments: DataArguments) -> list[Repeats]:
        """For each set how often its images are drawn."""
        counts = [self._pixels(index, arguments.num_workers) for index in range(len(self.train))]
        return [Repeats.by_rarest_class(of_set > 0, arguments.repeat_rare) for of_set in counts]

    def _pixels(self, index: int, num_workers: int) -> torch.Tensor:
        """The pixels (N, K) of every class in every image of a set, which is read for it once."""
        if index not in self._counted:
            self._counted[index] = count_pixels(self._sets()[index], num_workers)
        return self._counted[index]

    @cached_property
    def _counted(self) -> dict[int, torch.Tensor]:
        return {}

    def _sets(self) -> list[SegmentationData]:
        return [one for one in self.train if isinstance(one, SegmentationData)]

    def description(self, images_per_epoch: int | None) -> dict[str, Any]:
        """
        What a resumed run must find again: the number of images and a fingerprint of each split, and what the numbers
        in the masks mean.

        Args:
            images_per_epoch (`int`, *optional*): of a single data set to train on, which may have been told.
        """
        parts = {"train": self.train, "eval": self.eval}
        images = {split: _one_or_all([_length(one) for one in sets]) for split, sets in parts.items()}
        if len(self.train) == 1:
            images["train"] = images_per_epoch
        meanings = [
            {"ignore_index": one.ignore_index, "do_reduce_labels": one.do_reduce_labels} for one in self.all_classes
        ]
        return {
            "labels": _one_or_all(meanings),
            "images": images,
            "data_fingerprint": {
                split: _one_or_all([one.fingerprint() for one in sets]) for split, sets in parts.items()
            },
        }


def _open(arguments: DataArguments, source: str) -> tuple[Any, Any]:
    columns = {"image_column": arguments.image_column, "mask_column": arguments.mask_column}
    splits = (arguments.train_split, arguments.eval_split)
    if arguments.streaming:
        if arguments.held_out or arguments.max_images or arguments.cache or arguments.cache_on_device:
            raise InputError(
                "--streaming true goes with none of --held_out, --max_images, --cache and --cache_on_device."
            )
        streams = [stream_segmentation_data(source, split, classes=arguments.classes, **columns) for split in splits]
        return streams[0], streams[1]
    train, held = load_splits(source, splits, classes=arguments.classes, cache=arguments.cache, **columns)
    return train, held


def _without(arguments: DataArguments, train: Any, held: Any) -> tuple[Any, Any]:
    """Both splits without the classes that training leaves out."""
    left_out: set[int] = set()
    if arguments.held_out is not None:
        left_out |= set(find_classes(load_held_out(arguments.held_out), train.classes))
    if arguments.background == "ignore" and train.classes.none_of_these is not None:
        left_out.add(train.classes.names.index(train.classes.none_of_these))
    if not left_out:
        return train, held
    kept = [name for index, name in enumerate(train.classes.names) if index not in left_out]
    return ClassSubset(train, kept), ClassSubset(held, kept)


def _whole(data: Any) -> Any:
    """The data set that others are views of."""
    while isinstance(data, ClassSubset | ImageSubset):
        data = data.data
    return data


def _length(data: "SegmentationData | StreamedData") -> int | None:
    return len(data) if isinstance(data, SegmentationData) else data.num_rows


def _one_or_all(values: Iterable[Any]) -> Any:
    found = list(values)
    return found[0] if len(found) == 1 else found
