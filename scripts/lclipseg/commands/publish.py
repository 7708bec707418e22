"""Publish a finished run on the Hub.

    lclipseg evaluate runs/mine/best --data my_folder --split test --out runs/mine
    lclipseg publish runs/mine --repo org/name --dry_run true
    lclipseg publish runs/mine --repo org/name

The first argument is the folder that `lclipseg train` wrote. Of it, the weights are published that the results were
measured on, with the model's code, a card, and a handler for Inference Endpoints; all in one commit. A run without
results is not published, nor is an unfinished one.
"""

from lclipseg.console import arguments
from lclipseg.console.extras import require
from lclipseg.console.frame import run_command
from lclipseg.publishing.arguments import PublishArguments


def parse(argv: list[str] | None = None) -> tuple[str, PublishArguments]:
    description = "Folder of a run that `lclipseg train` finished."
    return arguments.parse_subject(__doc__, PublishArguments, "run", description, argv=argv)


def main(run: str, args: PublishArguments) -> None:
    require("jinja2")
    from lclipseg.publishing.publish import publish  # when the arguments are known to be right

    publish(run, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
