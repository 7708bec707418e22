"""An exported model behind the interface of a checkpoint's model, so that what only runs a model takes either."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from lclipseg.console.errors import InputError
from lclipseg.networks.export_record import (
    BANK_FILE,
    CLASS_CENTER,
    CLASS_EMBEDDINGS,
    LOGITS,
    MODEL_FILE,
    TRAINED_EMBEDDINGS,
    ExportRecord,
)
from lclipseg.networks.onnx_graph import above_least, baked_in, open_session
from modeling_lclipseg import LClipSegConfig, LClipSegVocabulary
from modeling_lclipseg.outputs_lclipseg import LClipSegSemanticSegmenterOutput


class OnnxModel(LClipSegVocabulary, nn.Module):
    """
    What the two kinds of graphs share. It is a module for `eval`, `train` and `to`; it always runs on the CPU.

    Args:
        folder (`Path`): an exported folder.
        record ([`ExportRecord`]): its export.json.

    Raises:
        InputError: onnxruntime is not installed, or cannot read the graph.
    """

    device, dtype = torch.device("cpu"), torch.float32
    trained_embeddings = None
    text_model = None  # words without a vector go to the tower that config.json names

    def __init__(self, folder: Path, record: ExportRecord):
        super().__init__()
        self.folder, self.name_or_path = folder, str(folder)
        self.config = LClipSegConfig.from_pretrained(folder)
        self._open_vocabulary = record.vocabulary == "open"
        self.session = open_session(folder / MODEL_FILE, torch.get_num_threads())
        if self.open_vocabulary:
            vectors = load_file(folder / BANK_FILE)
            self.class_embeddings, self.class_center = vectors["words"], vectors[CLASS_CENTER]
            self.trained_embeddings = vectors.get(TRAINED_EMBEDDINGS)

    @property
    def open_vocabulary(self) -> bool:
        return self._open_vocabulary

    def check_takes_classes(self, names: Sequence[str]) -> None:
        """Raise an [`InputError`] where the classes are baked into the graph."""
        if not self.open_vocabulary:
            raise InputError(baked_in(self.folder, self.config.class_names))

    def fold(self) -> "OnnxModel":
        """Itself: the normalisations of a graph have been folded."""
        return self

    def run(self, values: np.ndarray, class_embeddings: torch.Tensor | None) -> dict[str, np.ndarray]:
        """The graph's outputs for its first input, by name, with the class embeddings given, or else its own."""
        feed = {self.session.get_inputs()[0].name: values}
        if self.open_vocabulary:
            vectors = self.class_embeddings if class_embeddings is None else class_embeddings
            feed[CLASS_EMBEDDINGS] = vectors.float().cpu().numpy()
        elif class_embeddings is not None:
            self.check_takes_classes(())
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feed), strict=True))

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> Any: ...


class OnnxNetwork(OnnxModel):
    """A graph from pixel values to logits."""

    def forward(
        self, pixel_values: torch.Tensor, class_embeddings: torch.Tensor | None = None
    ) -> LClipSegSemanticSegmenterOutput:
        """As `LClipSegForSemanticSegmentation.forward`: `pixel_values` (B, 3, H, W) give `logits` (B, K, H/4, W/4)."""
        outputs = self.run(pixel_values.cpu().numpy(), class_embeddings)
        return LClipSegSemanticSegmenterOutput(logits=torch.from_numpy(outputs[LOGITS]))


class OnnxSegmenter(OnnxModel):
    """A graph from an image to its label map."""

    def forward(
        self,
        image: Image.Image,
        class_embeddings: torch.Tensor | None = None,
        least_score: float | None = None,
    ) -> torch.Tensor:
        """An upright RGB image gives the class ids (height, width), int64; -1 where the highest logit is lower."""
        outputs = self.run(np.asarray(image), class_embeddings)
        return torch.from_numpy(above_least(outputs, least_score, self.folder)).long()


def load_exported(folder: Path) -> OnnxModel:
    """
    Open an exported folder.

    Raises:
        InputError: export.json or the graph cannot be read, or onnxruntime is not installed.
    """
    record = ExportRecord.load(folder)
    return (OnnxSegmenter if record.label_map else OnnxNetwork)(folder, record)


__all__ = ["OnnxModel", "OnnxNetwork", "OnnxSegmenter", "load_exported"]
