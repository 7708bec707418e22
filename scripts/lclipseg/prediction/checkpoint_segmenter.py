"""Images through a checkpoint, by torch."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.modeling_outputs import SemanticSegmenterOutput

from lclipseg.console.errors import InputError
from lclipseg.networks.checkpoints import check_has_classes, load_runnable
from lclipseg.networks.class_embeddings import take_classes
from lclipseg.networks.segmenter import Segmenter
from lclipseg.prediction.segment import image_logits, segment_images

logger = logging.getLogger("lclipseg")


class CheckpointSegmenter:
    """
    A checkpoint that segments images, on the GPU if there is one; or an export, where its classes need a text tower.

    Args:
        source (`str`): Folder, or OWNER/NAME on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of a model on the Hub.
        names (sequence of `str`, *optional*): Classes instead of its own.
        bank (`str`, *optional*): A word bank to look them up in.
        given (`str`, *optional*): The option that asked for them, for messages.
        least_score (`float`, *optional*): Pixels whose highest logit is lower get the id -1.

    Raises:
        InputError: a model, a class or a word bank that cannot be used.
    """

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        names: Sequence[str] | None = None,
        bank: str | None = None,
        given: str = "",
        least_score: float | None = None,
    ):
        self.least_score = least_score
        model, self.image_processor = load_runnable(source, revision)
        if names is not None:
            take_classes(model, names, given=given, bank=bank)
        check_has_classes(model)
        self.model = _folded(model, source).to(_device())

    @property
    def id2label(self) -> dict[int, str]:
        return dict(self.model.config.id2label)

    def segment(self, image: Image.Image, mode: str = "whole") -> np.ndarray:
        """The class of every pixel of an upright RGB image, (height, width); `mode` as in [`InferenceMode`]."""
        try:
            return segment_images(self.model, self.image_processor, [image], mode=mode, least_score=self.least_score)[
                0
            ].numpy()
        except torch.OutOfMemoryError as error:
            raise InputError(str(error)) from error

    def logits(self, image: Image.Image) -> torch.Tensor:
        """(K, h, w), on the model's device; an [`InputError`] for an exported graph that gives none."""
        return image_logits(self.model, self.image_processor, image)

    def label_map(self, logits: torch.Tensor, image: Image.Image) -> np.ndarray:
        """The class of every pixel of the image that such logits are of, (height, width) int64."""
        outputs, size = SemanticSegmenterOutput(logits=logits[None]), (image.height, image.width)
        (label_map,) = self.image_processor.post_process_semantic_segmentation(
            outputs, [size], least_score=self.least_score
        )
        return label_map.cpu().numpy()


def _device() -> torch.device:
    """The GPU that a launcher meant for this process, or the only one, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def _folded(model: Segmenter, source: str) -> Any:
    """A copy that takes less time, or the model itself where its backbone allows none."""
    try:
        return model.fold()
    except ValueError as error:
        logger.warning(f"{source} runs as it is, in more time: {error}")
        return model


__all__ = ["CheckpointSegmenter"]
