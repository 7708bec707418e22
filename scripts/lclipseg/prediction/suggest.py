"""Which images to label next: those of which a checkpoint is least sure."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from lclipseg.console import errors as cli
from lclipseg.console.errors import InputError
from lclipseg.data.files import IMAGE_SUFFIXES, LeftOut, walk
from lclipseg.data.pairs import is_called_a_mask, looks_of_image, looks_of_mask
from lclipseg.data.splits import MASK_FOLDERS
from lclipseg.networks.checkpoints import check_has_classes, load_runnable
from lclipseg.networks.exported import OnnxSegmenter
from lclipseg.prediction.arguments import SuggestArguments
from lclipseg.prediction.inputs import found_images
from lclipseg.prediction.segment import uncertainty
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image

logger = logging.getLogger("lclipseg")


def suggest(inputs: Sequence[str], args: SuggestArguments) -> int:
    """
    Rank images and write the first `count` of them.

    Args:
        inputs (sequence of `str`): files, folders and glob patterns.
        args ([`SuggestArguments`]): the options.

    Returns:
        `int`: the exit status: 0, or 1 if any image could not be read.

    Raises:
        [`InputError`]: a model that cannot be used, or no image.
    """
    out = Path(args.out).expanduser()
    failures: list[str] = []
    labelled = set() if args.labelled is None else _looks_of_masks(Path(args.labelled).expanduser())
    paths = [path for path, _ in found_images(inputs, out, failures)]
    left = [path for path in paths if not looks_of_image(path.stem) & labelled]
    if len(left) < len(paths):
        logger.info(f"{len(paths) - len(left)} of {len(paths)} images have a mask in {args.labelled} already")
    model, image_processor = load_runnable(args.model, args.revision)
    check_has_classes(model)
    if isinstance(model, OnnxSegmenter):
        raise InputError(f"{args.model} gives no probabilities; name the checkpoint that it was made from")
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    ranked: list[tuple[float, Path]] = []
    for path in track(left, description="looking", transient=True):
        try:
            image = to_rgb_image(open_image(path))
            ranked.append((uncertainty(model, image_processor, image), path))
        except (ValueError, OSError, torch.OutOfMemoryError) as error:
            failures.append(cli.naming(path, error))
    if not ranked:
        raise InputError("no image is left to rank" + "".join(f"; {failure}" for failure in failures[:3]))
    ranked.sort(key=lambda one: (-one[0], str(one[1])))
    chosen = ranked[: args.count]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "uncertainty"), *((path, f"{value:.4f}") for value, path in chosen)])
    for failure in failures:
        logger.warning(cli.printable(f"failed: {failure}"))
    print(
        cli.printable(
            f"{len(chosen)} of {len(ranked)} images, uncertainty {chosen[0][0]:.3f} to {chosen[-1][0]:.3f} (all: "
            f"{ranked[-1][0]:.3f} to {ranked[0][0]:.3f}), listed in {out}"
        )
    )
    return 1 if failures else 0


def _looks_of_masks(folder: Path) -> set[str]:
    """Of all masks below a folder: files in a folder of masks, or called so, as a_mask.png is."""
    if not folder.is_dir():
        raise InputError(f"--labelled {folder} is no folder")
    looks: set[str] = set()
    for path in walk(folder, LeftOut(folder)):
        parents = {part.casefold() for part in path.relative_to(folder).parts[:-1]}
        if path.suffix.lower() in IMAGE_SUFFIXES and (parents & {*MASK_FOLDERS} or is_called_a_mask(path.stem)):
            looks |= looks_of_mask(path.stem)
    return looks
