"""What counts as an image and as a mask: one set of rules for the processor, the scripts and the endpoint handler.

| given | taken as |
|---|---|
| EXIF orientation of a photo | applied |
| transparency (RGBA, LA, P or RGB with a transparent colour) | laid on white, as a browser page shows it |
| grey, palette, CMYK, 1-bit, LAB, HSV, YCbCr images | converted to RGB |
| 16-bit grey image, `uint16` array | scaled to 8 bits: 65535 becomes 255 |
| float image or array | values in [0, 1], black to white; any other range, NaN or infinity is an error |
| `bool` array | black and white |
| wider integers | values in 0..255; anything else is an error |
| animation, many-page file | its first frame |
| HEIC, as phones write it | read where `pillow-heif` is installed |

Nothing here needs torch, so that an exported model can be run without it; tensors are known by what they can do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from .opening_lclipseg import decode, named_after

if TYPE_CHECKING:
    import torch

CHANNEL_COUNTS = (1, 3, 4)
CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"  # as transformers calls them


def to_image_array(image: Any, convert_rgb: bool = True, input_data_format: str | None = None) -> np.ndarray:
    """
    An image of any kind as an array, by the rules at the top of this file.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            An image of any mode, or an array of shape `(height, width)`, `(height, width, channels)` or `(channels,
            height, width)` with 1, 3 or 4 (transparency last) channels.
        convert_rgb (`bool`, *optional*, defaults to `True`): `False` keeps the channels as they are.
        input_data_format (`str` or `ChannelDimension`, *optional*):
            Where the channels of an array are. By default its shape tells; where both ends could be the channels,
            they are last in an array, as in NumPy's libraries, and first in a tensor.

    Returns:
        `np.ndarray` of shape `(channels, height, width)`: uint8, or float32 in [0, 1] for float input. Three
        channels unless `convert_rgb=False`. It may share memory with a tensor that was given.

    Raises:
        ValueError: another type or shape, no pixels, or values outside the range of the type. The message starts with
            the name of the file where the image came from one.
    """
    with named_after(getattr(image, "filename", "")):
        if isinstance(image, Image.Image):
            values, input_data_format = _pil_values(image, convert_rgb), CHANNELS_LAST
        elif isinstance(image, np.ndarray):
            values = _to_native_array(image)
            input_data_format = input_data_format or _layout(image.shape, usual=CHANNELS_LAST)
        elif _is_tensor(image):
            values = _tensor_values(image)
            input_data_format = input_data_format or _layout(image.shape, usual=CHANNELS_FIRST)
        else:
            raise ValueError(
                f"an image must be a PIL image, a NumPy array or a torch tensor, not {type(image).__name__}; "
                "open_image reads a file"
            )
        _check_has_pixels(values.shape)
        values = _to_valid_range(_channels_first(values, input_data_format))
        return _three_channels(values) if convert_rgb else values


def to_rgb_image(image: Any) -> Image.Image:
    """
    An image of any kind as an upright 8-bit RGB image, by the rules at the top of this file.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): see [`to_image_array`].

    Raises:
        ValueError: see [`to_image_array`].
    """
    values = to_image_array(image)
    if values.dtype != np.uint8:
        values = (values * 255).round().astype(np.uint8)
    return Image.fromarray(values.transpose(1, 2, 0))


def to_mask(mask: Any, ignore_index: int = 255) -> np.ndarray:
    """
    A label mask as an array of class ids.

    Args:
        mask (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            One integer a pixel: an image of one channel (of a palette image the indices count, not the colours), or an
            array of shape `(height, width)`, `(1, height, width)` or `(height, width, 1)`. Ids above 255 are fine.
        ignore_index (`int`, *optional*, defaults to 255): The one id that may be negative.

    Returns:
        `np.ndarray` of shape `(height, width)`: uint8 where it was, else int64.

    Raises:
        ValueError: another type, several channels, no integers, no pixels, or negative ids. The message starts with
            the name of the file where the mask came from one.
    """
    with named_after(getattr(mask, "filename", "")):
        if isinstance(mask, Image.Image):
            decode(mask)
            if len(mask.getbands()) != 1 or mask.mode == "F":
                raise ValueError(
                    f"a mask must have one channel, with a class id in every pixel, but this image has mode "
                    f"{mask.mode!r} ({len(mask.getbands())} channels). If its channels are equal, keep one of them; "
                    "if it shows classes as colours, translate the colours into ids first"
                )
            ids = np.array(ImageOps.exif_transpose(mask))
        elif isinstance(mask, np.ndarray) or _is_tensor(mask):
            ids = _to_native_array(_tensor_values(mask) if _is_tensor(mask) else mask)
            if ids.ndim == 3 and 1 in (ids.shape[0], ids.shape[-1]):
                ids = ids[0] if ids.shape[0] == 1 else ids[..., 0]
        else:
            raise ValueError(f"a mask must be a PIL image, a NumPy array or a torch tensor, not {type(mask).__name__}")
        _check_has_pixels(ids.shape)
        if ids.ndim != 2:
            raise ValueError(
                f"a mask must have one channel, with a class id in every pixel, but this array has shape {ids.shape}; "
                "expected (height, width)"
            )
        if not (np.issubdtype(ids.dtype, np.integer) or ids.dtype == bool):
            raise ValueError(
                f"a mask must hold integer class ids, but this array is of type {ids.dtype}; convert it to int32"
            )
        if ids.dtype in (np.uint8, bool):
            return ids.astype(np.uint8)
        ids = ids.astype(np.int64)
        lowest = ids[ids != ignore_index].min(initial=0)
        if lowest < 0:
            raise ValueError(
                f"this mask holds the negative id {lowest}; class ids start at 0, and only the ignore index "
                f"({ignore_index}) may be negative"
            )
        return ids


def flatten_images(images: Any, max_ndim: int) -> list[Any]:
    """
    One image, a batch or nested lists of them as a flat list.

    Args:
        images (`Any`): Images; an array of more than `max_ndim` dimensions is a batch along its first one.
        max_ndim (`int`): How many dimensions a single image has at most.
    """
    is_batch = (isinstance(images, np.ndarray) or _is_tensor(images)) and images.ndim > max_ndim
    if is_batch or isinstance(images, (list, tuple)):
        return [image for entry in images for image in flatten_images(entry, max_ndim)]
    return [images]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach")


def _tensor_values(tensor: "torch.Tensor") -> np.ndarray:
    """A tensor of any device and type as an array; floats in float32, since NumPy has no bfloat16."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _check_has_pixels(shape: Sequence[int]):
    if 0 in shape:
        raise ValueError(f"an image must have at least one pixel, but this one has shape {tuple(shape)}")


def _pil_values(image: Image.Image, convert_rgb: bool) -> np.ndarray:
    """The upright image as (H, W) or (H, W, C), in the type of its mode."""
    _check_has_pixels(image.size)
    decode(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return _sixteen_bit_values(image)
    return np.array(_pil_to_rgb(image) if convert_rgb and image.mode != "F" else image)


def _sixteen_bit_values(image: Image.Image) -> np.ndarray:
    """The values of a grey image of mode I;16 or I (as which older Pillow opens 16-bit files) as uint16."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"a grey image of mode {image.mode!r} must hold 16-bit values in 0..65535, but this one holds "
            f"{values.min()}..{values.max()}; scale it"
        )
    return values.astype(np.uint16)


def _to_native_array(array: np.ndarray) -> np.ndarray:
    """A copy that torch can take: writable, not flipped, in this machine's byte order, of a type torch computes in."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"an image or mask must hold numbers, but this array is of type {array.dtype}")
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 2:
        dtype = np.dtype(np.int64)
    elif dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return np.array(array, dtype=dtype, order="C")


def _pil_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # premultiplied grey converts to nothing but LA
        image = image.convert("LA")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _layout(shape: Sequence[int], usual: str) -> str | None:
    """Where the channels are by their number; `usual` where both ends could be them, `None` where neither can."""
    if len(shape) != 3:
        return None
    places = {CHANNELS_FIRST: shape[0], CHANNELS_LAST: shape[-1]}
    possible = [place for place, length in places.items() if length in CHANNEL_COUNTS]
    return usual if usual in possible else next(iter(possible), None)


def _channels_first(values: np.ndarray, layout: str | None) -> np.ndarray:
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or layout is None:
        raise ValueError(
            f"an image array must have shape (height, width), (height, width, channels) or (channels, height, width) "
            f"with 1, 3 or 4 channels, but this one has {tuple(values.shape)}"
        )
    if layout not in (CHANNELS_FIRST, CHANNELS_LAST):
        raise ValueError(f"`input_data_format` must be {CHANNELS_FIRST!r} or {CHANNELS_LAST!r}, but is {layout!r}")
    return values.transpose(2, 0, 1) if layout == CHANNELS_LAST else values


def _to_valid_range(values: np.ndarray) -> np.ndarray:
    """uint8, or float32 in [0, 1]."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return ((values.astype(np.int32) + 128) // 257).astype(np.uint8)
    low, high = values.min().item(), values.max().item()
    if values.dtype.kind == "f":
        if np.isnan(values).any():
            raise ValueError(
                "this image holds NaN; replace it, or look for a division by zero where the image was made"
            )
        if low < 0 or high > 1:
            raise ValueError(
                f"a float image must hold values in [0, 1], but this one holds {low:g}..{high:g}; divide it by its "
                "full scale, or convert it to uint8 if its scale is 0..255"
            )
        return values.astype(np.float32, copy=False)
    if low < 0 or high > 255:
        raise ValueError(
            f"an image of type {values.dtype} must hold values in 0..255, but this one holds {low}..{high}; convert "
            "it to uint8, or to uint16 if its scale is 0..65535"
        )
    return values.astype(np.uint8)


def _three_channels(values: np.ndarray) -> np.ndarray:
    """(1, 3 or 4, H, W) -> (3, H, W); transparency is laid on white."""
    if len(values) == 1:
        return np.repeat(values, 3, axis=0)
    if len(values) == 3:
        return values
    if len(values) != 4:
        raise ValueError(f"an image must have 1, 3 or 4 channels, but this one has {len(values)}")
    white = np.float32(255 if values.dtype == np.uint8 else 1)
    colour, alpha = values[:3].astype(np.float32), values[3:].astype(np.float32) / white
    blended = colour * alpha + white * (1 - alpha)
    return blended.round().astype(np.uint8) if values.dtype == np.uint8 else blended


__all__ = [
    "flatten_images",
    "to_image_array",
    "to_mask",
    "to_rgb_image",
]
