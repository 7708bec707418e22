"""A folder that is there as a whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lclipseg.console.errors import InputError


@contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """
    A folder to fill beside the goal, moved there at the end, so that an interrupted run leaves no half data set. Its
    parent is scratch space, and goes with whatever is left in it.

    Args:
        out (`Path`): the goal: not there, or an empty folder.

    Raises:
        [`InputError`]: there is no place for it.
    """
    with scratch_beside(out) as folder:
        made = folder / "made"
        made.mkdir()
        yield made
        if out.is_dir():
            out.rmdir()
        made.rename(out)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of the goal, for a while. Raises [`InputError`] if there is no place for it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-")
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}") from error
    with scratch as folder:
        yield Path(folder)
