"""What `lclipseg segment` is given: image files, or rows of a table, each with a name for its results."""

import glob
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.console.torch_free import open_image
from lclipseg.data.files import IMAGE_SUFFIXES, LeftOut, Why, walk

logger = logging.getLogger("lclipseg")


class ImageJob(Protocol):
    """One image to segment."""

    @property
    def source(self) -> str:
        """What it is called in messages and records."""

    @property
    def name(self) -> str:
        """What its results are called, below the output folder; may hold sub-folders."""

    def open(self, max_pixels: int) -> Image.Image:
        """Decode it. Raises `ValueError` or `OSError` if that cannot be done."""


@dataclass(frozen=True)
class FileJob:
    """
    An image file.

    Args:
        path (`Path`): where it lies.
        name (`str`): what its results are called.
    """

    path: Path
    name: str

    @property
    def source(self) -> str:
        return str(self.path)

    def open(self, max_pixels: int) -> Image.Image:
        return open_image(self.path, max_pixels)


@dataclass(frozen=True)
class RowJob:
    """
    An image in a table.

    Args:
        images (`lclipseg.data.tables.TableImages`): the images of its split.
        index (`int`): its row.
        name (`str`): what its results are called: split and row.
    """

    images: Any
    index: int
    name: str

    @property
    def source(self) -> str:
        return f"row {self.index} of {self.images.source}"

    def open(self, max_pixels: int) -> Image.Image:
        return open_image(self.images.encoded(self.index), max_pixels, name=self.source)


def image_jobs(inputs: Sequence[str], out: Path, failures: list[str]) -> list[ImageJob]:
    """The image files of paths, folders and glob patterns; what leads to no file is added to `failures`."""
    names = JobNames()
    jobs = [names.job(path, root) for path, root in found_images(inputs, out, failures)]
    _check_inputs_survive(jobs, out)
    return list(jobs)


def row_jobs(inputs: Sequence[str], split: str, image_column: str | None) -> list[ImageJob]:
    """The rows of tables: parquet, zip or tar files, or Hub data sets. Raises [`InputError`] if there are none."""
    from lclipseg.data.open import table_module  # needs a library that images do not

    tables = [table_module().TableImages.open(source, split, image_column) for source in inputs]
    names = [split] if len(tables) == 1 else [f"{number}-{split}" for number in range(1, len(tables) + 1)]
    return [
        RowJob(images, index, f"{name}-{index:07d}")
        for images, name in zip(tables, names, strict=True)
        for index in range(len(images))
    ]


def found_images(inputs: Sequence[str], out: Path, failures: list[str]) -> Iterator[tuple[Path, Path]]:
    """Every image file once, with the folder that its name is relative to; what leads to no file is a failure."""
    seen: set[Path] = set()
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            check_out_is_elsewhere(out, path)
            left_out = LeftOut(path)
            root, files, problem = path, images_below(path, out, left_out), "the folder holds no images"
            if left_out.counts:
                logger.warning(f"{given}: not used are {left_out}")
            for why in (Why.DEAD_LINK, Why.LOCKED):
                failures += [f"{path / name}: is one of {why.value}" for name in left_out.examples.get(why, [])]
        elif path.exists():
            root, files, problem = path.parent, [path], ""
        else:
            root, files = None, sorted(Path(match) for match in glob.glob(str(path), recursive=True))
            files = [file for file in files if file.is_file()]
            problem = "no file matches" if glob.has_magic(given) else "there is no such file"
        if not files:
            failures.append(f"{given}: {problem}")
        for file in files:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, root or file.parent


def images_below(folder: Path, out: Path, left_out: LeftOut) -> list[Path]:
    """The image files below a folder, those in the folder for the results apart."""
    inside = out.resolve().relative_to(folder.resolve()) if folder.resolve() in out.resolve().parents else None
    images = []
    for file in walk(folder, left_out, [] if inside is None else [folder / inside]):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            images.append(file)
        else:
            left_out.add(Why.OTHER_KIND, file)
    return images


def check_out_is_elsewhere(out: Path, folder: Path) -> None:
    """An [`InputError`] where the results would lie among the images of a folder."""
    if out.resolve() == folder.resolve():
        raise InputError(
            f"--out {out} is the folder of the images, so the results would be taken for images next time; give "
            "another one"
        )


def result_files(out: Path, name: str) -> tuple[Path, Path, Path]:
    """The files to write for an image: overlay, mask and record."""
    stem = out / name
    return Path(f"{stem}_overlay.png"), Path(f"{stem}_mask.png"), Path(f"{stem}.json")


class JobNames:
    """A name of its own for every image: `a` for the first a.jpg, `a.png` for an a.png after it, then `a.png-2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def job(self, path: Path, root: Path) -> FileJob:
        """The job of the next image, named relative to `root`."""
        relative = path.relative_to(root)
        full = str(relative)
        for name in itertools.chain(
            [str(relative.with_suffix("")), full], (f"{full}-{n}" for n in itertools.count(2))
        ):
            if name.casefold() not in self._taken:  # some file systems do not tell A from a
                break
        self._taken.add(name.casefold())
        return FileJob(path, name)


def _check_inputs_survive(jobs: Sequence[FileJob], out: Path) -> None:
    sources = {job.path.resolve() for job in jobs}
    for job in jobs:
        for result in result_files(out, job.name):
            if result.resolve() in sources:
                raise InputError(f"the result for {job.path} would overwrite the image {result}; give another --out")
