"""Look for everything that is wrong with a data set before training on it, and say what is in it.

    lclipseg check-data my_folder --out report

Takes what `lclipseg train` takes: a folder, a parquet or zip file, the name of a Hub data set. Lists all problems with
their nearest fixes: missing, unreadable and unequal pairs, ids that are no class, lossy masks, images without labels,
images that are in several splits, classes that a split lacks; and all files that are not used. The exit status is 0
if the data can be used (warnings are none), 1 if it has errors, 2 if there is nothing to check. --out writes
data_check.md and data_check.json.

A folder holds classes.json and one of
    train/images/a.jpg  train/masks/a.png       val/...     a folder a split
    images/train/a.jpg  masks/train/a.png       ...         the other way round; masks/a.png will do
    train/a.jpg         train_masks/a.png       val/...     masks beside, also called trainannot
    train/a.jpg         train/a_mask.png        val/...     side by side
    images/a.jpg        masks/a.png    train.txt  val.txt   lists, the name of an image a line
    images/a.jpg        masks/a.png                         a tenth is held out as val
A mask is a lossless file with the class's index in every pixel, 255 where nothing is labelled. It is called as its
image, or a_mask, a_label, a_gtFine_labelIds, ...; its folder may be labels or annotations.
"""

import sys

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.data.arguments import CheckArguments

INTERRUPTED = 130  # as shells have it


def parse(argv: list[str] | None = None) -> tuple[str, CheckArguments]:
    description = "A folder, a parquet or zip file, or the name of a Hub data set."
    return arguments.parse_subject(__doc__, CheckArguments, "source", description, argv=argv)


def main(source: str, args: CheckArguments) -> int:
    from lclipseg.data.check.check import check_data  # when the arguments are known to be right

    return 1 if check_data(source, args).errors else 0


def _status() -> int:
    try:
        return main(*parse())
    except KeyboardInterrupt:
        print("stopped before the end: nothing was written", file=sys.stderr)
        return INTERRUPTED


def command() -> None:
    run_command(lambda: sys.exit(_status()))


if __name__ == "__main__":
    command()
