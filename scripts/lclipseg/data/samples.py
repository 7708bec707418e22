"""Training samples: which image comes when.

Everything random about a sample follows from the run's seed and the sample's position in the run, not from the state
of a generator: workers, processes and a resumed run all draw the same. An image that cannot be decoded becomes an
empty one without a labelled pixel, which counts in no loss, and its sample says why.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.labelled import Sample, SegmentationData, UnreadableError

EMPTY_SIDE = 64  # of the image in place of one that cannot be decoded


class Samples(Dataset):
    """
    Augmented samples without end.

    Items are dicts with `pixel_values` (3, H, W), float32; `labels` (H, W), int64 with 255 where ignored; and
    `unreadable`, the message where the image could not be decoded, else "".

    Args:
        transform (`v2.Transform`): How images are augmented.
        seed (`int`): The run's seed.
        device (`torch.device`, *optional*): Where images are augmented; the CPU by default.
    """

    def __init__(self, transform: v2.Transform, seed: int, device: torch.device | None = None):
        self.transform = transform
        self.seed = seed
        self.device = device

    @property
    @abstractmethod
    def images_per_epoch(self) -> int | None:
        """How many images there are, where that is known."""

    @abstractmethod
    def batches(self, size: int, start: int, process: int, num_processes: int) -> Iterator[list[Any]]:
        """
        Keys of the samples that one process takes, `size` at a time.

        Args:
            size (`int`): Samples of a batch.
            start (`int`): How many batches every process has taken before.
            process, num_processes (`int`): Which of the processes.
        """

    def state(self) -> dict[str, Any]:
        """What [`batches`] needs besides its arguments to go on in a resumed run."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a [`state`]."""

    def _augmented(self, image: tv_tensors.Image, mask: tv_tensors.Mask, position: int) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            # Not `torch.manual_seed`, which would seed the GPUs as well and leave them so.
            torch.default_generator.manual_seed(mix(self.seed, position))
            image, mask = self.transform(image, mask)
        return {
            "pixel_values": image.as_subclass(torch.Tensor),
            "labels": mask[0].as_subclass(torch.Tensor).long(),
            "unreadable": "",
        }

    def _empty(self, position: int, error: UnreadableError) -> dict[str, Any]:
        image = torch.zeros(3, EMPTY_SIDE, EMPTY_SIDE, dtype=torch.uint8, device=self.device)
        mask = torch.full((1, EMPTY_SIDE, EMPTY_SIDE), IGNORE_INDEX, dtype=torch.uint8, device=self.device)
        return {
            **self._augmented(tv_tensors.Image(image), tv_tensors.Mask(mask), position),
            "unreadable": str(error),
        }

    def _tensors(self, sample: Sample) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """The image (3, H, W) and its mask (1, H, W), both uint8."""
        image = tv_tensors.Image(v2.functional.pil_to_tensor(sample.image), device=self.device)
        return image, tv_tensors.Mask(torch.from_numpy(sample.mask)[None], device=self.device)


class TrainingSamples(Samples):
    """
    Samples of a data set that can be indexed. Position `p` is image `p % len(data)` or, with repeats, the image that
    [`Repeats`] has there.

    Args:
        data ([`SegmentationData`]): Where images and masks come from.
        transform, seed: see [`Samples`].
        device (`torch.device`, *optional*): Where to keep all decoded images, four bytes a pixel, and augment them.
            By default each is read again, and augmented on the CPU. A GPU rounds resized images differently.
        repeats ([`Repeats`], *optional*): How often each image is drawn; equally by default.
    """

    def __init__(
        self,
        data: SegmentationData,
        transform: v2.Transform,
        seed: int,
        device: torch.device | None = None,
        repeats: "Repeats | None" = None,
    ):
        super().__init__(transform, seed, device)
        self.data = data
        self.repeats = repeats
        self._kept: dict[int, tuple[tv_tensors.Image, tv_tensors.Mask]] = {}

    @property
    def images_per_epoch(self) -> int:
        return len(self.data)

    def batches(self, size: int, start: int, process: int, num_processes: int) -> Iterator[list[int]]:
        positions = PositionSampler(len(self.data), self.seed, start * size * num_processes)
        return islice(BatchSampler(positions, size, drop_last=True), process, None, num_processes)

    def draws(self) -> list[np.ndarray]:
        """How often an epoch has each image (N), in the mean over epochs."""
        return [np.ones(len(self.data)) if self.repeats is None else self.repeats.mean_draws()]

    def image_at(self, position: int) -> int:
        """Index of the image at a position of the run."""
        epoch, slot = divmod(position, len(self.data))
        return slot if self.repeats is None else int(self.repeats.draw(mix(self.seed, epoch))[slot])

    def __getitem__(self, position: int) -> dict[str, Any]:
        try:
            image = self._image(self.image_at(position))
        except UnreadableError as error:
            return self._empty(position, error)
        return self._augmented(*image, position)

    def _image(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if index in self._kept:
            return self._kept[index]
        image = self._tensors(self.data[index])
        if self.device is not None:
            self._kept[index] = image
        return image


class PositionSampler(Sampler[int]):
    """
    Positions without end: every repetition of the data set in an order of its own. A resumed run starts later.

    Args:
        num_images (`int`): Length of the data set.
        seed (`int`): The run's seed.
        start (`int`): How many samples have been taken before.
    """

    def __init__(self, num_images: int, seed: int, start: int = 0):
        self.num_images = num_images
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[int]:
        repetition, taken = divmod(self.start, self.num_images)
        while True:
            generator = torch.Generator().manual_seed(mix(self.seed, repetition))
            for index in torch.randperm(self.num_images, generator=generator).tolist()[taken:]:
                yield repetition * self.num_images + index
            repetition, taken = repetition + 1, 0


class Repeats:
    """
    How often each image of a data set is drawn.

    Args:
        factors (sequence of `float`): For each image, in any unit.
    """

    def __init__(self, factors: Sequence[float]):
        self.factors = np.asarray(factors, dtype=np.float64)
        self.ends = self.factors.cumsum()

    @classmethod
    def by_rarest_class(cls, present: torch.Tensor, threshold: float) -> "Repeats":
        """
        For a class in a share f of the images max(1, sqrt(t / f)), and for an image the largest of its classes: repeat
        factor sampling of LVIS (arXiv 1908.03195).

        Args:
            present (`torch.Tensor` of shape `(num_images, num_classes)`): Which image has which class, bool.
            threshold (`float`): t, the share of images below which a class is rare, 0 to 1.
        """
        shares = present.double().mean(0).clamp(min=1 / max(1, len(present)))
        factors = (threshold / shares).sqrt().clamp(min=1)  # (num_classes)
        return cls((present * factors).amax(1).clamp(min=1).tolist())

    def mean_draws(self) -> np.ndarray:
        """How often [`draw`] has each image (n), in the mean over seeds."""
        return self.factors * (len(self.factors) / self.factors.sum())

    def draw(self, seed: int) -> np.ndarray:
        """
        Indices (n) of as many images as there are, ascending: image i comes n * r_i / (sum of r) times, rounded up or
        down, and by that number in the mean over seeds (systematic sampling).
        """
        return _drawn(self, seed)


@lru_cache(maxsize=64)
def _drawn(repeats: Repeats, seed: int) -> np.ndarray:
    count = len(repeats.ends)
    places = (np.arange(count) + np.random.default_rng(seed).random()) * (repeats.ends[-1] / count)
    return np.searchsorted(repeats.ends, places, side="right").clip(max=count - 1)


def mix(seed: int, number: int) -> int:
    """A well-mixed seed from two numbers; neighbours would give related random streams."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
