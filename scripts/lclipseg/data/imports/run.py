"""An export as a folder that training reads: images as they are, masks drawn anew, classes and splits."""

import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.progress import track

from lclipseg.console.errors import InputError, printable
from lclipseg.data.arguments import ImportArguments, PrepareArguments
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.imports.export import Export, ExportedImage, in_order
from lclipseg.data.imports.formats import open_export, published_set
from lclipseg.data.imports.said import summary
from lclipseg.data.imports.source import Source, unpacked
from lclipseg.data.prepare import prepare
from lclipseg.data.sources.recipe import read_lines
from lclipseg.data.whole_folder import made_whole, scratch_beside
from modeling_lclipseg.class_embeddings_lclipseg import fold_name
from modeling_lclipseg.opening_lclipseg import open_header

logger = logging.getLogger("lclipseg")

ORIENTATION = 0x0112  # the EXIF tag
ON_ITS_SIDE = (5, 6, 7, 8)  # its values that exchange width and height


def import_data(given: str, args: ImportArguments) -> Path:
    """
    Import an export and return the folder that was made.

    Args:
        given (`str`): a folder, a zip file, or an annotation file.
        args ([`ImportArguments`]): the options.

    Raises:
        [`InputError`]: no format is recognised, or an annotation cannot be meant; it names file and object.
    """
    path, out = Path(given).expanduser(), Path(args.out).expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"--out {out} is there already. Name another folder, or delete this one")
    images = None if args.images is None else Path(args.images).expanduser()
    if path.suffix.lower() == ".zip" and path.is_file():
        with scratch_beside(out) as scratch:
            folder = unpacked(path, scratch / "unpacked")
            try:
                return import_data(str(folder), args)
            except InputError as error:
                raise InputError(str(error).replace(str(folder), given)) from error
    if path.is_dir() and (published := published_set(path, args.format)) is not None:
        name, folder = published
        logger.info(f"{folder} is the published data set {name}: read as by `lclipseg prepare-data {name}`")
        return prepare(name, PrepareArguments(source=str(folder), out=str(out), keep=args.keep))
    with made_whole(out) as made:
        source = Source(path, images, skip_missing=args.missing == "skip")
        export = open_export(source, args)
        read = [each for each in export.read() if each.file not in source.missing]
        if source.missing and not read:
            raise InputError(f"{given}: none of the {len(source.missing)} images that it names is there; see --images")
        classes, rest = _classes(export, args)
        written, empty = _write(export, read, classes, rest, made)
        classes.save(made / CLASSES_FILE)
    for line in summary(export, classes, rest, written, empty, out):
        logger.info(printable(line))
    return out


def _classes(export: Export, args: ImportArguments) -> tuple[ClassList, int]:
    """The classes to write, and the id of pixels that no annotation says anything of."""
    where = f"the classes of {export.source.given}"
    names, rest_name = in_order(export.classes), export.rest if args.rest is None else args.rest.strip()
    if args.keep is not None:
        keep = read_lines(Path(args.keep))
        if unknown := [name for name in keep if name not in (*names, rest_name)]:
            raise InputError(f"--keep {args.keep}: {unknown} are no classes; there are {names}")
        if rest_name in names and rest_name not in keep:
            rest_name = None  # a class of the export like any other
        names = in_order([name for name in keep if name != rest_name])
    rest = None if rest_name in (None, "", "ignore") else str(rest_name)
    if rest is not None:
        rest = next((name for name in names if fold_name(name) == fold_name(rest)), rest)
        names = in_order([*names, rest])
    if not names:
        raise InputError(f"{where}: there are none")
    if len(names) > IGNORE_INDEX:
        raise InputError(f"{where}: {len(names)}, at most {IGNORE_INDEX} are possible; name those to keep with --keep")
    content: dict[str, object] = {"classes": names, "prompts": _prompts(names)}
    if rest is not None:
        content["none_of_these"] = rest
    if names and all(name in export.palette or name == rest for name in names):
        content["palette"] = [list(export.palette.get(name, (0, 0, 0))) for name in names]
    classes = ClassList.parse(content, where)
    return classes, IGNORE_INDEX if rest is None else names.index(rest)


