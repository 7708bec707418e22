"""Label maps as images: a palette, an overlay with a legend, indexed masks, and the area share of every class.

Nothing here needs torch, so that an exported model can be run without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

if TYPE_CHECKING:
    import torch

LabelMap = Union["torch.Tensor", np.ndarray]  # class ids, (height, width)
UNLABELLED = "unlabelled"
UNLABELLED_COLOUR = (128, 128, 128)  # never in the palette, which has no greys
FIRST_COLOUR = (0, 102, 204)
PAPER, INK = (255, 255, 255), (32, 33, 36)
MAX_NAME_LENGTH = 40  # letters; longer names are cut with an ellipsis


@dataclass(frozen=True)
class ClassShare:
    """How much of an image a class covers.

    Args:
        class_id (`int` or `None`): The class index; `None` stands for all pixels whose id has no name.
        name (`str`): The class name.
        share (`float`): Its part of all pixels, in (0, 1].
    """

    class_id: int | None
    name: str
    share: float


def class_palette(num_classes: int) -> np.ndarray:
    """
    Distinct colours: each is, of the colours left, the one farthest from all before it, as the eye sees distance. The
    colours of a short palette are the first ones of a longer one, so adding a class changes no other colour.

    Args:
        num_classes (`int`): How many, from 1 to about 3,000.

    Returns:
        `np.ndarray` of shape `(num_classes, 3)`: RGB, uint8.

    Raises:
        ValueError: fewer than 1, or more than there are colours that can be told apart.
    """
    colours, _ = _candidate_colours()
    if not 1 <= num_classes <= len(colours):
        raise ValueError(
            f"A palette has 1 to {len(colours)} colours, but {num_classes} were asked for; give a palette of your own."
        )
    return colours[list(_farthest_first(num_classes))]


def class_shares(segmentation: LabelMap, id2label: Mapping[int, str]) -> list[ClassShare]:
    """
    The classes of a label map, the largest first; pixels whose id has no name are one entry, the last.

    Args:
        segmentation (`torch.Tensor` or `np.ndarray` of shape `(height, width)`): Class ids.
        id2label (`Mapping[int, str]`): The name of each id.

    Raises:
        ValueError: `segmentation` is not two-dimensional or holds no integers.
    """
    ids = _class_ids(segmentation)
    names = {int(class_id): name for class_id, name in id2label.items()}
    counts = np.bincount(ids[ids >= 0], minlength=1)
    shares = [
        ClassShare(int(class_id), names[int(class_id)], float(counts[class_id] / ids.size))
        for class_id in np.flatnonzero(counts)
        if int(class_id) in names
    ]
    shares.sort(key=lambda share: -share.share)
    labelled = sum(int(counts[share.class_id]) for share in shares)
    if labelled < ids.size:
        shares.append(ClassShare(None, UNLABELLED, (ids.size - labelled) / ids.size))
    return shares


def class_segments(
    ids: np.ndarray, confidence: np.ndarray, labels: Sequence[str] | Mapping[int, str], threshold: float = 0.0
) -> list[dict[str, Any]]:
    """
    A label map in the form of the image-segmentation pipelines: one segment for every class that has pixels.

    Args:
        ids (`np.ndarray` of shape `(height, width)`): Class ids, each of which has a label.
        confidence (`np.ndarray` of shape `(height, width)`): The probability of that class, 0 to 1.
        labels (sequence of `str`, or `Mapping[int, str]`): The name of each id.
        threshold (`float`, *optional*, defaults to 0): Leave out segments of a lower score.

    Returns:
        `list[dict]`: `score`, the mean confidence over the segment; `label`; `mask`, a PIL image of mode L, 255 where
        the class is and 0 elsewhere.
    """
    # Not by sorting or by picking pixels out, either of which takes copies of a large image.
    pixels = np.bincount(ids.ravel())
    sums = np.bincount(ids.ravel(), weights=confidence.ravel())
    segments = []
    for index in np.flatnonzero(pixels).tolist():
        score = float(sums[index] / pixels[index])
        if score >= threshold:
            mask = Image.fromarray((ids == index).astype(np.uint8) * np.uint8(255))
            segments.append({"score": score, "label": labels[index], "mask": mask})
    return segments


def draw_overlay(
    image: Image.Image,
    segmentation: LabelMap,
    id2label: Mapping[int, str],
    palette: np.ndarray | Sequence[Sequence[int]] | None = None,
    opacity: float = 0.6,
    legend: bool = True,
) -> Image.Image:
    """
    The image with its classes in colour and, beside or below it, a legend of the classes in it with their area shares.

    Args:
        image (`PIL.Image.Image`): The image; an EXIF orientation is applied, as the processor does.
        segmentation (`torch.Tensor` or `np.ndarray` of shape `(height, width)`):
            Class ids, of the size of the upright image. Ids without a name stay uncoloured.
        id2label (`Mapping[int, str]`): The name of each id.
        palette (array-like of shape `(num_colours, 3)`, *optional*):
            RGB of each id in 0..255; [`class_palette`] by default.
        opacity (`float`, *optional*, defaults to 0.6): 0 shows the image alone, 1 the colours alone.
        legend (`bool`, *optional*, defaults to `True`): `False` returns an image of the size of the image.

    Returns:
        `PIL.Image.Image`: RGB.

    Raises:
        ValueError: sizes differ, `opacity` is outside [0, 1], or the palette lacks a colour for a class.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must lie in [0, 1], but is {opacity}.")
    ids = _class_ids(segmentation)
    image = ImageOps.exif_transpose(image)
    if ids.shape != (image.height, image.width):
        raise ValueError(
            f"The segmentation has height and width {ids.shape}, but the image has {(image.height, image.width)}; "
            "pass the image's size as target size to post-processing."
        )
    colours = _colours(palette, id2label)
    overlay = _blend(image.convert("RGB"), ids, id2label, colours, opacity)
    if not legend:
        return overlay
    return _Legend(class_shares(ids, id2label), colours, overlay.size).beside(overlay)


