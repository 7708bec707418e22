"""What segments images, opened from where it lies: an export without torch, anything else with it."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from PIL import Image

from lclipseg.console.frame import without_bars_of_libraries
from lclipseg.networks.folders import exported_folder
from lclipseg.networks.onnx_words import MissingWords
from lclipseg.prediction.graph_segmenter import GraphSegmenter


class ImageSegmenter(Protocol):
    """Gives the class of every pixel of an upright RGB image, (height, width); -1 where it is none."""

    @property
    def id2label(self) -> dict[int, str]: ...

    def segment(self, image: Image.Image, mode: str = "whole") -> np.ndarray: ...


def open_segmenter(
    source: str,
    revision: str | None = None,
    names: Sequence[str] | None = None,
    bank: str | None = None,
    given: str = "",
    least_score: float | None = None,
) -> ImageSegmenter:
    """
    Args:
        source (`str`): Folder of a checkpoint or an export, or OWNER/NAME on the Hub.
        revision, names, bank, given, least_score: See [`CheckpointSegmenter`].

    Raises:
        InputError: a model, a class or a word bank that cannot be used.
        ModuleNotFoundError: a checkpoint, and torch is not installed.
    """
    folder = exported_folder(source)
    if folder is not None:
        try:
            return GraphSegmenter(folder, names, bank, given, least_score)
        except MissingWords:  # torch has the text tower for them
            if find_spec("torch") is None:
                raise
    from lclipseg.prediction.checkpoint_segmenter import CheckpointSegmenter

    with without_bars_of_libraries():
        return CheckpointSegmenter(source, revision, names, bank, given, least_score)


__all__ = ["ImageSegmenter", "open_segmenter"]
