"""Where the project's own files lie: in a checkout, or in what pip installed."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path


def checkout() -> Path | None:
    """The root of the checkout that this code runs from; `None` where it was installed by itself."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "scripts" / "lclipseg").is_dir() and (root / "setup.cfg").is_file() else None


def project(*parts: str) -> Path:
    """
    A file that only a checkout has, such as `project("docs", "results", "costs.json")`.

    Raises:
        FileNotFoundError: this code was installed without its checkout.
    """
    root = checkout()
    if root is None:
        raise FileNotFoundError(
            f"{'/'.join(parts)} is in the project's checkout only, which this installation is not."
        )
    return root.joinpath(*parts)


def configuration(*parts: str) -> Path:
    """A file or folder of configuration/, which ships as `lclipseg.configuration`."""
    root = checkout()
    folder = root / "configuration" if root is not None else Path(str(files("lclipseg.configuration")))
    return folder.joinpath(*parts)


def licence() -> Path:
    """
    The text of the licence of the code.

    Raises:
        FileNotFoundError: it is not where an installation keeps it.
    """
    root = checkout()
    if root is not None:
        return root / "LICENSE"
    try:
        found = [file for file in distribution("lclipseg").files or () if file.name == "LICENSE"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise FileNotFoundError("the installed package lclipseg lacks its LICENSE; install it again.")
    return Path(str(found[0].locate()))
