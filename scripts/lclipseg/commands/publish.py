"""Publish a finished run on the Hub.

    python scripts/evaluate.py runs/mine/best --data my_folder --split test --out runs/mine
    python scripts/publish.py runs/mine --repo org/name --dry_run true
    python scripts/publish.py runs/mine --repo org/name

The first argument is the folder that train.py wrote. Of it, the weights are published that the results were measured
on, with the model's code, a card, and a handler for Inference Endpoints; all in one commit. A run without results is
not published, nor is an unfinished one.
"""

import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.prediction.metrics import percent
from lclipseg.publishing.card import Place
from lclipseg.publishing.facts import load_facts
from lclipseg.publishing.repository import RENEWED, build_repository, check_place, files_below, take_over, upload
from lclipseg.publishing.run import open_finished_run

logger = logging.getLogger("lclipseg")


@dataclass
class PublishArguments:
    repo: str = field(metadata={"help": "OWNER/NAME on the Hub; it is made where it does not exist."})
    out: str | None = field(
        default=None, metadata={"help": "Folder to build the repository in. Default: RUN/published."}
    )
    results: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Results of evaluate.py, files or folders, the leading one first. Default: RUN/evaluation.json."
        },
    )
    facts: str | None = field(
        default=None,
        metadata={
            "help": "YAML file with what the card should say besides: licences, purpose, limits; see "
            "configuration/cards. Default: the facts of the data set, where they are known."
        },
    )
    onnx: str | None = field(default=None, metadata={"help": "Folder of an exported model, to be published as onnx/."})
    space: str | None = field(
        default=None,
        metadata={"help": "OWNER/NAME of a Space that serves the model (scripts/space); the card links to it."},
    )
    revision: str = field(default="main", metadata={"help": "Branch to publish on; it is made where there is none."})
    private: bool = field(default=False, metadata={"help": "Make the repository a private one."})
    dry_run: bool = field(default=False, metadata={"help": "Build the folder and list it, but upload nothing."})


def main(run_folder: str, args: PublishArguments) -> None:
    """
    Build the repository and upload it.

    Raises:
        InputError: a run that must not be published (see [`open_finished_run`]), or a place that cannot be written.
    """
    place = Place(args.repo, args.revision, args.space)
    check_place(place)
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


def parse(argv: list[str] | None = None) -> tuple[str, PublishArguments]:
    return arguments.parse_subject(
        __doc__, PublishArguments, "run", "Folder of a run that train.py finished.", argv=argv
    )


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