def _prompts(names: Sequence[str]) -> dict[str, str]:
    """What a text tower reads for names that are written with underscores, where that tells them apart."""
    spoken = {name: " ".join(name.replace("_", " ").split()) or name for name in names}
    if len({fold_name(words) for words in spoken.values()}) < len(names):
        return {}
    return {name: words for name, words in spoken.items() if words != name}


def _write(
    export: Export, images: Sequence[ExportedImage], classes: ClassList, rest: int, made: Path
) -> tuple[Counter[str | None], int]:
    """Write all pairs. Returns how many each split has, and how many show no object."""
    ids = {name: index for index, name in enumerate(classes.names)}
    written: Counter[str | None] = Counter()
    labelled: set[str | None] = set()
    empty = 0
    splits = {each.split for each in images}
    for each, stem in track(_stems(export, images), description="drawing masks", transient=True):
        if is_empty := export.is_empty(each):
            empty += 1
            if export.args.empty == "skip" or rest == IGNORE_INDEX:
                continue
        mask = _upright_mask(export, each, ids, rest)
        folder = made if splits == {None} else made / (each.split or "unsplit")
        image_file, mask_file = folder / "images" / f"{stem}{each.file.suffix}", folder / "masks" / f"{stem}.png"
        for path in (image_file, mask_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(each.file, image_file)
        mask.save(mask_file)
        written[each.split] += 1
        if not is_empty and np.any(np.asarray(mask) != IGNORE_INDEX):
            labelled.add(each.split)
    for split in splits:
        if split not in labelled:
            of_split = "" if split is None else f" of the split {split!r}"
            raise InputError(f"{export.source.given}: no image{of_split} has a pixel of any class")
    return written, empty


def _upright_mask(export: Export, image: ExportedImage, ids: Mapping[str, int], rest: int) -> Image.Image:
    """The mask of an image as it is seen, whichever way round the annotation has it."""
    try:
        with open_header(image.file) as header:
            orientation, (stored_width, stored_height) = header.getexif().get(ORIENTATION, 1), header.size
    except ValueError as error:
        raise InputError(str(error)) from error
    stored = (stored_width, stored_height)
    upright = stored[::-1] if orientation in ON_ITS_SIDE else stored
    size = image.size or upright
    if size not in (upright, stored):
        raise InputError(
            f"{image.where} is made for {size[0]} x {size[1]} pixels (width x height), but {image.file} has "
            f"{upright[0]} x {upright[1]}; was the image scaled after it was labelled?"
        )
    mask = Image.fromarray(export.draw(image, size[1], size[0], ids, rest))
    if size == upright:  # a square, or one upside down, may be meant either way: tools show images upright
        return mask
    mask.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(mask)


def _stems(export: Export, images: Sequence[ExportedImage]) -> list[tuple[ExportedImage, str]]:
    """What each image is to be called: its name, or its path where images of a split have the same name."""
    seen: dict[tuple[str | None, Path], ExportedImage] = {}
    for each in images:
        if (other := seen.setdefault((each.split, each.file), each)) is not each:
            raise InputError(f"{other.where} and {each.where} are both of the image {each.file}")
    same: dict[tuple[str | None, str], int] = defaultdict(int)
    for each in images:
        same[each.split, each.file.stem.casefold()] += 1
    named = []
    taken: dict[tuple[str | None, str], ExportedImage] = {}
    for each in images:
        root = next(
            root for root in (export.source.root, export.source.images) if root and each.file.is_relative_to(root)
        )
        unique = same[each.split, each.file.stem.casefold()] == 1
        stem = each.file.stem if unique else each.file.relative_to(root).with_suffix("").as_posix()
        if (other := taken.setdefault((each.split, stem.casefold()), each)) is not each:
            raise InputError(f"{other.file} and {each.file} would have the same mask; rename one of them")
        named.append((each, stem))
    return named
