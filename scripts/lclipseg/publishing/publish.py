"""A finished run, built into a repository and uploaded."""

import logging
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lclipseg.prediction.metrics import percent
from lclipseg.publishing.arguments import PublishArguments
from lclipseg.publishing.card import Place
from lclipseg.publishing.facts import load_facts
from lclipseg.publishing.repository import RENEWED, build_repository, files_below, take_over, upload
from lclipseg.publishing.run import open_finished_run

logger = logging.getLogger("lclipseg")


def publish(run_folder: str, args: PublishArguments) -> None:
    """
    Build the repository and upload it.

    Raises:
        InputError: a run that must not be published (see [`open_finished_run`]), or a place that cannot be written.
    """
    place = Place(args.repo, args.revision, args.space)
    folder = Path(run_folder).expanduser()
    run = open_finished_run(folder, [Path(source).expanduser() for source in args.results])
    facts = load_facts(run.data_name, None if args.facts is None else Path(args.facts).expanduser())
    out = folder / "published" if args.out is None else Path(args.out).expanduser()
    onnx = None if args.onnx is None else Path(args.onnx).expanduser()
    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary) / "repository"
        build_repository(run, facts, place, built, onnx)
        take_over(built, out)
    Console().print(_table(out))
    print(f"{out} -> {args.repo}, branch {args.revision}{', private' if args.private else ''}")
    print(f"files of an older publication among {', '.join(RENEWED)} are deleted there")
    if args.dry_run:
        print("nothing was uploaded (--dry_run true)")
        return
    leading = run.results[0]
    message = f"mIoU {percent(leading['scores']['mean_iou'])} on {Path(leading['data']).stem}, {leading['split']}"
    print(f"published: {upload(out, place, args.private, message).commit_url}")


def _table(folder: Path) -> Table:
    table = Table("file")
    table.add_column("bytes", justify="right")
    for path in files_below(folder):
        table.add_row(escape(str(path)), f"{(folder / path).stat().st_size:,}")
    return table
