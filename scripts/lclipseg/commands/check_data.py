"""Look for everything that is wrong with a data set before training on it, and say what is in it.

    python -m lclipseg.commands.check_data my_folder --out report

Takes what train.py takes: a folder, a parquet or zip file, the name of a Hub data set. Lists all problems with their
nearest fixes: missing, unreadable and unequal pairs, ids that are no class, lossy masks, images without labels, images
that are in several splits, classes that a split lacks. The exit status is 0 if the data can be used (warnings are
none), 1 if it has errors, 2 if there is nothing to check. --out writes data_check.md and data_check.json.
"""

import json
import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.check.problems import Summary
from lclipseg.data.check.report import DataReport
from lclipseg.data.check.run import Checker, suitable_workers
from lclipseg.data.check.source import open_source
from lclipseg.data.check.text import show, to_markdown

logger = logging.getLogger("lclipseg")

INTERRUPTED = 130  # as shells have it


@dataclass
class CheckArguments:
    split: list[str] | None = field(default=None, metadata={"help": "Splits to check. Default: all that there are."})
    classes: str | None = field(default=None, metadata={"help": "A classes.json to use instead of the data's own."})
    image_column: str | None = field(default=None, metadata={"help": "Column of a table that holds the images."})
    mask_column: str | None = field(default=None, metadata={"help": "Column of a table that holds the masks."})
    workers: int | None = field(
        default=None, metadata={"help": "Processes. Default: one a processor, fewer for less than 1000 pairs each."}
    )
    quick: bool = field(
        default=False,
        metadata={
            "help": "Read only the headers of the images: damaged pixels and equal images stay unseen. Masks are read "
            "in full all the same."
        },
    )
    out: str | None = field(default=None, metadata={"help": "Folder for the report in Markdown and JSON."})

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}; give a number from 1.")


def main(source: str, args: CheckArguments) -> DataReport:
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
    report = DataReport.of(data, summaries, args.quick)
    show(report, Console())
    seconds = time.monotonic() - started
    logger.info(f"{len(data):,} pairs in {seconds:.1f} s, {len(data) / seconds:,.0f} a second")
    if args.out is not None:
        write(report, Path(args.out).expanduser())
    return report


def write(report: DataReport, out: Path) -> None:
    """Write data_check.md and data_check.json into the folder `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "data_check.md").write_text(to_markdown(report), encoding="utf-8")
        # ASCII, so that names of files in no valid encoding survive.
        (out / "data_check.json").write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from error
    logger.info(f"wrote data_check.md and data_check.json to {out}")


def parse(argv: list[str] | None = None) -> tuple[str, CheckArguments]:
    description = "A folder, a parquet or zip file, or the name of a Hub data set."
    return arguments.parse_subject(__doc__, CheckArguments, "source", description, argv=argv)


def _status() -> int:
    try:
        return 1 if main(*parse()).errors else 0
    except KeyboardInterrupt:
        print("stopped before the end: nothing was written", file=sys.stderr)
        return INTERRUPTED


def command() -> None:
    run_command(lambda: sys.exit(_status()))


if __name__ == "__main__":
    command()
