"""Where a checkpoint or an export lies: a folder, checked, or a name on the Hub. Nothing here needs torch."""

from importlib.util import find_spec
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.console.hub import check_cached
from lclipseg.console.nearest import nearest
from lclipseg.networks.export_record import EXPORT_FILE

CONFIG_NAME = "config.json"  # as transformers calls it
MODEL_TYPE = "lclipseg"


def located(path_or_repo: str | Path) -> tuple[str, Path | None]:
    """
    What Transformers shall load, and the folder where it is one.

    Raises:
        [`InputError`]: a folder that there is not, or that holds no `config.json`.
    """
    source = str(path_or_repo)
    if not _is_local(source):
        return source, None
    folder = Path(source).expanduser()
    _check_folder(folder)
    return str(folder), folder


def check_at_hand(path_or_repo: str | Path, revision: str | None = None) -> None:
    """As [`located`], and an [`InputError`] for a name in no cache while the Hub is out of reach."""
    source, folder = located(path_or_repo)
    if folder is None and find_spec("huggingface_hub") and find_spec("torch"):  # else these are what is told
        check_cached(source, CONFIG_NAME, revision)


def is_exported(folder: Path) -> bool:
    """Whether `lclipseg export` wrote a folder."""
    return (folder / EXPORT_FILE).is_file()


def exported_folder(path_or_repo: str | Path) -> Path | None:
    """The folder of an export; `None` for a checkpoint or a name on the Hub. Errors as in [`located`]."""
    folder = located(path_or_repo)[1]
    return folder if folder is not None and is_exported(folder) else None


def check_model_type(source: str, found: object) -> None:
    """An [`InputError`] where the `model_type` in a config is another project's."""
    if found != MODEL_TYPE:
        raise InputError(
            f"{source} holds a model of type {found!r}, not {MODEL_TYPE!r}; give a checkpoint of this project"
        )


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


__all__ = [
    "CONFIG_NAME",
    "MODEL_TYPE",
    "check_at_hand",
    "check_model_type",
    "exported_folder",
    "is_exported",
    "located",
]
