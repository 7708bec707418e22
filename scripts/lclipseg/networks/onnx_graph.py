"""An exported folder as onnxruntime runs it. Nothing here needs torch."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.console.extras import missing_library
from lclipseg.console.files import read_json
from lclipseg.networks.export_record import CLASS_EMBEDDINGS, MODEL_FILE, SCORES, SEGMENTATION, ExportRecord
from lclipseg.networks.folders import CONFIG_NAME, check_model_type
from lclipseg.networks.onnx_words import ExportedWords

logger = logging.getLogger("lclipseg")

PREPROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class ExportedConfig:
    """
    What running a graph needs of config.json.

    Args:
        class_names (`tuple[str, ...]`): The classes, in the order of their ids.
        trained_classes (`tuple[str, ...]`, *optional*): Those that the network was trained on, where they are others.
        text_model (`str`, *optional*): Name of the text tower.
        prompt_templates (`tuple[str, ...]`): The sentences that words were put into.
    """

    class_names: tuple[str, ...]
    trained_classes: tuple[str, ...] | None
    text_model: str | None
    prompt_templates: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> "ExportedConfig":
        """Read it; an [`InputError`] where it cannot be used."""
        content = read_json(folder / CONFIG_NAME)
        check_model_type(str(folder), content.get("model_type"))
        try:
            names = {int(index): str(name) for index, name in content["id2label"].items()}
        except (AttributeError, KeyError, ValueError) as error:
            raise InputError(f"{folder / CONFIG_NAME} names no classes: {error!r}; export the model again") from error
        trained = content.get("trained_classes")
        return cls(
            class_names=tuple(names[index] for index in sorted(names)),
            trained_classes=None if trained is None else tuple(trained),
            text_model=content.get("text_model_name_or_path"),
            prompt_templates=tuple(content.get("prompt_templates") or ()),
        )


class OnnxGraph:
    """
    A graph with its classes, which an open vocabulary can exchange.

    Args:
        folder (`Path`): An exported folder.

    Attributes:
        class_names (`tuple[str, ...]`): The present classes.
        settings (`dict`): What stands in preprocessor_config.json.

    Raises:
        InputError: a file that is missing or cannot be used, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.record = ExportRecord.load(folder)
        self.config = ExportedConfig.load(folder)
        self.class_names: Sequence[str] = self.config.class_names
        self.settings: Mapping[str, Any] = read_json(folder / PREPROCESSOR_FILE)
        self.session = open_session(folder / MODEL_FILE)
        self.words: ExportedWords | None = None
        self._vectors: np.ndarray | None = None  # (K, D)
        if self.open_vocabulary:
            self.words = ExportedWords.load(folder, self.config)
            self._vectors = self.words.class_embeddings

    @property
    def open_vocabulary(self) -> bool:
        """Whether the classes are an input."""
        return self.record.vocabulary == "open"

    def find_vectors(self, names: Sequence[str], bank: str | None = None, given: str = "") -> np.ndarray:
        """
        The embedding of every class; see [`ExportedWords.find`].

        Args:
            names (sequence of `str`): The classes.
            bank (`str`, *optional*): A word bank to look them up in first.
            given (`str`, *optional*): The option that asked for them, for messages.

        Returns:
            `np.ndarray` of shape `(num_classes, class_embed_dim)`.

        Raises:
            InputError: the classes are baked into the graph, bad names, or a bank or a word that cannot be used.
        """
        where = f" (--bank {bank})" if bank is not None else " (a word bank is given by --bank FILE.safetensors#KEY)"
        try:
            if self.words is None:
                raise InputError(baked_in(self.folder, self.config.class_names))
            return self.words.find(names, bank)
        except ValueError as error:
            kind = type(error) if isinstance(error, InputError) else InputError
            raise kind(f"{given}: {error}{where}" if given else f"{error}{where}") from error

    def take_classes(self, names: Sequence[str], bank: str | None = None, given: str = "") -> None:
        """Replace the classes. A warning names those that are unlike all trained ones. See [`find_vectors`]."""
        self._vectors = self.find_vectors(names, bank, given)
        self.class_names = tuple(name.strip() for name in names)
        if self.words is not None and (warning := self.words.unfamiliar(self.class_names, self._vectors)):
            logger.warning(warning)

    def run(self, values: np.ndarray, class_embeddings: np.ndarray | None = None) -> np.ndarray:
        """The graph's output for its first input: logits or a label map. Other class embeddings for this once."""
        return next(iter(self.outputs(values, class_embeddings).values()))

    def outputs(self, values: np.ndarray, class_embeddings: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """As [`run`], all outputs by name."""
        feed = {self.session.get_inputs()[0].name: values}
        vectors = self._vectors if class_embeddings is None else class_embeddings
        if vectors is not None:  # an open vocabulary
            feed[CLASS_EMBEDDINGS] = vectors
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feed), strict=True))


def above_least(outputs: Mapping[str, np.ndarray], least_score: float | None, folder: Path) -> np.ndarray:
    """
    The label map (height, width), int32, that a graph gives.

    Args:
        outputs (`Mapping[str, np.ndarray]`): All outputs of a graph with a label map, by name.
        least_score (`float`, *optional*): Pixels whose highest logit is lower get the id -1.
        folder (`Path`): Of the export, for messages.

    Raises:
        InputError: a least score, and a graph from before label maps had scores.
    """
    ids = outputs[SEGMENTATION]
    if least_score is None:
        return ids
    if SCORES not in outputs:
        raise InputError(
            f"{folder} was exported by an older version, whose label maps had no scores for a least one; export the "
            "checkpoint again"
        )
    return np.where(outputs[SCORES] >= least_score, ids, np.int32(-1))


def baked_in(folder: Path, names: Sequence[str]) -> str:
    """Why a graph takes no other classes."""
    return (
        f"{folder} has its {len(names)} classes baked in ({', '.join(names[:8])}) and takes no others; export the "
        "checkpoint with --vocabulary open, or with other --classes"
    )


def open_session(path: Path, threads: int | None = None) -> Any:
    """
    A graph in onnxruntime.

    Args:
        path (`Path`): The file.
        threads (`int`, *optional*): Of the CPU; by default `OMP_NUM_THREADS`, or all cores where it is not set.

    Raises:
        InputError: onnxruntime is not installed, or cannot read the graph.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise InputError(missing_library(str(path), "onnxruntime")) from error
    options = onnxruntime.SessionOptions()
    given = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(given) if given.isdecimal() else 0)
    # Its threads would go on turning for a while, and be in the way of what makes the label map next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has exceptions of its own for every status, without a common one
        raise InputError(f"{path} cannot be read by onnxruntime: {error}") from error


__all__ = ["ExportedConfig", "OnnxGraph", "above_least", "baked_in", "open_session"]
