"""How a folder of labelled images is laid out: splits, pairs of files, lists of stems.

See the head of data.py for the layouts.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import CLASSES_FILE

logger = logging.getLogger("lclipseg")

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = frozenset({".bmp", ".png", ".tif", ".tiff"})  # lossless ones: a JPEG mask has wrong ids at every edge
MASK_FOLDERS = ("masks", "labels")
SPLITS = ("train", "val", "validation", "test")
HELD_OUT_SHARE = 0.1
ALL_PROBLEMS = "`lclipseg check-data` lists all problems of a data set"


def same_split(split: str) -> tuple[str, ...]:
    """The names a split goes by, the given one first: "val" and "validation" are one."""
    aliases = {"val": "validation", "validation": "val"}
    return (split, aliases[split]) if split in aliases else (split,)


def hold_out(names: Sequence[str], split: str, where: str) -> list[str]:
    """Split a source that has no splits: the tenth of `names` with the smallest hashes is "val", the rest "train"."""
    if split not in ("train", "val", "validation"):
        raise InputError(f"{where} has no splits, so it serves as 'train' and 'val' only, not as {split!r}")
    if len(names) < 2:
        raise InputError(f"{where} has {len(names)} image, too few to hold some out for validation")
    by_hash = sorted(names, key=lambda name: sha256(f"lclipseg {name}".encode()).digest())
    held_out = set(by_hash[: max(1, round(HELD_OUT_SHARE * len(names)))])
    logger.info(f"{where} has no splits: {len(held_out)} of {len(names)} images are held out as 'val'")
    return [name for name in names if (name in held_out) == (split != "train")]


@dataclass(frozen=True)
class SplitFiles:
    """Where the files of a split are.

    Args:
        images, masks (`Path`): the folders.
        listed (`Path`, *optional*): the list of those stems that belong to the split.
        is_held_out (`bool`): whether the source has no splits, so that a tenth of its images is held out.
    """

    images: Path
    masks: Path
    listed: Path | None = None
    is_held_out: bool = False


def split_names(root: Path) -> list[str]:
    """The splits of a folder: its folders with images, else its lists, else what is held out."""
    found = {folder.parent.name for folder in root.glob("*/images")}
    folders = [name for name in SPLITS if name in found] + sorted(found - set(SPLITS))
    return folders or list(_lists(root)) or ["train", "val"]


def locate_split(root: Path, split: str) -> SplitFiles:
    """Find the files of one split. Raises [`InputError`] if the split or one of its folders is missing."""
    for name in same_split(split):
        if (root / name / "images").is_dir():
            return _split_files(root / name)
    with_images = sorted(folder.parent.name for folder in root.glob("*/images"))
    if with_images and not (root / "images").is_dir():
        raise InputError(f"{root} has no split {split!r}; it has {with_images}")
    files = _split_files(root)
    lists = _lists(root)
    for name in same_split(split):
        if name in lists:
            return replace(files, listed=lists[name])
    if lists:
        raise InputError(f"{root} has no list {split}.txt; it has {[path.name for path in lists.values()]}")
    return replace(files, is_held_out=True)


def _lists(root: Path) -> dict[str, Path]:
    return {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}


def _split_files(folder: Path) -> SplitFiles:
    masks = _mask_folder(folder)
    if masks is None or not (folder / "images").is_dir():
        found = sorted(path.name for path in folder.iterdir())[:10] or "nothing"
        raise InputError(f"{folder} must hold the folders 'images' and 'masks'; it holds {found}")
    return SplitFiles(folder / "images", masks)


def find_pairs(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """Pair the images and masks of one split by stem, in the order of the stems or of the list file.

    Raises:
        [`InputError`]: a folder, the split or a mask is missing, or two files have one stem.
    """
    files = locate_split(root, split)
    pairs = pair_files(files.images, files.masks)
    if files.listed is not None:
        return _listed(pairs, files.listed)
    if files.is_held_out:
        return {name: pairs[name] for name in hold_out(list(pairs), split, str(root))}
    return pairs


def pair_files(image_folder: Path, mask_folder: Path) -> dict[str, tuple[Path, Path]]:
    """Pair the files of two folders by stem (with sub-folders: by path without suffix), in the order of the stems."""
    images = files_by_stem(image_folder, IMAGE_SUFFIXES)
    masks = files_by_stem(mask_folder, MASK_SUFFIXES)
    for first, second, *_ in (same for found in (images, masks) for same in found.values() if len(same) > 1):
        raise InputError(f"{first} and {second} have the same stem: only one of them can have a mask")
    if not images:
        raise InputError(f"{image_folder} holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    without = [str(image) for stem, (image,) in images.items() if stem not in masks]
    if without:
        raise InputError(
            f"{len(without)} of {len(images)} images have no mask of the same stem in {mask_folder} "
            f"({', '.join(sorted(MASK_SUFFIXES))}): {_shown(without)}. {ALL_PROBLEMS}"
        )
    if len(masks) > len(images):
        logger.warning(f"{mask_folder}: {len(masks) - len(images)} masks belong to no image and are not used")
    return {stem: (image, masks[stem][0]) for stem, (image,) in images.items()}


def files_by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, list[Path]]:
    """The files of these suffixes under their paths without suffix; more than one file of a stem cannot be used."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        hidden = f"/{stem}".find("/.") >= 0  # what file managers and notebooks leave behind
        if path.suffix.lower() in suffixes and not hidden and not path.is_dir():
            files.setdefault(stem, []).append(path)
    return files


def read_list(path: Path) -> list[str]:
    """The stems that a list file names, each once, in its order."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of stems in UTF-8: {error}") from error
    return list(dict.fromkeys(line for line in lines if line))


def _listed(pairs: Mapping[str, tuple[Path, Path]], path: Path) -> dict[str, tuple[Path, Path]]:
    stems = read_list(path)
    unknown = [stem for stem in stems if stem not in pairs]
    if unknown:
        raise InputError(f"{path} lists {len(unknown)} stems that no image has: {_shown(unknown)}")
    if not stems:
        raise InputError(f"{path} lists no images")
    return {stem: pairs[stem] for stem in stems}


def _shown(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def _mask_folder(folder: Path) -> Path | None:
    return next((folder / name for name in MASK_FOLDERS if (folder / name).is_dir()), None)


def _holds_pairs(root: Path) -> bool:
    folders = [root, *(root / split for split in SPLITS)]
    return any((folder / "images").is_dir() and _mask_folder(folder) is not None for folder in folders)


def _holds_table(root: Path) -> bool:
    """Whether `datasets` can read a folder: it holds parquet files or the metadata of an image folder."""
    names = ("*.parquet", "metadata.jsonl", "metadata.csv")
    return any(any(root.glob(name)) or any(root.glob(f"*/{name}")) for name in names)


def is_folder_of_pairs(root: Path) -> bool:
    """Whether a source is a folder of image and mask files, rather than a table that `datasets` reads."""
    return root.is_dir() and (_holds_pairs(root) or not _holds_table(root))


def classes_file(root: Path) -> Path:
    """The class list of a folder. Raises [`InputError`] if it has none."""
    path = root / CLASSES_FILE
    if not path.is_file():
        raise InputError(
            f'{root} has no {CLASSES_FILE}. Write one, such as {{"classes": ["sky", "road"], "ignore_index": 11}}, '
            "or name another file"
        )
    return path
