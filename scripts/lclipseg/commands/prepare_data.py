"""Turn a downloaded data set into the folder that training and evaluation read.

    python scripts/prepare_data.py camvid --source downloads/CamVid --out data/camvid

The first argument names a recipe in configuration/data/ or the path of one's own YAML file:

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

See scripts/lclipseg/data/sources/parts.py for what a part can be. Every mask is checked and written anew, ignored
pixels as 255.
"""

import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from rich.progress import track

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.labelled import check_sample
from lclipseg.data.layout import find_pairs
from lclipseg.data.sources.masks import decoded
from lclipseg.data.sources.recipe import Layout, Recipe
from lclipseg.data.sources.splits import PlacedPart, place_splits

logger = logging.getLogger("lclipseg")


@dataclass
class PrepareArguments:
    source: str = field(metadata={"help": "Folder with the downloaded archives, or with what was unpacked from them."})
    out: str = field(metadata={"help": "Folder to write: classes.json, and SPLIT/images and SPLIT/masks."})
    keep: str | None = field(
        default=None, metadata={"help": "Text file of the classes to keep, one a line, instead of the recipe's own."}
    )


def main(recipe_name: str, args: PrepareArguments) -> Path:
    """Prepare a data set and return its folder. What is there already and complete is left alone."""
    recipe = Recipe.load(recipe_name, args.keep)
    source, out = Path(args.source).expanduser(), Path(args.out).expanduser()
    if _is_prepared(out, recipe):
        logger.info(f"{out} is prepared already; delete it to prepare it anew")
        return out
    if not source.is_dir():
        raise InputError(f"there is no such folder as --source {source}. Get the data from {recipe.where}")
    layout = recipe.layout_of(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the goal and moved there at the end, so that an interrupted run leaves no half data set.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        splits = place_splits(layout.splits, source, Path(scratch), recipe.group)
        counts = {
            split: _write_split(split, parts, source, recipe, layout, made / split) for split, parts in splits.items()
        }
        recipe.kept.save(made / CLASSES_FILE)
        if out.is_dir():
            out.rmdir()
        made.rename(out)
    images = ", ".join(f"{count} {split}" for split, count in counts.items())
    logger.info(f"{out}: {len(recipe.kept.names)} classes; images: {images}")
    return out


def _is_prepared(out: Path, recipe: Recipe) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / CLASSES_FILE).is_file() or ClassList.load(out / CLASSES_FILE) != recipe.kept:
        raise InputError(f"--out {out} holds something else. Name another folder, or delete this one")
    for split in recipe.splits:
        find_pairs(out, split)
    return True


def _write_split(split: str, parts: list[PlacedPart], source: Path, recipe: Recipe, layout: Layout, out: Path) -> int:
    new_ids, labelled, count = recipe.new_ids(), 0, 0
    plain = ClassList(recipe.given.names, recipe.given.prompts)  # readers give positions and 255
    for placed in parts:
        reader = recipe.mask_reader(source, placed.part, layout.numbering)
        for stem, (image, mask) in track(placed.pairs.items(), description=f"{split:<10}", transient=True):
            ids = Image.fromarray(reader.read(mask, image))
            sample = check_sample(decoded(image), ids, plain, stem, str(image), str(mask))
            new_image, new_mask = out / "images" / f"{stem}{image.suffix}", out / "masks" / f"{stem}.png"
            for path in (new_image, new_mask):
                path.parent.mkdir(parents=True, exist_ok=True)  # a stem may have folders in it
            shutil.copyfile(image, new_image)
            written = new_ids[sample.mask]
            Image.fromarray(written).save(new_mask)
            labelled += int((written != IGNORE_INDEX).any())
            count += 1
    if not labelled:
        raise InputError(f"no image of the split {split!r} has a pixel of any class: these are other masks or numbers")
    return count


def parse(argv: list[str] | None = None) -> tuple[str, PrepareArguments]:
    description = "Name of a recipe in configuration/data/, or the path of a YAML file."
    return arguments.parse_subject(__doc__, PrepareArguments, "recipe", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
