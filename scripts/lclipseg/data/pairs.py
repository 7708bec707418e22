"""Which mask belongs to which image, by their names.

1. Files of equal names but for the suffix belong together: `images/a.jpg` and `masks/a.png`; sub-folders count as
   parts of names.
2. What is left is compared as a person would: without case, the form of accents and the amount of white space, and
   without an image's suffix that a mask's name has kept ("a.jpg.png"); then also without words such as "_mask" or
   "_gtFine_labelIds" at one end of a mask's name; then without "_leftImg8bit" or "image_" of an image's; then without
   both. One image and one mask have to remain.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lclipseg.data.files import IMAGE_SUFFIXES, LOSSY_SUFFIXES, MASK_SUFFIXES, LeftOut, Why, walk

_GAP = r"[ _.\-]"
_MASK_WORD = (
    r"(?:gt(?:fine|coarse)_?)?(?:label(?:train)?ids?|masks?|labels?|seg(?:mentation|map)?|annot(?:ation)?s?|gt)"
)
_IMAGE_WORD = r"(?:leftimg8bit|images?|img|photo|rgb|sat)"
_MASK_MARK = re.compile(rf"{_GAP}{_MASK_WORD}$|^{_MASK_WORD}{_GAP}")
_IMAGE_MARK = re.compile(rf"{_GAP}{_IMAGE_WORD}$|^{_IMAGE_WORD}{_GAP}")
_NO_MARK = re.compile(r"(?!)")  # is in no name
# What is taken off the names of images and masks, less first: IMG_1.jpg belongs to IMG_1_mask.png and to mask_1.png.
_MARKS = ((_NO_MARK, _NO_MARK), (_NO_MARK, _MASK_MARK), (_IMAGE_MARK, _NO_MARK), (_IMAGE_MARK, _MASK_MARK))


@dataclass
class Pairing:
    """
    The files of a folder of images and a folder of masks, which may be the same one.

    Args:
        images, masks (`Path`): The folders.
        pairs (`dict[str, tuple[Path, Path]]`): Image and mask under the image's path without folder and suffix.
        without_mask (`dict[str, Path]`): Images that no mask belongs to, likewise.
        without_image (`list[Path]`): Masks that belong to no image.
        doubles (`list[tuple[Path, Path]]`): A file, and another one whose name says the same: only one can belong.
        lossy (`list[Path]`): JPEG and WebP files where the masks are, which are not taken for masks.
        left_out (`dict[Path, LeftOut]`): Whatever else lies in each of the folders.
    """

    images: Path
    masks: Path
    left_out: dict[Path, LeftOut]
    pairs: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    without_mask: dict[str, Path] = field(default_factory=dict)
    without_image: list[Path] = field(default_factory=list)
    doubles: list[tuple[Path, Path]] = field(default_factory=list)
    lossy: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, images: Path, masks: Path, root: Path | None = None, skip: Collection[Path] = ()) -> "Pairing":
        """Look through both folders, but for `skip`; names of what is left out are relative to `root`."""
        found = cls(images, masks, {folder: LeftOut(root or images) for folder in (images, masks)})

        def files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
            left_out = found.left_out[folder]
            return _of_kind(walk(folder, left_out, skip), suffixes, left_out)

        of_images = files(images, IMAGE_SUFFIXES)
        if images == masks:
            of_images, of_masks = _told_apart(of_images, images)
        else:
            of_masks = files(masks, MASK_SUFFIXES | LOSSY_SUFFIXES)
        found.lossy = [path for path in of_masks if path.suffix.lower() not in MASK_SUFFIXES]
        found._match(
            found._by_stem(of_images, images),
            found._by_stem([path for path in of_masks if path.suffix.lower() in MASK_SUFFIXES], masks),
        )
        return found

    def _by_stem(self, paths: Iterable[Path], folder: Path) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in paths:
            first = files.setdefault(_stem(path, folder), path)
            if first is not path:
                self.doubles.append((first, path))
        return files

    def _match(self, images: Mapping[str, Path], masks: Mapping[str, Path]) -> None:
        mask_of = {stem: stem for stem in images if stem in masks}
        unclear_images: set[str] = set()  # several look alike, or several masks look like them
        unclear_masks: set[str] = set()
        for image_mark, mask_mark in _MARKS:
            taken = unclear_masks | set(mask_of.values())
            left_masks = _by_look((stem for stem in masks if stem not in taken), mask_mark)
            settled = unclear_images | mask_of.keys()
            left_images = _by_look((stem for stem in images if stem not in settled), image_mark)
            for look, stems in left_images.items():
                others = left_masks.get(look, [])
                if len(stems) == len(others) == 1:
                    mask_of[stems[0]] = others[0]
                elif others:
                    several, files = (stems, images) if len(stems) > 1 else (others, masks)
                    self.doubles += [(files[several[0]], files[other]) for other in several[1:]]
                    unclear_images.update(stems)
                    unclear_masks.update(others)
        for stem, image in images.items():
            if stem in mask_of:
                self.pairs[stem] = (image, masks[mask_of[stem]])
            elif stem not in unclear_images:
                self.without_mask[stem] = image
        taken = unclear_masks | set(mask_of.values())
        self.without_image = sorted(path for stem, path in masks.items() if stem not in taken)


def look_of(stem: str, mark: re.Pattern[str] = _IMAGE_MARK) -> str:
    """What a name looks like: equal for names that a person takes for one, once the word that `mark` finds is off."""
    shown = unicodedata.normalize("NFKC", stem).casefold()
    shown = "".join(character for character in shown if unicodedata.category(character) != "Cf")  # of no width
    folder, slash, name = shown.rpartition("/")
    name = _without_suffix(" ".join(name.split()))
    stripped = _without_suffix(mark.sub("", name, count=1).strip()) or name
    return " ".join(folder.split()) + slash + stripped


def looks_of_image(stem: str) -> set[str]:
    """What the name of an image looks like with and without an image's words; one of its mask looks the same."""
    return {look_of(stem, mark) for mark in (_NO_MARK, _IMAGE_MARK)}


