"""The pairs of images and masks of every split of a folder, and whatever else lies in it.

Where splits are stands in splits.py, which mask belongs to which image in pairs.py.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.console.torch_free import open_image, to_mask
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX
from lclipseg.data.files import IMAGE_SUFFIXES, LeftOut, Why, named, walk
from lclipseg.data.lists import listed_stems
from lclipseg.data.pairs import Pairing
from lclipseg.data.splits import ALL_LAYOUTS, SPLITS, SplitFiles, find_splits, holds_named_folders, same_split

logger = logging.getLogger("lclipseg")

HELD_OUT_SHARE = 0.1
MASKS_SEEN, MAX_SHOWN_CLASSES = 16, 20  # for the message of a missing class list
ALL_PROBLEMS = "`lclipseg check-data` lists all problems of a data set"


def hold_out(names: Sequence[str], split: str, where: str) -> tuple[list[str], str]:
    """Split a source that has no splits: the tenth of `names` with the smallest hashes is "val", the rest "train".
    Returns the names of one, and what is to be said."""
    is_train = "train" in same_split(split)
    if not is_train and "val" not in same_split(split):
        raise _no_splits(where, split)
    if len(names) < 2:
        raise InputError(f"{where} has {len(names)} image with a mask, too few to hold some out for validation")
    by_hash = sorted(names, key=lambda name: sha256(f"lclipseg {name}".encode()).digest())
    held_out = set(by_hash[: max(1, round(HELD_OUT_SHARE * len(names)))])
    told = f"{where} has no splits: {len(held_out)} of {len(names)} images are held out as 'val'"
    return [name for name in names if (name in held_out) != is_train], told


def _no_splits(where: str, split: str) -> InputError:
    return InputError(
        f"{where} has no splits, so it serves as 'train' and 'val' only, not as {split!r}. {ALL_LAYOUTS}"
    )


@dataclass
class FolderLayout:
    """
    The splits of a folder, and what belongs to none of them.

    Args:
        root (`Path`): the folder.
        splits (`dict[str, SplitFiles]`): by their names there; train first.
    """

    root: Path
    splits: Mapping[str, SplitFiles]
    _pairings: dict[tuple[Path, Path], Pairing] = field(default_factory=dict)
    _is_told: bool = False  # that a tenth is held out: once, though "train" and "val" are asked for

    @classmethod
    def find(cls, root: Path) -> "FolderLayout":
        """Raises [`InputError`] if the folder has none of the layouts."""
        return cls(root, find_splits(root))

    def split(self, name: str) -> SplitFiles:
        """Where a split is. Raises [`InputError`] if there is none of that name."""
        for alias in same_split(name):
            if alias in self.splits:
                return self.splits[alias]
        found = list(self.splits)
        if any(files.is_held_out for files in self.splits.values()):
            raise _no_splits(str(self.root), name)
        if all(files.listed for files in self.splits.values()):
            lists = [files.listed.name for files in self.splits.values() if files.listed]
            raise InputError(
                f"{self.root} has no list {name}.txt; it has {lists}. Write one, a name of an image a line"
            )
        own = "" if set(found) & set(SPLITS) else f" (if {self.root / found[0]} is a data set of its own, give that)"
        raise InputError(
            f"{self.root} has no split {name!r}; it has {found}{own}. Name one of them instead, or move some images "
            f"and their masks into a split {name!r}. {ALL_LAYOUTS}"
        )

    def of_one_meaning(self, name: str) -> list[str]:
        """The splits that a name may stand for, as "val" and "valid" do: but the first are not used for it."""
        return [alias for alias in same_split(name) if alias in self.splits]

    def pairing(self, files: SplitFiles) -> Pairing:
        """The files in the folders of a split, which other splits may share."""
        folders = files.folders
        if folders not in self._pairings:
            self._pairings[folders] = Pairing.of(*folders, self.root, self._known())
        return self._pairings[folders]

    def pairs(self, name: str) -> dict[str, tuple[Path, Path]]:
        """
        The images and masks of a split, by name, in the order of the names or of the list.

        Raises:
            [`InputError`]: a folder, the split or a mask is missing, or names leave open what belongs together.
        """
        files, same = self.split(name), self.of_one_meaning(name)
        if len(same) > 1:
            logger.warning(f"{self.root} has the splits {named(same)}, which mean the same: {same[0]!r} is used")
        pairing = self.pairing(files)
        _check_readable(pairing)
        stems = [*pairing.pairs, *pairing.without_mask]
        if files.listed is not None:
            stems, unknown = listed_stems(files.listed, pairing)
            if unknown:
                raise InputError(
                    f"{files.listed} lists {len(unknown)} names that no image has: {named(unknown)}. The images are "
                    f"called {named([*pairing.pairs, *pairing.without_mask])}"
                )
            if not stems:
                raise InputError(f"{files.listed} lists no images")
        _check_complete(pairing, stems)
        if files.is_held_out:
            stems, told = hold_out(list(pairing.pairs), name, str(self.root))
            if not self._is_told:
                logger.info(told)
            self._is_told = True
        return {stem: pairing.pairs[stem] for stem in stems}

    def left_out(self) -> LeftOut:
        """What lies in the folder and is in no split."""
        left_out = LeftOut(self.root)
        usable = [files for files in self.splits.values() if files.images is not None and files.masks is not None]
        masks_in_use: set[Path] = set()
        images_in_use: set[Path] = set()
        for files in usable:
            pairing = self.pairing(files)
            masks_in_use |= {mask for _, mask in pairing.pairs.values()}
            stems = list(pairing.pairs)
            if files.listed is not None:
                with suppress(InputError):  # of a list that cannot be read nothing is known
                    stems, _ = listed_stems(files.listed, pairing)
            images_in_use |= {pairing.pairs[stem][0] for stem in stems if stem in pairing.pairs}
        seen: set[Path] = set()
        pairings = [self.pairing(files) for files in usable]
        for of_folder in {path: part for pairing in pairings for path, part in pairing.left_out.items()}.values():
            left_out.merge(of_folder)
        for pairing in pairings:
            parts = (
                (Why.NO_MASK, pairing.without_mask.values()),
                (Why.NO_IMAGE, (path for path in pairing.without_image if path not in masks_in_use)),
                (Why.LOSSY, pairing.lossy),
                (Why.NO_SPLIT, (image for image, _ in pairing.pairs.values() if image not in images_in_use)),
            )
            for why, paths in parts:
                for path in paths:
                    if path not in seen:
                        seen.add(path)
                        left_out.add(why, path)
        folders = {folder for files in usable for folder in files.folders}
        if self.root not in folders:
            for path in walk(self.root, left_out, folders | self._known()):
                left_out.add(Why.NO_SPLIT if path.suffix.lower() in IMAGE_SUFFIXES else Why.OTHER_KIND, path)
        return left_out

    def classes_file(self) -> Path:
        """The class list. Raises [`InputError`] with what some masks hold if there is none."""
        path = self.root / CLASSES_FILE
        if path.is_file():
            return path
        pairings = [self.pairing(files) for files in self.splits.values() if files.images and files.masks]
        ids = ids_in([mask for pairing in pairings for _, mask in pairing.pairs.values()])
        names = ["sky", "road"]
        if ids and max(ids) < MAX_SHOWN_CLASSES:
            names = [f"what {index} is" for index in range(max(ids) + 1)]
        found = (
            f" Its masks hold {', '.join(map(str, ids[:MAX_SHOWN_CLASSES]))}, and 255 where nothing is labelled."
            if ids
            else ""
        )
        raise InputError(
            f"{self.root} has no {CLASSES_FILE}. Write one, such as {json.dumps({'classes': names})}, or name another "
            f"file by --classes.{found}"
        )

    def _known(self) -> set[Path]:
        """Files that are read, and hold no image."""
        return {self.root / CLASSES_FILE, *(files.listed for files in self.splits.values() if files.listed)}


def ids_in(masks: Sequence[Path]) -> list[int]:
    """The numbers below 255 that some masks hold, which may be no masks at all."""
    ids: set[int] = set()
    for mask in masks[:: max(1, len(masks) // MASKS_SEEN)]:
        with suppress(ValueError):
            ids |= set(np.unique(to_mask(open_image(mask))).tolist())
    return sorted(ids - {IGNORE_INDEX})


def check_splits(source: str, splits: Sequence[str]) -> None:
    """Raises [`InputError`] if a folder of pairs with a class list lacks a split; needs no torch."""
    root = Path(source).expanduser()
    if (root / CLASSES_FILE).is_file() and is_folder_of_pairs(root):
        layout = FolderLayout.find(root)
        for split in splits:
            layout.split(split)


def find_pairs(root: Path, split: str) -> dict[str, tuple[Path, Path]]:
    """The images and masks of one split; see [`FolderLayout.pairs`]."""
    return FolderLayout.find(root).pairs(split)


def pair_files(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """The images and masks of two folders, every image with a mask. Raises [`InputError`] otherwise."""
    pairing = Pairing.of(images, masks)
    _check_readable(pairing)
    _check_complete(pairing, [*pairing.pairs, *pairing.without_mask])
    if pairing.without_image:
        logger.warning(f"{masks}: {len(pairing.without_image)} masks belong to no image and are not used")
    return pairing.pairs


def is_folder_of_pairs(root: Path) -> bool:
    """Whether a source is a folder of image and mask files, rather than a table that `datasets` reads."""
    return root.is_dir() and (not _holds_table(root) or holds_named_folders(root))


def _holds_table(root: Path) -> bool:
    """Whether `datasets` can read a folder: it holds parquet files, the metadata of an image folder, or only tars."""

    def holds(name: str) -> bool:
        return any(root.glob(name)) or any(root.glob(f"*/{name}"))

    if any(map(holds, ("*.parquet", "metadata.jsonl", "metadata.csv"))):
        return True
    return holds("*.tar") and all(path.suffix.lower() not in IMAGE_SUFFIXES for path in walk(root, LeftOut(root)))


def _check_readable(pairing: Pairing) -> None:
    left_out = LeftOut(pairing.images.parent)
    for of_folder in pairing.left_out.values():
        left_out.merge(of_folder)
    if dead := left_out.counts[Why.DEAD_LINK]:
        paths = named(left_out.examples[Why.DEAD_LINK], dead)
        raise InputError(
            f"{dead} files are links that lead nowhere: {paths}. Bring back what they led to, or delete them"
        )
    if pairing.doubles:
        first, second = pairing.doubles[0]
        raise InputError(
            f"{first} and {second} have the same stem, or names that say the same: only one of them can belong to an "
            f"image or a mask. Take one away (there are {len(pairing.doubles)} such cases). {ALL_PROBLEMS}"
        )
    if not pairing.pairs and not pairing.without_mask:
        raise InputError(f"{pairing.images} holds no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")


def _check_complete(pairing: Pairing, stems: Sequence[str]) -> None:
    without = [pairing.without_mask[stem] for stem in stems if stem in pairing.without_mask]
    if not without:
        return
    message = (
        f"{len(without)} of {len(stems)} images have no mask of the same name in {pairing.masks}: {named(without)}. "
    )
    if pairing.lossy:
        message += (
            f"There are JPEG or WebP files ({named(pairing.lossy)}), whose compression changes ids: make the masks as "
            "PNG. "
        )
    if pairing.without_image:
        message += f"Masks without an image: {named(pairing.without_image)}. "
    raise InputError(
        f"{message}a.jpg needs a.png (or a_mask.png, a_labelIds.png, ...) in the same sub-folder. {ALL_PROBLEMS}"
    )
