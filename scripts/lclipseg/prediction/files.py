"""Many images through a model, in one process or a share of them in each of several."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lclipseg.console import errors as cli
from lclipseg.console.errors import InputError
from lclipseg.console.processes import check_processes
from lclipseg.console.torch_free import to_rgb_image
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.inputs import ImageJob, image_jobs, row_jobs
from lclipseg.prediction.open import open_segmenter
from lclipseg.prediction.preannotations import PREANNOTATIONS
from lclipseg.prediction.results import AllFiles, MaskFiles, ParquetFiles, Results, options_of

FEW_IMAGES = 8  # up to so many get a line each, more a progress bar


def segment_files(inputs: Sequence[str], args: SegmentArguments) -> int:
    """
    Segment the images and write the results.

    Args:
        inputs (sequence of `str`): files, folders and glob patterns; with `args.split` tables.
        args ([`SegmentArguments`]): the options.

    Returns:
        `int`: the exit status: 0, or 1 if any image could not be segmented.

    Raises:
        InputError: a model, a class or a word bank that cannot be used, or an output folder that cannot be written.
    """
    out = Path(args.out).expanduser()
    process, processes = args.shared
    check_processes(args.expected_processes, processes)
    failures: list[str] = []
    every = (
        image_jobs(inputs, out, failures) if args.split is None else row_jobs(inputs, args.split, args.image_column)
    )
    jobs = every[process::processes]
    if not every:  # before a model is loaded, which takes seconds
        print_failures(failures)
        print("no image was found, and none segmented")
        return 1
    names = None if args.classes is None else args.classes.split(",")
    given = f"--classes {args.classes!r}"
    segmenter = open_segmenter(args.model, args.revision, names, args.bank, given, args.least_score)
    make_folder(out)
    results = open_results(args, inputs, out, segmenter.id2label, process)
    preannotations = None if args.annotations is None else PREANNOTATIONS[args.annotations]()

    done = there = 0
    try:
        for job in _with_progress(jobs):
            label_map = results.label_map(job) if args.resume else None
            try:
                if label_map is not None:
                    there += 1
                else:
                    image = to_rgb_image(job.open(args.max_pixels))
                    label_map = segmenter.segment(image, args.mode)
                    line = results.write(job, image, label_map)
                    done += 1
                    if len(jobs) <= FEW_IMAGES:
                        print(cli.printable(f"{job.source}: {line}"))
            except (ValueError, OSError) as error:
                failures.append(cli.naming(job.source, error))
                continue
            if preannotations is not None:
                preannotations.add(job.source, np.asarray(label_map), segmenter.id2label)
    finally:  # also where it is interrupted
        results.close()
    print_failures(failures)
    if preannotations is not None and done + there:
        print(f"for a labelling tool: {preannotations.save(out)}")
    of_all = f", share {process + 1} of {processes}" if processes > 1 else ""
    before = f", {there} were there" if there else ""
    failed = f", {len(failures)} failed" if failures else ""
    print(f"{done} of {len(jobs)} images segmented{of_all}{before}{failed}, results in {out}")
    return 1 if failures else 0


def open_results(
    args: SegmentArguments, inputs: Sequence[str], out: Path, id2label: dict[int, str], process: int = 0
) -> Results:
    """What `--write` says. Raises [`InputError`] if the folder has masks of other classes or options."""
    options = options_of(args, inputs, id2label)
    if args.write == "parquet":
        return ParquetFiles(out, options, id2label, process, args.resume)
    return (MaskFiles if args.write == "masks" else AllFiles)(out, options, id2label)


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


def make_folder(out: Path) -> None:
    """Make `--out`; an [`InputError`] where it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made a folder: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"--out {out} cannot be written to")
