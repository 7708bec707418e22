"""Turn a downloaded data set into the folder that training and evaluation read.

    lclipseg prepare-data camvid --source downloads/CamVid --out data/camvid

The first argument names a recipe in configuration/datasets/ or the path of one's own YAML file:

    where: "where the data is to be had"        # shown when something is missing from --source
    of: camvid                                  # optional: this recipe differs from that one only in the keys it has
    classes: ["null", shirt, ...]               # index = value in the masks
    ids: {shirt: 7, shoes: [3, 9]}              # optional: the masks' own numbers; those not named are ignored
    colours: {shirt: [255, 0, 0]}               # optional: the masks are coloured; colours not named are ignored
    ignore_index: 11                            # optional, as are do_reduce_labels and palette (one [r, g, b] a class)
    merge: {clothes: [shirt, shoes]}            # optional: one class of several, or another name for one
    keep: [clothes, ...]                        # the classes to keep, numbered anew; all other pixels become ignored
    prompts: {clothes: [clothes, apparel]}      # another word than the name, or several; of the merged classes
    none_of_these: background                   # the class of all that is none of the others
    group: "^(.+)_crop"                         # what images of one scene have in common; no scene is in two splits
    splits:                                     # for each split a part of the source, or a list of them
      train: {part: all, first: "0001", last: "0704"}
      test: {images: "photos/*.jpg", masks: "labels/*.png", share: [0, 0.1]}
    layouts: [{splits: ...}, ...]               # other forms of the source, each with its splits, ids and colours

See lclipseg/data/sources/parts.py for what a part can be. Every mask is checked and written anew, ignored
pixels as 255.
"""

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.data.arguments import PrepareArguments


def parse(argv: list[str] | None = None) -> tuple[str, PrepareArguments]:
    description = "Name of a recipe in configuration/datasets/, or the path of a YAML file."
    return arguments.parse_subject(__doc__, PrepareArguments, "recipe", description, argv=argv)


def main(recipe: str, args: PrepareArguments) -> None:
    from lclipseg.data.prepare import prepare  # when the arguments are known to be right

    prepare(recipe, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
