"""Say which images to label next: those of which a checkpoint is least sure.

    lclipseg suggest photos/ --model runs/mine/best --count 50 --labelled my_folder

The uncertainty of an image is one less the probability that the network gives the likeliest class, as a mean over its
pixels: 0 is certain. The images are written to a CSV file, the least certain first. Frames of one scene are about
equally uncertain: of such, label a few and ask again.
"""

import sys

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.networks.folders import check_at_hand
from lclipseg.prediction.arguments import SuggestArguments


def parse(argv: list[str] | None = None) -> tuple[list[str], SuggestArguments]:
    description = "Image files, folders, or quoted glob patterns."
    return arguments.parse_subject(__doc__, SuggestArguments, "images", description, nargs="+", argv=argv)


def main(images: list[str], args: SuggestArguments) -> int:
    check_at_hand(args.model, args.revision)
    from lclipseg.prediction.suggest import suggest  # when the arguments are known to be right

    return suggest(images, args)


def command() -> None:
    run_command(lambda: sys.exit(main(*parse())))


if __name__ == "__main__":
    command()