def to_indexed_image(
    segmentation: LabelMap, palette: np.ndarray | Sequence[Sequence[int]] | None = None
) -> Image.Image:
    """
    A label map as an image whose pixel values are the class ids.

    Args:
        segmentation (`torch.Tensor` or `np.ndarray` of shape `(height, width)`): Class ids, 0..65535; -1, no class,
            becomes 255, or 65535 where the ids reach so far.
        palette (array-like of shape `(num_colours, 3)`, *optional*):
            RGB of each id in 0..255, embedded in the image; [`class_palette`] by default.

    Returns:
        `PIL.Image.Image`: mode P, or 16-bit grey without a palette where ids exceed 255.

    Raises:
        ValueError: ids outside -1..65535.
    """
    ids = _class_ids(segmentation)
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < -1 or highest - min(lowest, 0) > 65535:
        raise ValueError(f"A mask image holds ids in 0..65535, but these reach from {lowest} to {highest}.")
    if highest - min(lowest, 0) > 255:  # with no class, 255 is taken
        return Image.fromarray(ids.astype(np.int32).astype(np.uint16))
    indexed = Image.fromarray(ids.astype(np.int32).astype(np.uint8))  # -1 becomes the highest number
    colours = class_palette(256) if palette is None else np.asarray(palette, dtype=np.uint8)[:256]
    indexed.putpalette(colours.tobytes())
    return indexed


def _class_ids(segmentation: LabelMap) -> np.ndarray:
    given: Any = segmentation
    ids = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"A segmentation must be a (height, width) array of class ids, but this one has shape {ids.shape} and "
            f"type {ids.dtype}."
        )
    return ids


def _colours(palette: np.ndarray | Sequence[Sequence[int]] | None, id2label: Mapping[int, str]) -> np.ndarray:
    """RGB by class id, (highest id + 1, 3) uint8."""
    needed = max((int(class_id) for class_id in id2label), default=0) + 1
    if palette is None:
        return class_palette(needed)
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or len(colours) < needed:
        raise ValueError(
            f"`palette` has shape {colours.shape}, but ids up to {needed - 1} have names: expected at least "
            f"({needed}, 3)."
        )
    return colours.astype(np.uint8)


def _blend(
    image: Image.Image, ids: np.ndarray, id2label: Mapping[int, str], colours: np.ndarray, opacity: float
) -> Image.Image:
    named = np.zeros(len(colours), dtype=bool)
    named[[int(class_id) for class_id in id2label]] = True
    inside = (ids >= 0) & (ids < len(colours))
    index = np.where(inside, ids, 0)
    shown = inside & named[index]
    pixels = np.array(image)
    tint = np.where(shown[..., None], colours[index], pixels)
    return Image.blend(image, Image.fromarray(tint), opacity)


