"""Score a checkpoint on labelled images.

    lclipseg evaluate runs/mine/best --data my_folder --split test --out results/mine

The first argument is a folder or a repository on the Hub. Every image is scored at its own size, and mean IoU comes
from one matrix of pixel counts over all images. Prints a table of the classes. With --out it is kept as evaluation.md,
and evaluation.json also says with which weights, data, settings, versions and machine the numbers were made. Started
by `accelerate launch` or torchrun, several processes share the images.
"""

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.data.files import check_source_exists
from lclipseg.networks.folders import check_at_hand
from lclipseg.prediction.arguments import EvaluateArguments


def parse(argv: list[str] | None = None) -> tuple[str, EvaluateArguments]:
    description = "Folder of a checkpoint or an export, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, EvaluateArguments, "model", description, argv=argv)


def main(model: str, args: EvaluateArguments) -> None:
    check_at_hand(model, args.revision)
    check_source_exists(args.data)
    from lclipseg.data.layout import check_splits  # when the arguments are known to be right

    check_splits(args.data, [args.split])
    from lclipseg.prediction.scoring import score

    score(model, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
