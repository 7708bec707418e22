"""Data sets as their publishers have them, in the layout that training reads."""

import logging
import shutil
from pathlib import Path

from PIL import Image
from rich.progress import track

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.labelled import check_sample
from lclipseg.data.layout import find_pairs
from lclipseg.data.sources.masks import decoded
from lclipseg.data.sources.recipe import Layout, Recipe
from lclipseg.data.sources.splits import PlacedPart, place_splits
from lclipseg.data.whole_folder import made_whole

logger = logging.getLogger("lclipseg")


def prepare(recipe_name: str, args: PrepareArguments) -> Path:
    """Prepare a data set and return its folder. What is there already and complete is left alone."""
    recipe = Recipe.load(recipe_name, args.keep)
    source, out = Path(args.source).expanduser(), Path(args.out).expanduser()
    if _is_prepared(out, recipe):
        logger.info(f"{out} is prepared already; delete it to prepare it anew")
        return out
    if not source.is_dir():
        raise InputError(f"there is no such folder as --source {source}. Get the data from {recipe.where}")
    layout = recipe.layout_of(source)
    with made_whole(out) as made:
        splits = place_splits(layout.splits, source, made.parent, recipe.group)
        counts = {
            split: _write_split(split, parts, source, recipe, layout, made / split) for split, parts in splits.items()
        }
        recipe.kept.save(made / CLASSES_FILE)
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
