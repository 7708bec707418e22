"""Labelled images from a folder, a Hub data set, a parquet file or a zip, all behind one contract.

Every source gives [`Sample`]s: an upright RGB image and a map of class ids in which ignored pixels are 255. Every id
is checked against the class list when a mask is read, and the error names the file.

A folder holds `classes.json` and one of
- `train/images` + `train/masks`, `val/...`, `test/...`: split by folder;
- `images` + `masks` and the lists `train.txt`, `val.txt`, `test.txt` (one stem a line): split by list;
- `images` + `masks` alone: a fixed tenth of the images is held out as "val", the rest is "train".
A mask belongs to the image of the same stem (`images/a.jpg`, `masks/a.png`).
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image
from torch.utils.data import Subset

from modeling_lclipseg.inputs_lclipseg import open_image, to_mask, to_rgb_image
from scripts.toolkit.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from scripts.toolkit.cli import InputError, naming

if TYPE_CHECKING:
    from scripts.toolkit.table_data import StreamedData

logger = logging.getLogger("lclipseg")

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = frozenset({".bmp", ".png", ".tif", ".tiff"})  # lossless ones: a JPEG mask has wrong ids at every edge
MASK_FOLDERS = ("masks", "labels")
SPLITS = ("train", "val", "validation", "test")
HELD_OUT_SHARE = 0.1
ALL_PROBLEMS = "scripts/check_data.py lists all problems of a data set"


class UnreadableError(InputError):
    """A picture or a mask cannot be decoded: it is damaged, cut short, too large or no image at all."""


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Args:
        image (`PIL.Image.Image`): upright RGB image of size (W, H).
        mask (`numpy.ndarray` of shape `(H, W)`, uint8): class ids, 255 = ignored.
        name (`str`): its stem in a folder, or its split and row.
    """

    image: Image.Image
    mask: np.ndarray  # (H, W)
    name: str


