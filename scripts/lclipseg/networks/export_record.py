"""The exported folder: what its files are called, and the record of what the graph takes and gives.

An exported folder is complete: `model.onnx` with its weights inside, `config.json` with the classes,
`preprocessor_config.json`, `export.json` and, for an open vocabulary, `class_embeddings.safetensors`: a word bank of
the classes (key `words`), whose vectors are what the graph's input `class_embeddings` takes, and beside them the
common direction (key `class_center`) by which vectors of another text tower are known. Where they are not the classes
that the network was trained on, the embeddings of those are there too (key `trained_embeddings`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError

MODEL_FILE, EXPORT_FILE = "model.onnx", "export.json"
BANK_FILE, BANK_NAMES_FILE = "class_embeddings.safetensors", "class_embeddings_names.json"
LOGITS = "logits"  # what a graph gives, or else
SEGMENTATION, SCORES = "segmentation", "scores"  # of an image as it is
CLASS_EMBEDDINGS, CLASS_CENTER, TRAINED_EMBEDDINGS = "class_embeddings", "class_center", "trained_embeddings"


@dataclass(frozen=True)
class ExportRecord:
    """What stands in export.json: what the graph takes and gives, and where it comes from.

    Args:
        format (`str`): `"onnx"`.
        vocabulary (`str`): `"open"`: class embeddings are an input. `"baked"`: the classes are those in config.json.
        label_map (`bool`): whether the graph takes an image and gives a label map, or pixel values and logits.
        int8 (`bool`): whether it is quantised.
        inputs, outputs (`dict`): for each name its type and shape; sides that may vary have names.
        opset (`int`): version of ONNX's operators.
        model (`str`): the checkpoint that it was made from: the name of its folder, or OWNER/NAME on the Hub.
        weights_sha256 (`str`, *optional*): of that checkpoint's weights; None for one on the Hub.
        versions, commit, date: what made it.
    """

    format: str
    vocabulary: str
    label_map: bool
    int8: bool
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    opset: int
    model: str
    weights_sha256: str | None
    versions: dict[str, str]
    commit: str | None
    date: str

    def save(self, folder: Path) -> None:
        (folder / EXPORT_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ExportRecord":
        """Read it again; an [`InputError`] where it cannot be read."""
        try:
            return cls(**json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{folder / EXPORT_FILE} cannot be read: {error}; export the model again") from error


__all__ = [
    "BANK_FILE",
    "BANK_NAMES_FILE",
    "CLASS_CENTER",
    "CLASS_EMBEDDINGS",
    "EXPORT_FILE",
    "LOGITS",
    "MODEL_FILE",
    "SCORES",
    "SEGMENTATION",
    "ExportRecord",
]
