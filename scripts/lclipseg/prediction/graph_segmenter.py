"""Images through an exported graph, without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.networks.onnx_graph import PREPROCESSOR_FILE, OnnxGraph, above_least
from lclipseg.prediction.arrays import ArrayImageProcessor
from lclipseg.prediction.inference_mode import InferenceMode, window_boxes


class GraphSegmenter:
    """
    An exported model that segments images.

    Args:
        folder (`Path`): An exported folder.
        names (sequence of `str`, *optional*): Classes instead of its own.
        bank (`str`, *optional*): A word bank to look them up in.
        given (`str`, *optional*): The option that asked for them, for messages.
        least_score (`float`, *optional*): Pixels whose highest logit is lower get the id -1.

    Raises:
        InputError: a file or a class that cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str] | None = None,
        bank: str | None = None,
        given: str = "",
        least_score: float | None = None,
    ):
        self.graph = OnnxGraph(folder)
        self.least_score = least_score
        if names is not None:
            self.graph.take_classes(names, bank, given)
        try:
            self.image_processor = ArrayImageProcessor(self.graph.settings)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{folder / PREPROCESSOR_FILE} cannot be used: {error}; export the model again"
            ) from error

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.graph.class_names))

    def segment(self, image: Image.Image, mode: str = "whole") -> np.ndarray:
        """The class of every pixel of an upright RGB image, (height, width) int32; `mode` as in [`InferenceMode`]."""
        if self.graph.record.label_map:
            if mode != "whole":
                raise InputError(no_scores(self.graph.folder))
            return above_least(self.graph.outputs(np.asarray(image)), self.least_score, self.graph.folder)
        if mode == "whole":
            return self.label_map(self.logits(image), image)
        logits = self._windows(image, InferenceMode(mode))
        ids = logits.argmax(axis=0).astype(np.int32)
        return ids if self.least_score is None else np.where(logits.max(axis=0) >= self.least_score, ids, np.int32(-1))

    def logits(self, image: Image.Image) -> np.ndarray:
        """(K, h, w); an [`InputError`] for a graph that gives none."""
        if self.graph.record.label_map:
            raise InputError(no_scores(self.graph.folder))
        return self.graph.run(self.image_processor(image))[0]

    def label_map(self, logits: np.ndarray, image: Image.Image) -> np.ndarray:
        """The class of every pixel of the image that such logits are of, (height, width) int32."""
        return self.image_processor.label_map(logits, (image.height, image.width), self.least_score)

    def _windows(self, image: Image.Image, inference: InferenceMode) -> np.ndarray:
        """Logits (K, H, W), averaged over the windows that cover a pixel."""
        window, stride = inference.window_and_stride(self.image_processor)
        total = np.zeros((len(self.graph.class_names), image.height, image.width), dtype=np.float32)
        visits = np.zeros((image.height, image.width), dtype=np.float32)
        for box in window_boxes(image.height, image.width, window, stride):
            left, top, right, bottom = box
            size = (bottom - top, right - left)
            total[:, top:bottom, left:right] += self.image_processor.scores(self.logits(image.crop(box)), size)
            visits[top:bottom, left:right] += 1
        return total / visits


def no_scores(folder: Path) -> str:
    """Why a graph with a label map cannot be averaged, or asked how sure it is."""
    return (
        f"{folder} gives label maps, without the scores of all classes to average over windows, frames or flipped "
        "images; use whole images without flip and --smooth, or export the checkpoint without --label_map"
    )


__all__ = ["GraphSegmenter", "no_scores"]
