"""Training and segmenting in one Python call each.

import lclipseg

best = lclipseg.train(data="my_folder", out="runs/mine", start_from="checkpoints/lclipseg-mbv3s-everyday")
result = lclipseg.segment("street.jpg", model=best, classes=["sky", "road"])
result.overlay().save("overlay.png")
"""

import contextlib
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.extras import missing_library
from lclipseg.console.frame import without_bars_of_libraries
from lclipseg.prediction.arguments import SegmentArguments

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from lclipseg.prediction.open import ImageSegmenter

logger = logging.getLogger("lclipseg")

IN_MEMORY = {"model", "classes", "bank", "mode", "least_score", "revision", "max_pixels"}  # for one image in Python
KEPT_MODELS = 2  # how many models, each with its classes, stay loaded between calls of `segment`


@dataclass(frozen=True)
class Segmentation:
    """
    Args:
        image (`PIL.Image.Image`): The image, upright, RGB.
        label_map (`np.ndarray` of shape `(height, width)`): The class id of every pixel, integers; -1 where the best
            class scores less than `least_score`.
        id2label (`dict[int, str]`): The name of each id.
    """

    image: "Image.Image"
    label_map: "np.ndarray"
    id2label: Mapping[int, str]

    @property
    def shares(self) -> dict[str, float]:
        """The part of the pixels that each class has, 0 to 1, the largest first, and at the end that of no class, as
        "unlabelled"; without what has none."""
        from lclipseg.console.torch_free import class_shares

        return {share.name: share.share for share in class_shares(self.label_map, self.id2label)}

    def overlay(self, opacity: float = 0.6, legend: bool = True) -> "Image.Image":
        """The image with its classes in colour; see [`draw_overlay`]."""
        from lclipseg.console.torch_free import draw_overlay

        return draw_overlay(self.image, self.label_map, self.id2label, opacity=opacity, legend=legend)


def train(
    data: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    recipe: str | os.PathLike | None = None,
    **options: Any,
) -> Path:
    """
    Train a network, as `lclipseg train` does.

    Args:
        data (`str`, path, or a list of them): Folder, parquet or zip file, or data set on the Hub.
        out (`str` or path): Folder of the run.
        recipe (`str` or path, *optional*): A recipe, which the options win over.
        options: What `lclipseg train --help` lists, for example `start_from="checkpoints/lclipseg-mbv3s-everyday"`,
            `steps=500`, `crop_size=[256, 256]`. `None` stands for the default.

    Returns:
        `Path`: The folder of the best checkpoint.

    Raises:
        [`InputError`]: an option that there is not, a wrong value, or data or a checkpoint that cannot be used.
    """
    from lclipseg.commands import train as command

    given = {"data": data, "output_dir": out, **options}
    argv = ([] if recipe is None else [str(recipe)]) + _argv(given)
    groups = _checked(lambda: command.parse(argv))
    _show_progress()
    with without_bars_of_libraries():
        command.main(*groups)
    return Path(out) / "best"


def segment(
    image: Any,
    model: str | os.PathLike,
    classes: Sequence[str] | str | None = None,
    **options: Any,
) -> Segmentation:
    """
    Segment one image, as `lclipseg segment` does. The model stays loaded for the next call.

    Args:
        image (path, `PIL.Image.Image` or array): The image, or the file that holds it.
        model (`str` or path): Folder of a checkpoint or an export, or `OWNER/NAME` on the Hub.
        classes (list of `str`, *optional*): Words to segment into, or one text with commas. By default the
            checkpoint's own classes.
        options: `bank`, `mode`, `least_score`, `revision` and `max_pixels` of `lclipseg segment --help`.

    Raises:
        [`InputError`]: an option that there is not, a wrong value, or an image, a model or a class that cannot be
            used.
    """
    if files := options.keys() & (SegmentArguments.__dataclass_fields__.keys() - IN_MEMORY):
        raise InputError(f"`segment` takes one image and writes no files; leave out {', '.join(sorted(files))}.")
    names = [classes] if isinstance(classes, str) else list(classes or [])
    given = {"model": model, "classes": ", ".join(map(str, names)) or None, **options}
    (args,) = _checked(lambda: arguments.parse("", SegmentArguments, argv=_argv(given)))
    wanted = None if classes is None else tuple(classes.split(",") if isinstance(classes, str) else classes)
    segmenter = _loaded(args.model, args.revision, wanted, args.bank, args.least_score, _stamp(args.model))

    from lclipseg.console.torch_free import open_image, to_rgb_image

    try:
        opened = open_image(image, args.max_pixels) if isinstance(image, str | os.PathLike) else image
        upright = to_rgb_image(opened)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    return Segmentation(upright, segmenter.segment(upright, args.mode), segmenter.id2label)


@functools.lru_cache(maxsize=KEPT_MODELS)
def _loaded(
    source: str,
    revision: str | None,
    names: tuple[str, ...] | None,
    bank: str | None,
    least_score: float | None,
    stamp: tuple[int, ...],
) -> "ImageSegmenter":
    """A model with its classes, ready to run; loaded anew where its files have changed."""
    from lclipseg.prediction.open import open_segmenter

    try:
        given = "" if names is None else f"classes {list(names)}"
        return open_segmenter(source, revision, names, bank, given, least_score)
    except ModuleNotFoundError as error:
        message = missing_library("lclipseg.segment", error.name)
        raise (error if message is None else InputError(message)) from error


def _stamp(source: str) -> tuple[int, ...]:
    """When the files of a folder were written, in ns; empty for a name on the Hub."""
    folder = Path(source).expanduser()
    return tuple(path.stat().st_mtime_ns for path in sorted(folder.iterdir())) if folder.is_dir() else ()


def _argv(options: Mapping[str, Any]) -> list[str]:
    """Options as they stand on a command line, where they are checked for names, types and sense."""
    argv: list[str] = []
    for name, value in options.items():
        items = value if isinstance(value, (list, tuple)) else [value]
        argv += [f"--{name}", *map(str, items)] if value is not None and len(items) else []
    return argv


def _checked(parse: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    """What `parse` gives; where it would end the process with a message, an [`InputError`] has the message."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as ended:
        raise InputError(said.getvalue().rpartition("error: ")[2].strip()) from ended


def _show_progress() -> None:
    """Lines of a training on stderr, unless the program that calls has a place for them."""
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.setLevel(logging.INFO)
