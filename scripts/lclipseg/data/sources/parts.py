"""Which files of a downloaded data set belong to a split.

A part is one of
- `{part: NAME}`: NAME.tar or the folder NAME with images/ and labels/ (or masks/); or a folder NAME of images beside a
  folder NAMEannot of masks;
- `{images: "leftImg8bit/train/*/*_leftImg8bit.png", masks: "gtFine/train/*/*_gtFine_labelIds.png"}`: patterns in which
  the n-th star of both stands for the same text. What the stars stand for is the stem.
and takes all of its stems, or
- those from `first` to `last`; those that the text file `listed` names; those whose hash lies in `share: [low, high]`.
"""

import re
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from lclipseg.console.errors import InputError
from lclipseg.data.files import IMAGE_SUFFIXES
from lclipseg.data.layout import pair_files
from lclipseg.data.lists import read_list
from lclipseg.data.splits import MASK_FOLDERS

PART_KEYS = {"part", "images", "masks", "listed", "first", "last", "share", "segments", "instances", "matrix"}
Pairs = dict[str, tuple[Path, Path]]


@dataclass(frozen=True)
class SplitPart:
    """
    Where images of a split come from.

    Args:
        part (`str`, *optional*): an archive or a folder of pairs.
        images, masks (`str`, *optional*): patterns of paths inside the source, instead of `part`.
        listed (`str`, *optional*): a text file inside the source; the first word of each line is a stem.
        first, last (`str`, *optional*): the first and the last stem, in the order of texts.
        share (`tuple[float, float]`, *optional*): of the stems' hashes, spread over 0 to 1, those from the first
            number to just below the second. A stem has the same hash in every data set.
        segments (`str`, *optional*): the JSON file of COCO's panoptic masks.
        instances (`str`, *optional*): the JSON file of COCO's instances, instead of `masks`.
        matrix (`str`, *optional*): the name of the matrix, where the masks are MATLAB files.
    """

    part: str | None = None
    images: str | None = None
    masks: str | None = None
    listed: str | None = None
    first: str | None = None
    last: str | None = None
    share: tuple[float, float] | None = None
    segments: str | None = None
    instances: str | None = None
    matrix: str | None = None

    @classmethod
    def parse(cls, given: Any, where: str) -> "SplitPart":
        if not isinstance(given, dict) or set(given) - PART_KEYS:
            raise InputError(
                f'{where}: a split is {{part: all, first: "0001", last: "0704"}}, with the keys {sorted(PART_KEYS)}, '
                f"not {given!r}"
            )
        if not all(isinstance(value, str) for key, value in given.items() if key != "share"):
            raise InputError(f"{where}: all but share are texts in quotes, not {given!r}")
        if ("part" in given) == ("images" in given) or ("images" in given) != bool(
            {"masks", "instances"} & set(given)
        ):
            raise InputError(f"{where}: a split has `part`, or `images` with `masks` or `instances`, not {given!r}")
        masks = given.get("masks")
        if masks is not None and masks.count("*") != given["images"].count("*"):
            raise InputError(f"{where}: {given['images']!r} and {masks!r} need the same number of stars")
        return cls(**{**given, "share": _share(given.get("share"), where)})

    def __str__(self) -> str:
        if self.part is None:
            return f"{self.images} with {self.masks or self.instances}"
        return f"{self.part}.tar, {self.part}/images with {self.part}/labels, or {self.part} with {self.part}annot"

    def is_in(self, source: Path) -> bool:
        """Whether a source has this part, or at least begins to."""
        if self.part is None:
            needed = [name for name in (self.listed, self.segments, self.instances) if name is not None]
            patterns = [pattern for pattern in (self.images, self.masks) if pattern is not None]
            found = (next(source.glob(pattern), None) is not None for pattern in patterns)
            return all((source / name).is_file() for name in needed) and all(found)
        return (source / f"{self.part}.tar").is_file() or _pair_folders(source, self.part) is not None

    def pairs(self, split: str, source: Path, scratch: Path, group: re.Pattern[str] | None = None) -> Pairs:
        """
        The files of this part, under their stems; with `instances`, the mask of every image is the JSON file.

        Args:
            split (`str`): the split that they are for, for the error.
            source (`Path`): the folder that the user gave.
            scratch (`Path`): a folder that archives are unpacked into.
            group (`re.Pattern`, *optional*): see [`group_of`]; stems of one group have one hash.

        Raises:
            [`InputError`]: an image has no mask, an archive is damaged, a listed image is not there, or none is left.
        """
        found = self._matched(source) if self.part is None else pair_files(*_unpacked(source, self.part, scratch))
        if self.listed is not None:
            found = _listed(found, source / self.listed)
        pairs = {stem: files for stem, files in found.items() if self.holds(stem, group)}
        if not pairs:
            limits = f"from {self.first} to {self.last}" if self.share is None else f"in the share {self.share}"
            raise InputError(
                f"{source / (self.part or str(self.images))} holds no image {limits} for the split {split!r}"
            )
        return pairs

    def holds(self, stem: str, group: re.Pattern[str] | None = None) -> bool:
        if self.share is not None and not self.share[0] <= _hash(group_of(stem, group)) < self.share[1]:
            return False
        return (self.first is None or self.first <= stem) and (self.last is None or stem <= self.last)

    def _matched(self, source: Path) -> Pairs:
        images = _by_stem(source, str(self.images))
        if self.instances is not None:
            return {stem: (image, source / self.instances) for stem, (image, _) in images.items()}
        pairs, without = {}, []
        for stem, (image, stars) in images.items():
            mask = source / _filled(str(self.masks), stars)
            if mask.is_file():
                pairs[stem] = (image, mask)
            else:
                without.append(mask)
        if without and self.listed is None:  # a list names those that count
            raise InputError(f"{len(without)} of {len(images)} images have no mask, for example {without[0]}")
        return pairs


