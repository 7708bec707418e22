"""From image files to overlays, masks and records beside them."""

import glob
import itertools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lclipseg.console import errors as cli
from lclipseg.console.errors import InputError
from lclipseg.console.torch_free import (
    ClassShare,
    class_shares,
    draw_overlay,
    open_image,
    to_indexed_image,
    to_rgb_image,
)
from lclipseg.data.files import IMAGE_SUFFIXES, LeftOut, Why, walk
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.open import ImageSegmenter, open_segmenter
from lclipseg.prediction.preannotations import PREANNOTATIONS, Preannotations

logger = logging.getLogger("lclipseg")

FEW_IMAGES = 8  # up to so many get a line each, more a progress bar
SHOWN_SHARES = 5


@dataclass(frozen=True)
class ImageJob:
    """One image to segment.

    Args:
        path (`Path`): the file.
        name (`str`): what its results are called, below the output folder; may hold sub-folders.
    """

    path: Path
    name: str

    def results(self, out: Path) -> tuple[Path, Path, Path]:
        """The files to write: overlay, mask and record."""
        stem = out / self.name
        return Path(f"{stem}_overlay.png"), Path(f"{stem}_mask.png"), Path(f"{stem}.json")


@dataclass(frozen=True)
class SegmentationRecord:
    """What stands in NAME.json; sizes in pixels, shares are parts of all pixels."""

    image: str
    width: int
    height: int
    model: str
    id2label: dict[int, str]
    shares: list[ClassShare]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def summary(self) -> str:
        shown = [f"{share.name} {100 * share.share:.1f} %" for share in self.shares[:SHOWN_SHARES]]
        more = len(self.shares) - len(shown)
        return ", ".join(shown) + (f", {more} more" if more else "")


def segment_files(inputs: Sequence[str], args: SegmentArguments) -> int:
    """
    Segment the images and write the results.

    Args:
        inputs (sequence of `str`): files, folders and glob patterns.
        args ([`SegmentArguments`]): the options.

    Returns:
        `int`: the exit status: 0, or 1 if any image could not be segmented.

    Raises:
        InputError: a model, a class or a word bank that cannot be used, or an output folder that cannot be written.
    """
    out = Path(args.out).expanduser()
    failures: list[str] = []
    names_of_jobs = JobNames()
    jobs = [names_of_jobs.job(path, root) for path, root in found_images(inputs, out, failures)]
    _check_inputs_survive(jobs, out)
    names = None if args.classes is None else args.classes.split(",")
    segmenter = open_segmenter(args.model, args.revision, names, args.bank, f"--classes {args.classes!r}")
    make_folder(out)

    preannotations = None if args.annotations is None else PREANNOTATIONS[args.annotations]()
    done = 0
    for job in _with_progress(jobs):
        try:
            record = segment_file(job, segmenter, out, args, preannotations)
        except (ValueError, OSError) as error:
            failures.append(cli.naming(job.path, error))
            continue
        done += 1
        if len(jobs) <= FEW_IMAGES:
            print(cli.printable(f"{job.path}: {record.summary()} -> {job.results(out)[0]}"))
    print_failures(failures)
    if preannotations is not None and done:
        print(f"for a labelling tool: {preannotations.save(out)}")
    print(f"{done} of {len(jobs)} images segmented, results in {out}")
    return 1 if failures else 0


def _with_progress(jobs: Sequence[ImageJob]) -> Iterator[ImageJob]:
    """The images, with a bar where there are many."""
    if len(jobs) <= FEW_IMAGES:
        yield from jobs
        return
    from rich.console import Console  # a tenth of a second, which few images do not need
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(jobs, description="segmenting")


def print_failures(failures: Sequence[str]) -> None:
    """On stderr, a line each."""
    if not failures:
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    for failure in failures:
        console.print(f"[red]failed:[/] {escape(cli.printable(failure))}", soft_wrap=True, highlight=False)


def segment_file(
    job: ImageJob,
    segmenter: ImageSegmenter,
    out: Path,
    args: SegmentArguments,
    preannotations: Preannotations | None = None,
) -> SegmentationRecord:
    """Segment one image and write its results below `out`; a ValueError or OSError where it cannot be."""
    image = to_rgb_image(open_image(job.path, args.max_pixels))
    segmentation = segmenter.segment(image, args.mode)
    id2label = segmenter.id2label
    record = SegmentationRecord(
        image=str(job.path),
        width=image.width,
        height=image.height,
        model=args.model,
        id2label=id2label,
        shares=class_shares(segmentation, id2label),
    )
    overlay_path, mask_path, record_path = job.results(out)
    record_path.parent.mkdir(parents=True, exist_ok=True)
    draw_overlay(image, segmentation, id2label).save(overlay_path)
    to_indexed_image(segmentation).save(mask_path)
    record.save(record_path)
    if preannotations is not None:
        preannotations.add(str(job.path), np.asarray(segmentation), id2label)
    return record


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


class JobNames:
    """A name of its own for every image: `a` for the first a.jpg, `a.png` for an a.png after it, then `a.png-2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def job(self, path: Path, root: Path) -> ImageJob:
        """The job of the next image, named relative to `root`."""
        relative = path.relative_to(root)
        full = str(relative)
        for name in itertools.chain(
            [str(relative.with_suffix("")), full], (f"{full}-{n}" for n in itertools.count(2))
        ):
            if name.casefold() not in self._taken:  # some file systems do not tell A from a
                break
        self._taken.add(name.casefold())
        return ImageJob(path, name)


def _check_inputs_survive(jobs: Sequence[ImageJob], out: Path) -> None:
    sources = {job.path.resolve() for job in jobs}
    for job in jobs:
        for result in job.results(out):
            if result.resolve() in sources:
                raise InputError(f"the result for {job.path} would overwrite the image {result}; give another --out")


def make_folder(out: Path) -> None:
    """Make `--out`; an [`InputError`] where it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made a folder: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"--out {out} cannot be written to")
