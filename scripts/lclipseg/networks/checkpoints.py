"""Checkpoints and exported models from where they lie: loaded whole, or refused with the reason."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from lclipseg.console.errors import InputError
from lclipseg.console.hub import reach_hub
from lclipseg.networks.export_record import EXPORT_FILE, MODEL_FILE, ExportRecord
from lclipseg.networks.exported import OnnxModel, load_exported
from lclipseg.networks.folders import CONFIG_NAME, check_model_type, is_exported, located
from modeling_lclipseg import LClipSegForSemanticSegmentation  # and with it the Auto classes

PICKLE_SUFFIXES = (".bin", ".ckpt", ".pkl", ".pt", ".pth", ".tar")


def load_model(path_or_repo: str | Path, revision: str | None = None) -> tuple[Any, Any]:
    """Load a checkpoint for prediction: float32 whatever it was saved in, eval mode, CPU.

    Args:
        path_or_repo (`str` or `Path`): a folder that `save_pretrained` wrote, or the name of a repository on the Hub.
        revision (`str`, *optional*): branch, tag or commit of the repository.

    Returns:
        `tuple`: the [`LClipSegForSemanticSegmentation`], and its [`LClipSegImageProcessor`].

    Raises:
        InputError: no such folder or repository, no `config.json`, another kind of model, an exported one, or weights
            that are missing, incomplete, damaged or not safetensors.
    """
    source, folder = located(path_or_repo)
    if folder is not None and is_exported(folder):
        raise InputError(
            f"{folder} holds an exported model, which `lclipseg segment` and `lclipseg evaluate` can run and "
            f"nothing else can use; give the checkpoint that it was made from ({ExportRecord.load(folder).model})"
        )
    if folder is None:
        reach_hub(source)
    with _failures_named(source):
        _check_model_type(source, revision)
        if folder is not None:
            _check_weights(folder)
        model, report = AutoModelForSemanticSegmentation.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # reported below, with the name of the tensor
            output_loading_info=True,
        )
        image_processor = AutoImageProcessor.from_pretrained(source, revision=revision)
    wrong = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if wrong:
        raise InputError(
            f"the weights of {source} do not fit its config: {len(wrong)} tensors are missing or have another shape "
            f"({', '.join(wrong[:3])}) and would stay random. The file is incomplete, or of another "
            "version of this code (CHANGELOG.md)."
        )
    return model.eval(), image_processor


def load_runnable(path_or_repo: str | Path, revision: str | None = None) -> tuple[Any, Any]:
    """Load a checkpoint, or an exported model, for those who only run it; see [`load_model`].

    Args:
        path_or_repo (`str` or `Path`): as for [`load_model`], or a folder that `lclipseg export` wrote.
        revision (`str`, *optional*): branch, tag or commit of the repository.

    Returns:
        `tuple`: the [`LClipSegForSemanticSegmentation`] or [`OnnxModel`], and its [`LClipSegImageProcessor`].

    Raises:
        InputError: as in [`load_model`], a graph that cannot be read, or onnxruntime is not installed.
    """
    source, folder = located(path_or_repo)
    if folder is None or not is_exported(folder):
        return load_model(path_or_repo, revision)
    with _failures_named(source):
        _check_model_type(source)
        return load_exported(folder).eval(), AutoImageProcessor.from_pretrained(source)


def check_has_classes(model: LClipSegForSemanticSegmentation) -> None:
    """An [`InputError`] for a model that was saved before it had classes. An exported one always has them."""
    if not isinstance(model, OnnxModel) and model.head.takes_text and not model.class_embeddings.any():
        raise InputError(
            "the checkpoint has no class embeddings; give --classes (and --bank), or save it after set_classes(names)"
        )


@contextmanager
def _failures_named(source: str) -> Iterator[None]:
    """What goes wrong inside names the model."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{source} cannot be loaded: {error}") from error


def _check_model_type(source: str, revision: str | None = None) -> None:
    check_model_type(source, PreTrainedConfig.get_config_dict(source, revision=revision)[0].get("model_type"))


def _check_weights(folder: Path) -> None:
    if (folder / SAFE_WEIGHTS_NAME).is_file() or (folder / SAFE_WEIGHTS_INDEX_NAME).is_file():
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise InputError(
            f"{folder} has its weights only as a pickle ({', '.join(pickles)}), which can run code when it is read; "
            f"only {SAFE_WEIGHTS_NAME} is loaded. Save the model again with save_pretrained where you trust the file"
        )
    raise InputError(f"{folder} has a {CONFIG_NAME} but no weights: {SAFE_WEIGHTS_NAME} is missing")


def weights_sha256(folder: str | Path) -> str | None:
    """The SHA-256 of what runs in a folder, by which a result knows it: the graph of an exported model, or a
    checkpoint's weights; None where there is none, as with a name on the Hub."""
    folder = Path(folder).expanduser()
    weights = folder / (MODEL_FILE if (folder / EXPORT_FILE).is_file() else SAFE_WEIGHTS_NAME)
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
