"""Look for everything that is wrong with a data set before training on it, and say what is in it.

    lclipseg check-data my_folder --out report
    lclipseg check-data A B C

Takes what `lclipseg train` takes: a folder, a parquet or zip file, the name of a Hub data set. Lists all problems with
their nearest fixes: missing, unreadable and unequal pairs, ids that are no class, lossy masks, images without labels,
images that are in several splits, classes that a split lacks; and all files that are not used. The exit status is 0
if the data can be used (warnings are none), 1 if it has errors, 2 if there is nothing to check. --out writes
data_check.md and data_check.json.

Of several sources, or of a recipe that names several, it also says what one run on all of them shares: classes of the
same words, which are one, and what each set calls them; classes that share only some of their words; names that stand
for other words in another set. --out then has a folder for each, and mix.md and mix.json.

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
from lclipseg.data.files import check_source_exists

INTERRUPTED = 130  # as shells have it


def parse(argv: list[str] | None = None) -> tuple[list[str], CheckArguments]:
    description = "Folders, parquet or zip files, or names of Hub data sets; or one recipe, RECIPE.yaml."
    return arguments.parse_subject(__doc__, CheckArguments, "sources", description, nargs="+", argv=argv)


def main(sources: list[str], args: CheckArguments) -> int:
    for source in sources:
        check_source_exists(source)
    from lclipseg.data.check.mix import check_sources  # when the arguments are known to be right

    return 1 if check_sources(sources, args) else 0


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
