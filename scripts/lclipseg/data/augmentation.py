"""How an image and its mask are scaled, cropped, flipped and recoloured for training."""

from collections.abc import Sequence

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from lclipseg.data.class_list import IGNORE_INDEX


class RandomScaledCrop(v2.Transform):
    """
    Crop of a fixed size from the image scaled by a random factor, the padding ignored where the image is smaller.

    Args:
        size (`tuple[int, int]`): Height and width of the crop in pixels.
        shortest_edge (`int`, *optional*): The shorter side that every image is brought to before that, as the
            image processor does it at inference; by default the image keeps its size.
        scale (`tuple[float, float]`): Range of the factor, drawn log-uniformly.
        max_class_share (`float`): A crop in which one class holds a larger share of the labelled pixels is drawn
            again, up to ten times (DenseCLIP and others train with 0.75).
        fill (`Sequence[float]`): Colour of the padding, 0 to 255 a channel.
        class_centred (`float`): Share of the crops, 0 to 1, that are laid around a pixel of a class drawn evenly among
            those of the image, so that rare classes are seen more often.
    """

    ATTEMPTS = 10

    def __init__(
        self,
        size: tuple[int, int],
        shortest_edge: int | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        max_class_share: float = 0.75,
        fill: Sequence[float] = (0, 0, 0),
        class_centred: float = 0.0,
    ):
        super().__init__()
        self.size = size
        self.shortest_edge = shortest_edge
        self.scale = scale
        self.max_class_share = max_class_share
        self.fill = list(fill)
        self.class_centred = class_centred

    def make_params(self, flat_inputs: list) -> dict[str, int]:
        mask = next(item for item in flat_inputs if isinstance(item, tv_tensors.Mask))
        image_height, image_width = mask.shape[-2:]
        low, high = np.log(self.scale)
        factor = float(np.exp(low + (high - low) * torch.rand(()).item()))
        if self.shortest_edge is not None:
            factor *= self.shortest_edge / min(image_height, image_width)
        # The region of the unscaled image that becomes the crop: only that much is resized.
        height, width = (max(1, round(side / factor)) for side in self.size)
        if self.class_centred and torch.rand(()).item() < self.class_centred:
            row, column = _pixel_of_a_class(mask)
            top, left = _offset_around(row, image_height, height), _offset_around(column, image_width, width)
            return {"top": top, "left": left, "height": height, "width": width}
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
        # torchvision would take a mask's upper left pixels, and it would lag behind its image; the image processor
        # takes the middle ones, too.
        ids = v2.functional.resize_image(
            region.as_subclass(torch.Tensor), list(self.size), v2.InterpolationMode.NEAREST_EXACT
        )
        return tv_tensors.wrap(ids, like=inpt)


def _offset(available: int, wanted: int) -> int:
    """Where the crop begins: anywhere inside, or, where the image is smaller, anywhere that holds all of it."""
    low, high = sorted((0, available - wanted))
    return int(torch.randint(low, high + 1, ()))


def _pixel_of_a_class(mask: torch.Tensor) -> tuple[int, int]:
    """Row and column of a pixel of a class drawn evenly among those of the mask (1, H, W); any pixel without one."""
    ids = mask[0].as_subclass(torch.Tensor)
    present = ids.unique()
    present = present[present != IGNORE_INDEX]
    pixels = (ids == present[torch.randint(len(present), ())]) if len(present) else torch.ones_like(ids)
    where = pixels.flatten().nonzero()[:, 0]
    return divmod(int(where[torch.randint(len(where), ())]), ids.shape[1])


def _offset_around(position: int, available: int, wanted: int) -> int:
    """Where a crop begins that holds `position`, anywhere that [`_offset`] allows."""
    low, high = sorted((0, available - wanted))
    return int(torch.randint(max(low, position - wanted + 1), min(high, position) + 1, ()))


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
    flip: bool = True,
    colour_jitter: float = 0.3,
    hue_jitter: float = 0.03,
    class_centred: float = 0.0,
) -> v2.Transform:
    """
    Scale, crop, flip, colour jitter, normalisation as the backbone was pre-trained with.

    Args:
        crop_size, shortest_edge, scale, max_class_share, class_centred: See [`RandomScaledCrop`].
        image_mean, image_std (sequence of `float`): Of each channel, for colours scaled to [0, 1].
        flip (`bool`): Whether half of the images are flipped left to right.
        colour_jitter (`float`): Largest relative change of brightness, contrast and saturation, 0 to 1.
        hue_jitter (`float`): Largest change of the hue, 0 to 0.5 of the colour circle; more than half of the time of
            an augmentation on a CPU.
    """
    return v2.Compose(
        [
            RandomScaledCrop(
                crop_size, shortest_edge, scale, max_class_share, [255 * value for value in image_mean], class_centred
            ),
            v2.RandomHorizontalFlip(p=0.5 if flip else 0.0),
            v2.ColorJitter(colour_jitter, colour_jitter, colour_jitter, hue_jitter),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(mean=list(image_mean), std=list(image_std)),
        ]
    )