def group_of(stem: str, group: re.Pattern[str] | None) -> str:
    """What stems of one scene have in common: what the first bracket of `group` finds in them, else the stem."""
    found = None if group is None else group.search(stem)
    return stem if found is None else found.group(1)


def _hash(text: str) -> float:
    """A number from 0 to just below 1 that depends on the text alone."""
    return int.from_bytes(sha256(f"lclipseg {text}".encode()).digest()[:6], "big") / 2**48


def _share(given: Any, where: str) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 1:
        raise InputError(f"{where}: share is [low, high] with 0 <= low < high <= 1, not {given!r}")
    return low, high


def _by_stem(source: Path, pattern: str) -> dict[str, tuple[Path, list[str]]]:
    """The files of a pattern, each with what its stars stand for, under the stem that these make."""
    expression = re.compile("([^/]*)".join(map(re.escape, pattern.split("*"))))
    files = {}
    for path in sorted(source.glob(pattern)):
        found = expression.fullmatch(path.relative_to(source).as_posix())
        if found is not None and path.is_file():
            stars = list(found.groups())
            # leftImg8bit/train/*/*_leftImg8bit.png: the city stands in the name of the file once more
            stem = stars[-1] if len(stars) > 1 and stars[-1].startswith(stars[0]) else "/".join(stars)
            files[stem] = (path, stars)
    return files


def _filled(pattern: str, stars: list[str]) -> str:
    return "".join(f"{text}{star}" for text, star in zip(pattern.split("*"), [*stars, ""], strict=True))


def _listed(pairs: Pairs, path: Path) -> Pairs:
    names = [Path(line.split()[0]) for line in read_list(path)]
    stems = [name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name for name in names]
    unknown = [stem for stem in stems if stem not in pairs]
    if unknown:
        raise InputError(f"{path} lists {len(unknown)} stems without image and mask, for example {unknown[0]!r}")
    return {stem: pairs[stem] for stem in stems}


def _pair_folders(source: Path, part: str) -> tuple[Path, Path] | None:
    """The folders of images and masks of a part that is unpacked already."""
    folder, annotated = source / part, source / f"{part}annot"
    if annotated.is_dir() and folder.is_dir():
        return folder, annotated
    for name in MASK_FOLDERS:
        if (folder / "images").is_dir() and (folder / name).is_dir():
            return folder / "images", folder / name
    return None


def _unpacked(source: Path, part: str, scratch: Path) -> tuple[Path, Path]:
    archive = source / f"{part}.tar"
    if (found := _pair_folders(source, part)) is None and archive.is_file():
        if not (scratch / part).is_dir():
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(scratch / part, filter="data")
            except (tarfile.TarError, OSError) as error:
                raise InputError(f"{archive} cannot be unpacked: {error}") from error
        found = _pair_folders(scratch, part)
    if found is None:
        raise InputError(f"{archive} must hold images/ and labels/ (or masks/)")
    return found