class _Legend:
    """A table of the classes in an image: a chip with the share in the colour of the class, then its name."""

    def __init__(self, shares: Sequence[ClassShare], colours: np.ndarray, image_size: tuple[int, int]):
        self.shares = shares
        self.colours = colours
        self.image_size = image_size
        em = int(np.clip((image_size[0] * image_size[1]) ** 0.5 / 32, 13, 64))
        self.font = ImageFont.load_default(size=em)
        self.gap = max(4, em // 2)
        self.row_height = round(em * 1.8)
        self.names = [_cut(share.name) for share in shares]
        self.percents = [_percent(share.share) for share in shares]
        self.chip_width = round(max(map(self.font.getlength, self.percents))) + 2 * self.gap
        self.column_width = self.chip_width + 3 * self.gap + round(max(map(self.font.getlength, self.names)))

    def beside(self, image: Image.Image) -> Image.Image:
        """A canvas with the image and the legend to the right or below, whichever keeps it more compact."""
        options = [(right, columns) for right in (False, True) for columns in range(1, len(self.shares) + 1)]
        right, columns = min(options, key=lambda option: self._cost(*option))
        canvas = Image.new("RGB", self._canvas_size(right, columns), PAPER)
        canvas.paste(image)
        origin = (image.width + self.gap, self.gap) if right else (self.gap, image.height + self.gap)
        self._draw(ImageDraw.Draw(canvas), origin, columns)
        return canvas

    def _rows(self, columns: int) -> int:
        return -(-len(self.shares) // columns)

    def _canvas_size(self, right: bool, columns: int) -> tuple[int, int]:
        width = columns * self.column_width + self.gap
        height = self._rows(columns) * self.row_height + 2 * self.gap
        if right:
            return self.image_size[0] + width, max(self.image_size[1], height)
        return max(self.image_size[0], width), self.image_size[1] + height

    def _cost(self, right: bool, columns: int) -> tuple[int, int, int]:
        width, height = self._canvas_size(right, columns)
        return max(width, height), width * height, columns

    def _draw(self, draw: ImageDraw.ImageDraw, origin: tuple[int, int], columns: int):
        rows = self._rows(columns)
        for index, share in enumerate(self.shares):
            left = origin[0] + index // rows * self.column_width
            top = origin[1] + index % rows * self.row_height
            middle = top + self.row_height // 2
            margin = max(1, self.row_height // 12)
            colour = UNLABELLED_COLOUR if share.class_id is None else tuple(map(int, self.colours[share.class_id]))
            chip = (left, top + margin, left + self.chip_width, top + self.row_height - margin)
            draw.rounded_rectangle(chip, radius=self.gap // 2, fill=colour)
            draw.text(
                (left + self.chip_width - self.gap, middle),
                self.percents[index],
                fill=_readable_on(colour),
                font=self.font,
                anchor="rm",
            )
            draw.text(
                (left + self.chip_width + self.gap, middle), self.names[index], fill=INK, font=self.font, anchor="lm"
            )


def _cut(name: str) -> str:
    name = "".join(character if character.isprintable() else " " for character in name)  # of one line, above all
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"


def _readable_on(colour: tuple[int, ...]) -> tuple[int, int, int]:
    """Light text wherever its contrast (WCAG) is at least 3 to 1: it reads better on saturated colours than dark."""
    linear = _linear_rgb(np.array(colour))
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return INK if luminance > 0.3 else PAPER


def _linear_rgb(colours: np.ndarray) -> np.ndarray:
    scaled = colours / 255
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)


@lru_cache(maxsize=1)
def _candidate_colours() -> tuple[np.ndarray, np.ndarray]:
    """Colours on a grid, without greys, glaring, near-black and near-white ones: RGB (N, 3), and the same in OKLab."""
    levels = np.arange(0, 256, 17)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    # Björn Ottosson's OKLab: Euclidean distance in it is about perceived distance.
    cones = _linear_rgb(colours) @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    perceived = np.cbrt(cones) @ np.array(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip
    lightness, chroma = perceived[:, 0], np.hypot(perceived[:, 1], perceived[:, 2])
    kept = (lightness > 0.4) & (lightness < 0.92) & (chroma > 0.06) & (chroma < 0.22)
    return colours[kept].astype(np.uint8), perceived[kept]


@lru_cache(maxsize=8)
def _farthest_first(count: int) -> tuple[int, ...]:
    """Indices of `count` candidate colours, each the farthest from those before it."""
    colours, perceived = _candidate_colours()
    chosen = [int(np.abs(colours.astype(int) - FIRST_COLOUR).sum(axis=1).argmin())]
    distance = np.full(len(perceived), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.square(perceived - perceived[chosen[-1]]).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return tuple(chosen)


__all__ = ["ClassShare", "class_palette", "class_segments", "class_shares", "draw_overlay", "to_indexed_image"]
