"""How a folder of labelled images is laid out: where the images and masks of each split are.

A folder holds one of
- `train/images` + `train/masks`, `val/...`, `test/...`;
- `images/train` + `masks/train`, `images/val` + ...;
- `train` + `train_masks` (or `trainannot`), `val` + ...: images in the one, masks in the other;
- `train`, `val`, ...: with images and masks side by side, `a.jpg` and `a_mask.png`;
- `images` + `masks` and the lists `train.txt`, `val.txt`, `test.txt`, one name a line;
- `images` + `masks` alone, or both side by side: a fixed tenth of the images is
  held out as "val", the rest is "train".

Folders of images may also be called image, imgs, img, JPEGImages or leftImg8bit; those of masks mask, labels, label,
annotations, annotation, SegmentationClass or gtFine; splits training, valid, validation, dev or testing. Which mask
belongs to which image stands in pairs.py.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.files import MASK_SUFFIXES, LeftOut, is_hidden, named, walk
from lclipseg.data.pairs import Pairing

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "segmentationclass", "gtfine")
ALIASES = {"train": ("training",), "val": ("validation", "valid", "dev"), "test": ("testing",)}
SPLITS = tuple(name for split, others in ALIASES.items() for name in (split, *others))
SIBLING = re.compile(r"[ _-]?(?:annot(?:ation)?s?|masks?|labels?|gt)")
ALL_LAYOUTS = "`lclipseg check-data --help` shows the layouts"


def same_split(split: str) -> tuple[str, ...]:
    """The names a split goes by, the given one first: "val" and "validation" are one."""
    for name, others in ALIASES.items():
        if split.casefold() in (name, *others):
            return tuple(dict.fromkeys((split, name, *others)))
    return (split,)


@dataclass(frozen=True)
class SplitFiles:
    """Where the files of a split are.

    Args:
        images, masks (`Path`, *optional*): the folders, where they are.
        wanted (`Path`): the folder that lacks one of them, where it does.
        listed (`Path`, *optional*): the list of those images that belong to the split.
        is_held_out (`bool`): whether the source has no splits, so that a tenth of its images is held out.
    """

    images: Path | None
    masks: Path | None
    wanted: Path
    listed: Path | None = None
    is_held_out: bool = False

    @property
    def folders(self) -> tuple[Path, Path]:
        """Those of the images and of the masks. Raises [`InputError`] if one is missing."""
        if self.images is None or self.masks is None:
            raise InputError(f"{_expected(self.wanted)}. {ALL_LAYOUTS}")
        return self.images, self.masks


def find_splits(root: Path) -> dict[str, SplitFiles]:
    """
    The splits of a folder by their names there, train first; "train" and "val" for one without splits.

    Raises:
        [`InputError`]: it holds no images, or no masks, where they are looked for.
    """
    folders, own = _sub_folders(root), _named_folders(root)
    of_folders = _split_folders(folders)
    if of_folders and (own.images is None or set(of_folders) & set(SPLITS)):
        return _in_order(of_folders)
    if of_siblings := _sibling_folders(folders):
        return _in_order(of_siblings)
    if own.images is None:
        own = _files_of(root)
        if own.images is None:
            raise InputError(f"{_expected(root)}. {ALL_LAYOUTS}")
    lists = {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}
    splits = {**_inner_folders(own), **{split: replace(own, listed=path) for split, path in lists.items()}}
    return _in_order(splits) or {split: replace(own, is_held_out=True) for split in ("train", "val")}


def _in_order(splits: Mapping[str, SplitFiles]) -> dict[str, SplitFiles]:
    return {name: splits[name] for name in sorted(splits, key=lambda name: (_rank(name), name))}


def _rank(name: str) -> int:
    return SPLITS.index(name.casefold()) if name.casefold() in SPLITS else len(SPLITS)


def _split_folders(folders: Mapping[str, Path]) -> dict[str, SplitFiles]:
    """`train/images` + `train/masks`; or, in a folder of a split's name, both side by side."""
    found = {}
    for name, folder in folders.items():
        if name not in (*IMAGE_FOLDERS, *MASK_FOLDERS):
            files = _files_of(folder) if name in SPLITS else _named_folders(folder)
            if files.images is not None:
                found[_split_name(folder)] = files
    return found


def _sibling_folders(folders: Mapping[str, Path]) -> dict[str, SplitFiles]:
    """`train` + `train_masks`."""
    found = {}
    for name in SPLITS:
        masks = [
            other for key, other in folders.items() if key.startswith(name) and SIBLING.fullmatch(key[len(name) :])
        ]
        if name in folders and masks:
            found[_split_name(folders[name])] = SplitFiles(folders[name], masks[0], folders[name])
    return found


def _inner_folders(own: SplitFiles) -> dict[str, SplitFiles]:
    """`images/train` + `masks/train`, or `masks` alone for all splits. With one split, every folder is one."""
    images = {} if own.images is None or own.images == own.masks else _sub_folders(own.images)
    if not set(images) & set(SPLITS):
        return {}
    masks = {} if own.masks is None else _sub_folders(own.masks)
    shared = None if set(masks) & set(SPLITS) else own.masks
    found = {}
    for name, folder in images.items():
        of_split = next((masks[alias] for alias in same_split(name) if alias in masks), shared)
        found[_split_name(folder)] = SplitFiles(folder, of_split, own.wanted)
    return found


def _split_name(folder: Path) -> str:
    """A known split's name in lower case, however its folder is spelled; another one as it is."""
    return folder.name.casefold() if folder.name.casefold() in SPLITS else folder.name


def _files_of(folder: Path) -> SplitFiles:
    """The folders of images and masks in a folder; itself, where both lie side by side in it."""
    files = _named_folders(folder)
    if files.images is None and Pairing.of(folder, folder).pairs:
        return SplitFiles(folder, folder, folder)
    return files


def _named_folders(folder: Path) -> SplitFiles:
    folders = _sub_folders(folder)
    images = next((folders[name] for name in IMAGE_FOLDERS if name in folders), None)
    masks = [folders[name] for name in MASK_FOLDERS if name in folders]
    with_masks = masks if len(masks) < 2 else [path for path in masks if _holds_masks(path)] or masks
    return SplitFiles(images, with_masks[0] if with_masks else None, folder)


def _holds_masks(folder: Path) -> bool:
    return any(path.suffix.lower() in MASK_SUFFIXES for path in walk(folder, LeftOut(folder)))


def _sub_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names in lower case, without hidden ones."""
    found: dict[str, Path] = {}
    with suppress(PermissionError):  # `walk` counts such a folder
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not is_hidden(path.name):
                found.setdefault(path.name.casefold(), path)
    return found


def holds_named_folders(root: Path) -> bool:
    """Whether a folder, or that of a split in it, has a folder of images and one of masks."""
    folders = _sub_folders(root)
    inside = [_named_folders(folder) for folder in (root, *(folders[name] for name in SPLITS if name in folders))]
    return any(files.images is not None and files.masks is not None for files in inside)


def _expected(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))[:10]
    inner = [str(sub) for sub in _sub_folders(folder).values() if _named_folders(sub).images is not None]
    hint = f". Give {named(inner)}, which has images" if inner and not _named_folders(folder).images else ""
    return f"{folder} must hold the folders 'images' and 'masks'; it holds {names or 'nothing'}{hint}"
