"""A check of a whole data source, and its report in files."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import CheckArguments
from lclipseg.data.check.orientation import turned_masks
from lclipseg.data.check.problems import Summary
from lclipseg.data.check.report import DataReport
from lclipseg.data.check.run import Checker, suitable_workers
from lclipseg.data.check.source import open_source
from lclipseg.data.check.text import show, to_markdown

logger = logging.getLogger("lclipseg")


def check_data(source: str, args: CheckArguments) -> DataReport:
    """
    Check a data source, print what was found and write it to the folder `args.out`.

    Raises:
        [`InputError`]: there is nothing to check: no such source, no class list, or no split that can be used.
    """
    started = time.monotonic()
    console = Console(stderr=True)
    with console.status("listing the files"):
        data = open_source(source, args.split, args.classes, args.image_column, args.mask_column)
    summaries = [Summary(split.name) for split in data.splits]
    checker = Checker(data.splits, data.classes, args.quick)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("checking", total=len(data))
        for part, summary in checker.run(args.workers or suitable_workers(len(data))):
            summaries[part.split].merge(summary)
            progress.update(bar, advance=summary.pairs)
    if not args.quick:
        with console.status("comparing outlines"):
            data.problems.merge(turned_masks(data.splits))
    report = DataReport.of(data, summaries, args.quick)
    show(report, Console())
    seconds = time.monotonic() - started
    logger.info(f"{len(data):,} pairs in {seconds:.1f} s, {len(data) / seconds:,.0f} a second")
    if args.out is not None:
        write(report, Path(args.out).expanduser())
    return report


def write(report: DataReport, out: Path) -> None:
    """Write data_check.md and data_check.json into the folder `out`."""
    # ASCII, so that names of files in no valid encoding survive.
    as_json = json.dumps(asdict(report), indent=1) + "\n"
    written(out, {"data_check.md": to_markdown(report), "data_check.json": as_json})


def written(out: Path, files: Mapping[str, str]) -> None:
    """Write texts as files of the folder `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (out / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from error
    logger.info(f"wrote {' and '.join(files)} to {out}")