def class_ids(values: np.ndarray, classes: ClassList, name: str) -> np.ndarray:
    """Map the numbers of a mask file to class ids.

    Args:
        values (`numpy.ndarray` of shape `(H, W)`): numbers as they stand in the file.
        classes ([`ClassList`]): which of them are classes, and which mean "not labelled".
        name (`str`): the file, for the error.

    Returns:
        `numpy.ndarray` of shape `(H, W)`, uint8: 0 to K - 1, or 255 where the pixel is ignored.

    Raises:
        [`InputError`]: a number is neither a class nor ignored.
    """
    ids, wrong = map_ids(values, classes)
    if wrong.any():
        first = int(classes.do_reduce_labels)
        found = np.unique(values[wrong]).tolist()
        shown = ", ".join(map(str, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise InputError(
            f"{name} holds the id {shown}, but the {len(classes.names)} classes have {first} to "
            f"{len(classes.names) - 1 + first} and ignored pixels 255. If it means 'not labelled', set ignore_index "
            f"in {CLASSES_FILE}; if the ids count from 1, set do_reduce_labels there. {ALL_PROBLEMS}"
        )
    return ids


def map_ids(values: np.ndarray, classes: ClassList) -> tuple[np.ndarray, np.ndarray]:
    """As [`class_ids`] for numbers of any shape, which may be wrong: class ids (255 there), and which ones are."""
    ids = values.astype(np.int64)
    ignored = ids == IGNORE_INDEX
    if classes.ignore_index is not None:
        ignored |= ids == classes.ignore_index
    if classes.do_reduce_labels:
        ignored |= ids == 0
        ids -= 1
    wrong = ~ignored & ((ids < 0) | (ids >= len(classes.names)))
    ids[ignored | wrong] = IGNORE_INDEX
    return ids.astype(np.uint8), wrong


def check_sample(
    image: Image.Image, mask: Image.Image, classes: ClassList, name: str, image_name: str, mask_name: str
) -> Sample:
    """Make a sample of two decoded images; `image_name` and `mask_name` stand for them in the errors.

    Raises:
        [`InputError`]: the mask is no map of class ids, has an id that is no class, or another size than the image.
    """
    try:
        picture = to_rgb_image(image)
    except ValueError as error:
        raise InputError(naming(image_name, error)) from error
    try:
        values = to_mask(mask)
    except ValueError as error:
        raise InputError(naming(mask_name, error)) from error
    height, width = values.shape
    if picture.size != (width, height):
        raise InputError(
            f"{image_name} is {picture.width} x {picture.height} (width x height, upright), its mask {mask_name} is "
            f"{width} x {height}: they must be equal. {ALL_PROBLEMS}"
        )
    return Sample(image=picture, mask=class_ids(values, classes, mask_name), name=name)


def read_sample(image: Path, mask: Path, classes: ClassList, name: str) -> Sample:
    """Decode and check a pair of files."""
    try:
        picture, drawn = open_image(image), open_image(mask)
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    return check_sample(picture, drawn, classes, name, str(image), str(mask))


class SegmentationData(ABC):
    """A finite set of labelled images that can be indexed.

    Args:
        classes ([`ClassList`]): what the mask ids mean.
        names (`list[str]`): one name for each sample.
        cache (`bool`): whether to keep decoded samples in memory; a worker process keeps its own.
    """

    def __init__(self, classes: ClassList, names: Sequence[str], cache: bool = False):
        self.classes = classes
        self.names = list(names)
        self._cached: list[tuple[np.ndarray, np.ndarray] | None] | None = [None] * len(self.names) if cache else None

    @abstractmethod
    def _read(self, index: int) -> Sample:
        """Decode one sample."""

    def fingerprint(self) -> str:
        """What stays the same while the data do, wherever they lie; nothing is decoded for it."""
        return sha256("\n".join(self.names).encode()).hexdigest()

    def share(self, process: int, num_processes: int, limit: int | None = None) -> "Subset[Sample]":
        """Every sample, or every one of the first `limit`, belongs to exactly one of the processes: those of one."""
        end = len(self) if limit is None else min(limit, len(self))
        return Subset(cast(Any, self), range(process, end, num_processes))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        if self._cached is None:
            return self._read(index)
        kept = self._cached[index]
        if kept is None:
            sample = self._read(index)
            kept = self._cached[index] = (np.asarray(sample.image), sample.mask)
        pixels, mask = kept
        return Sample(image=Image.fromarray(pixels), mask=mask.copy(), name=self.names[index])


class FolderData(SegmentationData):
    """Pairs of image and mask files."""

    def __init__(self, classes: ClassList, pairs: Mapping[str, tuple[Path, Path]], cache: bool = False):
        super().__init__(classes, list(pairs), cache)
        self.pairs = list(pairs.values())

    def fingerprint(self) -> str:
        digest = sha256()
        for name, (image, mask) in zip(self.names, self.pairs, strict=True):
            digest.update(f"{name}\0{image.stat().st_size}\0{mask.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _read(self, index: int) -> Sample:
        image, mask = self.pairs[index]
        return read_sample(image, mask, self.classes, self.names[index])


def load_segmentation_data(
    source: str | Path,
    split: str,
    *,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
    cache: bool = False,
) -> SegmentationData:
    """Open one split of a data source; images are decoded when they are asked for.

    Args:
        source (`str`): a folder (see the head of this file), a parquet or zip file, or the name of a Hub data set.
        split (`str`): "train", "val" (or "validation") or "test"; a Hub data set may have others.
        classes (`str`, *optional*): a `classes.json` to use instead of the source's own.
        image_column, mask_column (`str`, *optional*): columns of a table, where they are not to be guessed by name.
        cache (`bool`): whether to keep decoded samples in memory.

    Raises:
        [`InputError`]: the source lacks the split, an image lacks its mask, or there is no class list.
    """
    root = Path(source).expanduser()
    if is_folder_of_pairs(root):
        own_classes = ClassList.load(classes or classes_file(root))
        return FolderData(own_classes, find_pairs(root, split), cache)
    return table_module().TableData.open(str(source), split, classes, image_column, mask_column, cache)


def is_folder_of_pairs(root: Path) -> bool:
    """Whether a source is a folder of image and mask files, rather than a table that `datasets` reads."""
    return root.is_dir() and (_holds_pairs(root) or not _holds_table(root))


def stream_segmentation_data(
    source: str | Path,
    split: str,
    *,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
) -> "StreamedData":
    """As [`load_segmentation_data`] for a table too large to download or index: samples come one after the other."""
    return table_module().StreamedData.open(str(source), split, classes, image_column, mask_column)


def table_module() -> ModuleType:
    """Imported when such a source is opened: a machine that trains from a folder can do without `datasets`."""
    try:
        from scripts.toolkit import table_data
    except ImportError as error:
        raise InputError("this data source needs the library `datasets`: pip install datasets") from error
    return table_data


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


def classes_file(root: Path) -> Path:
    """The class list of a folder. Raises [`InputError`] if it has none."""
    path = root / CLASSES_FILE
    if not path.is_file():
        raise InputError(
            f'{root} has no {CLASSES_FILE}. Write one, such as {{"classes": ["sky", "road"], "ignore_index": 11}}, '
            "or name another file"
        )
    return path
