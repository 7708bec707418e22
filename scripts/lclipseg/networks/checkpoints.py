"""Checkpoints and exported models from where they lie: loaded whole, or refused with the reason."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedConfig
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from lclipseg.console.errors import InputError
from lclipseg.console.nearest import nearest
from lclipseg.networks.export_record import EXPORT_FILE, MODEL_FILE, ExportRecord
from lclipseg.networks.exported import OnnxModel, load_exported
from modeling_lclipseg import LClipSegForSemanticSegmentation  # and with it the Auto classes

MODEL_TYPE = "lclipseg"
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
    source, folder = _located(path_or_repo)
    if folder is not None and _is_exported(folder):
        raise InputError(
            f"{folder} holds an exported model, which `lclipseg segment` and `lclipseg evaluate` can run and "
            f"nothing else can use; give the checkpoint that it was made from ({ExportRecord.load(folder).model})"
        )
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
    source, folder = _located(path_or_repo)
    if folder is None or not _is_exported(folder):
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


def _located(path_or_repo: str | Path) -> tuple[str, Path | None]:
    """What Transformers shall load, and the folder, checked, where it is one."""
    source = str(path_or_repo)
    if not _is_local(source):
        return source, None
    folder = Path(source).expanduser()
    _check_folder(folder)
    return str(folder), folder


def _is_exported(folder: Path) -> bool:
    return (folder / EXPORT_FILE).is_file()


@contextmanager
def _failures_named(source: str) -> Iterator[None]:
    """What goes wrong inside names the model."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{source} cannot be loaded: {error}") from error


def _is_local(source: str) -> bool:
    """Whether a name can only mean a folder: it exists, or no repository could be called so."""
    path = Path(source).expanduser()
    in_folder = path.parent != Path(".") and path.parent.is_dir()
    return path.exists() or in_folder or source.startswith((".", "/", "~")) or source.count("/") > 1


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        siblings = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = nearest(folder.name, siblings)
        hint = f"did you mean {folder.parent / near}?" if near else "give a folder that save_pretrained wrote"
        raise InputError(f"there is no folder {folder}; {hint} (or OWNER/NAME on the Hub)")
    if folder.is_file():
        raise InputError(f"{folder} is a file; give the folder that holds it ({folder.parent})")
    if not (folder / CONFIG_NAME).is_file():
        nested = sorted(path.parent for path in folder.glob(f"*/{CONFIG_NAME}"))
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        best = folder / "best"
        hint = (
            f"did you mean {best if best in nested else nested[-1]}?" if nested else f"it holds {present or 'nothing'}"
        )
        raise InputError(f"{folder} has no {CONFIG_NAME}, so it is no checkpoint; {hint}")


def _check_model_type(source: str, revision: str | None = None) -> None:
    found = PreTrainedConfig.get_config_dict(source, revision=revision)[0].get("model_type")
    if found != MODEL_TYPE:
        raise InputError(
            f"{source} holds a model of type {found!r}, not {MODEL_TYPE!r}; give a checkpoint of this project"
        )


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
