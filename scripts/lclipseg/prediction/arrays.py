"""What the image processor does, in NumPy and Pillow: images to pixel values, and logits to label maps.

For exported models, which run without torch. Sizes are those of [`Sizing`] on both ways; pixels and labels agree with
the image processor's up to rounding (tests/prediction/test_arrays.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lclipseg.console.torch_free import Size, Sizing

LOGITS_STRIDE = 4  # of the model's logits, as label_map_lclipseg.py has it
MAX_VALUES = 2**20  # how many enlarged logits there may be at a time (4 MiB)


@dataclass(frozen=True)
class ArrayImageProcessor:
    """
    Args:
        settings (`Mapping`): What stands in preprocessor_config.json; see [`LClipSegImageProcessor`].

    Raises:
        ValueError: a size in a form that would stretch, or a number of pixels below 1.
    """

    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        _ = self.sizing, self.resample

    @property
    def size(self) -> dict[str, int]:
        return dict(self.settings["size"])

    @property
    def sizing(self) -> Sizing:
        names = ("do_resize", "size", "do_pad", "pad_size", "pad_size_divisor")
        return Sizing.from_settings(**{name: self.settings.get(name) for name in names})

    @property
    def resample(self) -> Image.Resampling:
        """Files hold Pillow's number, or torchvision's name of it."""
        given = self.settings.get("resample")
        if isinstance(given, str):
            return Image.Resampling[given.upper()]
        return Image.Resampling.BILINEAR if given is None else Image.Resampling(given)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """An upright RGB image as pixel values (1, 3, height, width), float32: scaled, normalised and padded."""
        height, width = self.sizing.resized(image.height, image.width)
        if image.size != (width, height):
            image = image.resize((width, height), self.resample)
        values = np.asarray(image, dtype=np.float32)  # (h, w, 3)
        if self.settings.get("do_rescale"):
            values = values * np.float32(self.settings["rescale_factor"])
        if self.settings.get("do_normalize"):
            mean, deviation = (np.float32(self.settings[name]) for name in ("image_mean", "image_std"))
            values = (values - mean) / deviation
        padded = np.zeros((1, 3, *self.sizing.padded([(height, width)])), dtype=np.float32)  # 0 is the mean colour
        padded[0, :, :height, :width] = values.transpose(2, 0, 1)
        return padded

    def label_map(self, logits: np.ndarray, size: Size, least_score: float | None = None) -> np.ndarray:
        """
        The class of highest logit at every pixel; of several, the one of lowest index. As label_map_lclipseg.py does,
        only the pixels along borders between classes are interpolated.

        Args:
            logits (`np.ndarray` of shape `(num_classes, height / 4, width / 4)`): Of one image.
            size (`tuple[int, int]`): Height and width of the image as it was given.
            least_score (`float`, *optional*): Pixels whose highest logit is lower get the id -1.

        Returns:
            `np.ndarray` of shape `size`: int32.
        """
        if least_score is not None:  # one more class, as `with_least_score` in label_map_lclipseg.py
            rest = np.full_like(logits[:1], least_score)
            labels = self.label_map(np.concatenate([logits, rest]), size)
            labels[labels == len(logits)] = -1
            return labels
        rows, columns = self._positions(logits, size)
        cells = np.ascontiguousarray(logits.transpose(1, 2, 0))  # (h, w, K)
        best = cells.argmax(axis=2).astype(np.int32)
        top, left = rows.astype(np.intp), columns.astype(np.intp)
        # Right wherever the four corners of a cell agree. NumPy lays out what it picks as it likes.
        labels = np.ascontiguousarray(best[top][:, left])
        lower, right = (np.minimum(np.arange(1, side + 1), side - 1) for side in best.shape)
        below = best[lower]
        unsettled = (best != below) | (best != best[:, right]) | (best != below[:, right])
        pixels = np.flatnonzero(unsettled[top][:, left])
        flat = labels.reshape(-1)
        step = max(1, MAX_VALUES // len(logits))
        for first in range(0, len(pixels), step):
            some = pixels[first : first + step]
            flat[some] = _mixed(cells, rows[some // len(columns)], columns[some % len(columns)]).argmax(axis=1)
        return labels

    def confidence(self, logits: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """The label map, int32, and the probability of the class at every pixel, float32; as [`label_map`]."""
        ids, sure = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.float32)
        for first, scores in self._enlarged(logits, size):
            rows = slice(first, first + scores.shape[1])
            ids[rows], highest = scores.argmax(axis=0), scores.max(axis=0)
            sure[rows] = 1 / np.exp(scores - highest).sum(axis=0)
        return ids, sure

    def scores(self, logits: np.ndarray, size: Size) -> np.ndarray:
        """The logits at the size of the image, (K, H, W)."""
        return np.concatenate([some for _, some in self._enlarged(logits, size)], axis=1)

    def _enlarged(self, logits: np.ndarray, size: Size) -> Iterator[tuple[int, np.ndarray]]:
        """The enlarged logits (K, rows, W) of some rows after the other, and which row is the first."""
        rows, columns = self._positions(logits, size)
        left = columns.astype(np.intp)
        right, across = np.minimum(left + 1, logits.shape[2] - 1), columns - left
        step = max(1, MAX_VALUES // (len(logits) * size[1]))
        for first in range(0, size[0], step):
            some = rows[first : first + step]
            top = some.astype(np.intp)
            lowest, highest = top[0], min(top[-1] + 1, logits.shape[1] - 1)
            block = logits[:, lowest : highest + 1]
            wide = block[:, :, left]
            wide += (block[:, :, right] - wide) * across
            upper = wide[:, top - lowest]
            lower = wide[:, np.minimum(top + 1, highest) - lowest]
            yield first, upper + (lower - upper) * (some - top)[:, None]

    def _positions(self, logits: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Where the centres of the pixels lie among the logits, along both sides; see [`sample_positions`]."""
        rows, columns = (
            np.clip(
                (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(image / (LOGITS_STRIDE * length))
                - np.float32(0.5),
                0,
                np.float32(cells - 1),
            )
            for length, image, cells in zip(size, self.sizing.resized(*size), logits.shape[1:], strict=True)
        )
        return rows, columns


def _mixed(cells: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The logits (P, K) at some places among the `cells` (h, w, K)."""
    top, left = y.astype(np.intp), x.astype(np.intp)
    bottom, right = np.minimum(top + 1, cells.shape[0] - 1), np.minimum(left + 1, cells.shape[1] - 1)
    down, across = (y - top)[:, None], (x - left)[:, None]
    upper = cells[top, left] * (1 - across) + cells[top, right] * across
    lower = cells[bottom, left] * (1 - across) + cells[bottom, right] * across
    return upper * (1 - down) + lower * down


__all__ = ["ArrayImageProcessor"]
