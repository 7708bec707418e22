"""Segment images with a checkpoint, into its own classes or into others given as words.

    lclipseg segment photos/ street.jpg "more/*.png" --model lclipseg/lclipseg-mbv3 --classes "sky, road, car"

Writes for each image NAME_overlay.png (the classes in colour, with a legend), NAME_mask.png (the class ids, with a
palette) and NAME.json (size, classes, area shares), and with --annotations one file for all images that a labelling
tool can begin with. Images from a folder keep their sub-folders. A file that cannot be used is reported and the others
go on; the exit status is then 1.

Many images, in two processes, which may run on two machines; what is stopped goes on with --resume true:

    lclipseg segment photos/ --model lclipseg/lclipseg-mbv3 --write masks --share 1/2
    lclipseg segment photos/ --model lclipseg/lclipseg-mbv3 --write masks --share 2/2
    torchrun --nproc_per_node 2 scripts/segment.py photos.parquet --split train --write parquet --model ...
"""

import sys

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.prediction.arguments import SegmentArguments


def parse(argv: list[str] | None = None) -> tuple[list[str], SegmentArguments]:
    description = "Image files, folders, or quoted glob patterns."
    return arguments.parse_subject(__doc__, SegmentArguments, "images", description, nargs="+", argv=argv)


def main(images: list[str], args: SegmentArguments) -> int:
    from lclipseg.prediction.files import segment_files  # when the arguments are known to be right

    return segment_files(images, args)


def command() -> None:
    run_command(lambda: sys.exit(main(*parse())))


if __name__ == "__main__":
    command()
