"""Turn a downloaded data set into the folder that training and evaluation read.

    python scripts/prepare_data.py camvid --source downloads/CamVid --out data/camvid

The first argument names a recipe in configuration/data/ or the path of one's own YAML file:

    where: "where the data is to be had"        # shown when something is missing from --source
    classes: ["null", shirt, ...]               # index = value in the masks
    ignore_index: 11                            # optional, as are keep, prompts and palette
    keep: [shirt, ...]                          # the classes to keep, numbered anew; all other pixels become ignored
    prompts: {shirt: "dress shirt"}
    palette: [[r, g, b], ...]                   # one for each class
    splits:
      train: {part: all, first: "0001", last: "0704"}     # part `all`, and of its stems those from first to last

A part NAME is, inside --source: NAME.tar or the folder NAME with images/ and labels/ (or masks/); or a folder NAME of
images beside a folder NAMEannot of masks. Every mask is checked and written anew, ignored pixels as 255.
"""

import logging
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from rich.progress import track

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import configuration
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.labelled import read_sample
from lclipseg.data.layout import MASK_FOLDERS, find_pairs, pair_files

logger = logging.getLogger("lclipseg")

RECIPES = configuration("data")
RECIPE_KEYS = {"where", "classes", "ignore_index", "do_reduce_labels", "keep", "prompts", "palette", "splits"}


@dataclass
class PrepareArguments:
    source: str = field(metadata={"help": "Folder with the downloaded archives, or with what was unpacked from them."})
    out: str = field(metadata={"help": "Folder to write: classes.json, and SPLIT/images and SPLIT/masks."})
    keep: str | None = field(
        default=None, metadata={"help": "Text file of the classes to keep, one a line, instead of the recipe's own."}
    )


@dataclass(frozen=True)
class SplitPart:
    """Where the images of a split come from: a part of the source, and of its stems those from `first` to `last`."""

    part: str
    first: str | None = None
    last: str | None = None

    @classmethod
    def parse(cls, given: Any, where: str) -> "SplitPart":
        is_text = isinstance(given, dict) and all(isinstance(value, str) for value in given.values())
        if not is_text or "part" not in given or set(given) - {"part", "first", "last"}:
            raise InputError(
                f'{where}: a split is {{part: all, first: "0001", last: "0704"}}, texts in quotes, not {given!r}'
            )
        return cls(**given)

    def holds(self, stem: str) -> bool:
        return (self.first is None or self.first <= stem) and (self.last is None or stem <= self.last)


@dataclass(frozen=True)
class Recipe:
    """How a data set is prepared.

    Args:
        given (`ClassList`): the classes as the source's masks number them.
        kept (`ClassList`): the classes that are written.
        splits (`dict[str, SplitPart]`): which images each split gets.
        where (`str`): where the data is to be had.
    """

    given: ClassList
    kept: ClassList
    splits: Mapping[str, SplitPart]
    where: str

    @classmethod
    def load(cls, name_or_path: str, keep_file: str | None = None) -> "Recipe":
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = RECIPES / f"{name_or_path}.yaml"
        if not path.is_file():
            known = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
            raise InputError(f"there is no recipe {name_or_path!r}: give one of {known} or the path of a YAML file")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("splits"), dict):
            raise InputError(f"{path}: a recipe needs the keys 'classes' and 'splits'")
        unknown = sorted(set(content) - RECIPE_KEYS)
        if unknown:
            raise InputError(f"{path} has the unknown keys {unknown}; a recipe can have {sorted(RECIPE_KEYS)}")
        splits = {str(split): SplitPart.parse(part, f"{path}, {split}") for split, part in content["splits"].items()}
        given = ClassList.parse(content, where=str(path))
        keep, keep_where = content.get("keep"), str(path)
        if keep_file is not None:
            keep, keep_where = _lines(Path(keep_file)), keep_file
        kept = given.subset(given.names if keep is None else keep, where=keep_where)
        return cls(given, kept, splits, where=str(content.get("where", "its publisher")))

    def new_ids(self) -> np.ndarray:
        """What each class id becomes: `(256,)`, uint8."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        for new, name in enumerate(self.kept.names):
            table[self.given.names.index(name)] = new
        return table


def main(recipe_name: str, args: PrepareArguments) -> Path:
    """Prepare a data set and return its folder. What is there already and complete is left alone."""
    recipe = Recipe.load(recipe_name, args.keep)
    source, out = Path(args.source).expanduser(), Path(args.out).expanduser()
    if _is_prepared(out, recipe):
        logger.info(f"{out} is prepared already; delete it to prepare it anew")
        return out
    if not source.is_dir():
        raise InputError(f"there is no such folder as --source {source}. Get the data from {recipe.where}")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the goal and moved there at the end, so that an interrupted run leaves no half data set.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        counts = {split: _write_split(source, split, recipe, made / split, Path(scratch)) for split in recipe.splits}
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


def _write_split(source: Path, split: str, recipe: Recipe, out: Path, scratch: Path) -> int:
    wanted = recipe.splits[split]
    images, masks = _part_folders(source, wanted.part, recipe, scratch)
    pairs = {stem: files for stem, files in pair_files(images, masks).items() if wanted.holds(stem)}
    if not pairs:
        raise InputError(f"{images} holds no image from {wanted.first} to {wanted.last} for the split {split!r}")
    new_ids = recipe.new_ids()
    for stem, (image, mask) in track(pairs.items(), description=f"{split:<10}", transient=True):
        sample = read_sample(image, mask, recipe.given, stem)
        new_image, new_mask = out / "images" / f"{stem}{image.suffix}", out / "masks" / f"{stem}.png"
        for path in (new_image, new_mask):
            path.parent.mkdir(parents=True, exist_ok=True)  # a stem may have folders in it
        shutil.copyfile(image, new_image)
        Image.fromarray(new_ids[sample.mask]).save(new_mask)
    return len(pairs)


def _part_folders(source: Path, part: str, recipe: Recipe, scratch: Path) -> tuple[Path, Path]:
    """The folders of images and masks of a part, unpacked into `scratch` where it is an archive."""
    archive, folder, annotated = source / f"{part}.tar", source / part, source / f"{part}annot"
    if annotated.is_dir() and folder.is_dir():
        return folder, annotated
    if archive.is_file():
        folder = scratch / part
        if not folder.is_dir():
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(folder, filter="data")
            except (tarfile.TarError, OSError) as error:
                raise InputError(f"{archive} cannot be unpacked: {error}") from error
    for name in MASK_FOLDERS:
        if (folder / "images").is_dir() and (folder / name).is_dir():
            return folder / "images", folder / name
    found = sorted(path.name for path in source.iterdir())[:10] or "nothing"
    raise InputError(
        f"--source {source} lacks {part}.tar, {part}/images with {part}/labels, or {part} with {part}annot; it holds "
        f"{found}. Get the data from {recipe.where}"
    )


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"--keep {path} cannot be read: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]


def parse(argv: list[str] | None = None) -> tuple[str, PrepareArguments]:
    description = "Name of a recipe in configuration/data/, or the path of a YAML file."
    return arguments.parse_subject(__doc__, PrepareArguments, "recipe", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