def looks_of_mask(stem: str) -> set[str]:
    """The same for a mask."""
    return {look_of(stem, mark) for mark in (_NO_MARK, _MASK_MARK)}


def is_called_a_mask(stem: str) -> bool:
    """Whether a name without folder has a mask's word at one end."""
    return _MASK_MARK.search(stem.casefold()) is not None


def _without_suffix(name: str) -> str:
    rest, dot, suffix = name.rpartition(".")
    return rest if f"{dot}{suffix}" in IMAGE_SUFFIXES else name


def _by_look(stems: Iterable[str], mark: re.Pattern[str]) -> dict[str, list[str]]:
    looks: dict[str, list[str]] = {}
    for stem in stems:
        looks.setdefault(look_of(stem, mark), []).append(stem)
    return looks


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _of_kind(paths: Iterable[Path], suffixes: frozenset[str], left_out: LeftOut) -> list[Path]:
    kept = []
    for path in paths:
        if path.suffix.lower() in suffixes:
            kept.append(path)
        else:
            left_out.add(Why.OTHER_KIND, path)
    return kept


def _told_apart(paths: Iterable[Path], folder: Path) -> tuple[list[Path], list[Path]]:
    """Images and masks of one folder: a mask has a mask's word in its name, and without it the name of an image."""
    by_path = {path: _stem(path, folder) for path in paths}
    marked = {path for path, stem in by_path.items() if is_called_a_mask(stem.rpartition("/")[2])}
    images = [stem for path, stem in by_path.items() if path not in marked]
    looks = set().union(*map(looks_of_image, images))
    masks = [path for path in by_path if path in marked and look_of(by_path[path], _MASK_MARK) in looks]
    return [path for path in by_path if path not in set(masks)], masks
