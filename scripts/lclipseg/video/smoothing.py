"""Scores averaged over the frames, against flicker."""

from typing import Any, Protocol

import numpy as np
from PIL import Image


class ScoringSegmenter(Protocol):
    """A segmenter that shows its logits, (K, h, w) of any array type."""

    @property
    def id2label(self) -> dict[int, str]: ...

    def logits(self, image: Image.Image) -> Any: ...

    def label_map(self, logits: Any, image: Image.Image) -> np.ndarray: ...


class SmoothSegmenter:
    """
    An exponential average: logits = keep * logits of the frame before + (1 - keep) * logits of this one.

    Args:
        segmenter ([`ScoringSegmenter`]): What gives the logits of a frame.
        keep (`float`): From 0 (each frame by itself) to below 1.
    """

    def __init__(self, segmenter: ScoringSegmenter, keep: float):
        self._segmenter, self._keep = segmenter, keep
        self._average: Any = None

    @property
    def id2label(self) -> dict[int, str]:
        return self._segmenter.id2label

    def segment(self, image: Image.Image, mode: str = "whole") -> np.ndarray:
        """The class of every pixel of the next frame, (height, width)."""
        logits = self._segmenter.logits(image)
        if self._average is None or self._average.shape != logits.shape:
            self._average = logits
        else:
            self._average = self._keep * self._average + (1 - self._keep) * logits
        return self._segmenter.label_map(self._average, image)


__all__ = ["ScoringSegmenter", "SmoothSegmenter"]
