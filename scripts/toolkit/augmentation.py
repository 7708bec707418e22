"""Training samples: which picture comes when, and how it is scaled, cropped, mirrored and recoloured.

Everything random about a sample follows from the run's seed and the sample's position in the run, not from the state
of a generator: workers, processes and a resumed run all draw the same.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from scripts.toolkit.data import IGNORE_INDEX, SegmentationData


class RandomScaledCrop(v2.Transform):
    """
    Crop of a fixed size from the picture scaled by a random factor, the padding ignored where the picture is smaller.

    Args:
        size (`tuple[int, int]`): Height and width of the crop in pixels.
        shortest_edge (`int`, *optional*): The shorter side that every picture is brought to before that, as the
            image processor does it at inference; by default the picture keeps its size.
        scale (`tuple[float, float]`): Range of the factor, drawn log-uniformly.
        max_class_share (`float`): A crop in which one class holds a larger share of the labelled pixels is drawn
            again, up to ten times (DenseCLIP and others train with 0.75).
        fill (`Sequence[float]`): Colour of the padding, 0 to 255 a channel.
    """

    ATTEMPTS = 10

    def __init__(
        self,
        size: tuple[int, int],
        shortest_edge: int | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        max_class_share: float = 0.75,
        fill: Sequence[float] = (0, 0, 0),
    ):
        super().__init__()
        self.size = size
        self.shortest_edge = shortest_edge
        self.scale = scale
        self.max_class_share = max_class_share
        self.fill = list(fill)

    def make_params(self, flat_inputs: list) -> dict[str, int]:
        mask = next(item for item in flat_inputs if isinstance(item, tv_tensors.Mask))
        image_height, image_width = mask.shape[-2:]
        low, high = np.log(self.scale)
        factor = float(np.exp(low + (high - low) * torch.rand(()).item()))
        if self.shortest_edge is not None:
            factor *= self.shortest_edge / min(image_height, image_width)
        # The region of the unscaled picture that becomes the crop: only that much is resized.
        height, width = (max(1, round(side / factor)) for side in self.size)
        for _ in range(self.ATTEMPTS):
            top = _offset(image_height, height)
            left = _offset(image_width, width)
            if (
                _largest_share(mask[..., max(top, 0) : top + height, max(left, 0) : left + width])
                <= self.max_class_share
            ):
                break
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: torch.Tensor, params: dict[str, int]) -> torch.Tensor:
        top, left, height, width = params["top"], params["left"], params["height"], params["width"]
        image_height, image_width = inpt.shape[-2:]
        padding = [
            max(-left, 0),
            max(-top, 0),
            max(left + width - image_width, 0),
            max(top + height - image_height, 0),
        ]
        is_mask = isinstance(inpt, tv_tensors.Mask)
        if any(padding):
            inpt = v2.functional.pad(inpt, padding, fill=IGNORE_INDEX if is_mask else self.fill)
        region = v2.functional.crop(inpt, max(top, 0), max(left, 0), height, width)
        if not is_mask:
            return v2.functional.resize(region, list(self.size), antialias=True)
        # torchvision would take a mask's upper left pixels, and it would lag behind its picture; the image processor
        # takes the middle ones, too.
        ids = v2.functional.resize_image(
            region.as_subclass(torch.Tensor), list(self.size), v2.InterpolationMode.NEAREST_EXACT
        )
        return tv_tensors.wrap(ids, like=inpt)


def _offset(available: int, wanted: int) -> int:
    """Where the crop begins: anywhere inside, or, where the picture is smaller, anywhere that holds all of it."""
    low, high = sorted((0, available - wanted))
    return int(torch.randint(low, high + 1, ()))


def _largest_share(mask: torch.Tensor) -> float:
    counts = torch.bincount(mask.flatten().long(), minlength=IGNORE_INDEX + 1)
    counts[IGNORE_INDEX] = 0
    return (counts.max() / counts.sum().clamp(min=1)).item()


def training_transform(
    crop_size: tuple[int, int],
    shortest_edge: int | None,
    scale: tuple[float, float],
    max_class_share: float,
    image_mean: Sequence[float],
    image_std: Sequence[float],
) -> v2.Transform:
    """Scale, crop, mirror, colour jitter, normalisation as the backbone was pre-trained with."""
    return v2.Compose(
        [
            RandomScaledCrop(
                crop_size, shortest_edge, scale, max_class_share, fill=[255 * value for value in image_mean]
            ),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(mean=list(image_mean), std=list(image_std)),
        ]
    )


class TrainingSamples(Dataset):
    """
    The data set repeated without end, augmented anew in each repetition. Position `p` is image `p % len(data)`.

    Items are dicts with `pixel_values` (3, H, W), float32, and `labels` (H, W), int64 with 255 where ignored.

    Args:
        data ([`SegmentationData`]): Where pictures and masks come from.
        transform (`v2.Transform`): How they are augmented.
        seed (`int`): The run's seed.
        device (`torch.device`, *optional*): Where to keep all decoded pictures, four bytes a pixel, and augment them.
            By default each is read again, and augmented on the CPU. A GPU rounds resized pictures differently.
    """

    def __init__(self, data: SegmentationData, transform: v2.Transform, seed: int, device: torch.device | None = None):
        self.data = data
        self.transform = transform
        self.seed = seed
        self.device = device
        self._kept: dict[int, tuple[tv_tensors.Image, tv_tensors.Mask]] = {}

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        image, mask = self._picture(position % len(self.data))
        with torch.random.fork_rng(devices=[]):
            # Not `torch.manual_seed`, which would seed the GPUs as well and leave them so.
            torch.default_generator.manual_seed(_mix(self.seed, position))
            image, mask = self.transform(image, mask)
        return {
            "pixel_values": image.as_subclass(torch.Tensor),
            "labels": mask[0].as_subclass(torch.Tensor).long(),
        }

    def _picture(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """The picture (3, H, W) and its mask (1, H, W), both uint8."""
        if index in self._kept:
            return self._kept[index]
        sample = self.data[index]
        image = tv_tensors.Image(v2.functional.pil_to_tensor(sample.image), device=self.device)
        mask = tv_tensors.Mask(torch.from_numpy(sample.mask)[None], device=self.device)
        if self.device is not None:
            self._kept[index] = (image, mask)
        return image, mask


class PositionSampler(Sampler[int]):
    """
    The positions of a whole run: every repetition of the data set in an order of its own. A resumed run starts later.

    Args:
        num_images (`int`): Length of the data set.
        num_samples (`int`): How many samples the run takes in all.
        seed (`int`): The run's seed.
        start (`int`): How many samples have been taken before.
    """

    def __init__(self, num_images: int, num_samples: int, seed: int, start: int = 0):
        self.num_images = num_images
        self.num_samples = num_samples
        self.seed = seed
        self.start = start

    def __len__(self) -> int:
        return self.num_samples - self.start

    def __iter__(self) -> Iterator[int]:
        for repetition in range(self.start // self.num_images, -(-self.num_samples // self.num_images)):
            generator = torch.Generator().manual_seed(_mix(self.seed, repetition))
            first = repetition * self.num_images
            for offset, index in enumerate(torch.randperm(self.num_images, generator=generator).tolist()):
                if self.start <= first + offset < self.num_samples:
                    yield first + index


def _mix(seed: int, number: int) -> int:
    """A well-mixed seed from two numbers; neighbours would give related random streams."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
