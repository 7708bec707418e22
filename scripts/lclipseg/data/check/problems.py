"""What can be wrong with labelled images, and the check of one image and its mask.

Nothing here stops at the first problem: a [`Summary`] counts all of them and keeps the first examples of each kind, so
that its size does not grow with the data. Summaries of parts add up to the summary of the whole.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from lclipseg.data.class_list import CLASSES_FILE, ClassList
from lclipseg.data.labelled import map_ids
from modeling_lclipseg.inputs_lclipseg import to_mask, to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_header, open_image

MAX_EXAMPLES = 20
MAX_WRONG_IDS = 1000  # a depth map in place of a mask has thousands of them
NO_DIGEST = 0

LOSSY_FORMATS = frozenset({"JPEG", "MPO"})
SAME_FORMATS = {"MPO": "JPEG", "DIB": "BMP"}  # of one suffix; an MPO is a phone's JPEG with several images in it
RANGED_MODES = ("I", "F")  # first letters of the modes in which an image can hold values that mean no colour
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class Kind(Enum):
    """A kind of problem: its severity, what is counted, and the nearest fix."""

    severity: Literal["error", "warning", "note"]
    title: str
    fix: str

    CLASS_NAMES = ("error", "class names that cannot be used", f"give every class a name of its own in {CLASSES_FILE}")
    UNUSABLE_SPLIT = (
        "error",
        "splits that cannot be used",
        "`lclipseg check-data --help` shows the layouts",
    )
    UNKNOWN_STEM = ("error", "stems in a list that no image has", "take them off the list, or add the images")
    NO_MASK = ("error", "images without a mask of the same stem", "add the masks, or take the images away")
    SAME_STEM = ("error", "files with the stem of another one", "rename all but one: only one can have a mask")
    BAD_IMAGE = ("error", "images that cannot be used", "replace the files, or take them away with their masks")
    BAD_MASK = ("error", "masks that cannot be read", "replace the files, or take them away with their images")
    NO_LABEL_MAP = (
        "error",
        "masks that are no map of class ids",
        f"write masks of one channel, one class id a pixel; `lclipseg import` makes them of colours that a palette in "
        f"{CLASSES_FILE} names",
    )
    GREY_RGB = (
        "error",
        "masks of three equal channels",
        "keep one of them: Image.open(path).getchannel(0).save(path), with PIL's Image",
    )
    SIZE_MISMATCH = ("error", "masks of another size than their image", "make masks from the upright images")
    WRONG_ID = ("error", "masks with ids that are no class", f"correct {CLASSES_FILE} or the masks")
    LOSSY_MASK = ("error", "masks stored as JPEG or WebP", "save them as PNG where they are made: edges are lost")
    DEAD_LINK = ("error", "links that lead nowhere", "bring back what they led to, or delete them")
    TURNED = (
        "warning",
        "masks of a sample that seem turned or mirrored against their images",
        "draw these and others over their images: turn the masks, or make them anew from the upright images",
    )
    UNUSED_MASK = ("warning", "masks without an image, not used", "add the images, or take the masks away")
    WRONG_SUFFIX = ("warning", "files of another format than their suffix says", "rename them")
    UNLABELLED = ("warning", "images without a labelled pixel", "label them, or take them away")
    GREY_PALETTE = (
        "warning",
        "masks whose palette shows other grey levels than their indices",
        "indices count: if the grey levels are the ids, a program has numbered them anew; save them as grey images",
    )
    SMOOTHED = (
        "warning",
        "masks that seem scaled with smooth edges",
        "scale masks by nearest neighbour: ids between those of two neighbours stand for other classes",
    )
    ONE_VALUE = (
        "warning",
        "masks of a single class",
        "if they have a border between classes, see how they were saved",
    )
    ONLY_0_AND_255 = ("warning", "splits of nothing but 0 and 255", "255 means ignored: write the class's id instead")
    ONE_CLASS = ("warning", "splits of a single class", "nothing can be learned there: see how the masks were saved")
    UNUSED_CLASS = ("warning", "classes that no mask has", "take them off the list, or see how the masks were saved")
    ABSENT_CLASS = ("warning", "classes that a split lacks", "label some, move images, or take the class off the list")
    DUPLICATE = ("warning", "images that repeat one of the same split", "keep one of each")
    SHARED_IMAGE = ("warning", "images that are in several splits", "keep each in one split: scores on it mean little")
    SAME_SPLIT = ("warning", "splits of one meaning", "put them together: where one is asked for, one alone is used")
    NO_SPLIT = ("warning", "images in no split, not used", "move them into a split or onto a list, or take them away")
    CYCLE = ("warning", "links to a folder that they lie in, not followed", "delete them")
    LOCKED = ("warning", "folders that may not be read", "change their permissions")
    HIDDEN = ("note", "hidden files and leftovers of a system, not used", "none is needed")
    OTHER_FILE = ("note", "files of other kinds, not used", "none is needed, but for masks: save those as PNG")

    def __init__(self, severity: Literal["error", "warning", "note"], title: str, fix: str):
        self.severity, self.title, self.fix = severity, title, fix


# Of 478 masks of twelve sets (40 each) the share was 0.49 at most, and 0.8 or more in 389 of them scaled to 60 %
# bilinearly.
BETWEEN, FEW_PIXELS = 0.8, 20


@dataclass(frozen=True)
class Example:
    """One case of a problem: where it is, and what is wrong there."""

    split: str
    name: str
    detail: str


@dataclass
class Problems:
    """How many cases of each kind there are, and the first of them."""

    counts: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[Example]] = field(default_factory=dict)

    def add(self, kind: Kind, example: Example, count: int = 1) -> None:
        """Count `count` cases, for which `example` stands."""
        self.counts[kind] += count
        shown = self.examples.setdefault(kind, [])
        if len(shown) < MAX_EXAMPLES:
            shown.append(example)

    def merge(self, later: "Problems") -> None:
        self.counts.update(later.counts)
        for kind, examples in later.examples.items():
            shown = self.examples.setdefault(kind, [])
            shown += examples[: MAX_EXAMPLES - len(shown)]


@dataclass(frozen=True)
class RawFile:
    """
    An encoded image.

    Args:
        name (`str`): what it is called in the report.
        content (`Path` or `bytes`): the file, or what it holds.
        suffix (`str`): of the file, in lower case; empty where it has none.
    """

    name: str
    content: Path | bytes
    suffix: str = ""


@dataclass
class Summary:
    """
    What was found in some pairs of one split.

    Args:
        split (`str`): its name.
        pairs (`int`): how many were looked at.
        problems ([`Problems`]): what is wrong with them.
        widths, heights (`Counter[int]`): of the upright images, in pixels.
        image_modes, mask_modes (`Counter[str]`): as Pillow calls them.
        class_pixels, class_images (`numpy.ndarray` of shape `(256,)`, int64): pixels of every class id, and images
            with such pixels; at 255 those that are ignored.
        wrong_pixels, wrong_images (`Counter[int]`): the same for numbers that are no class, the smallest 1000.
        mismatches (`Counter[tuple[int, int, int, int]]`): width and height of an image, and of its mask where those
            are others; the first 1000 kinds.
        digests (`list[int]`): a 64-bit number for the decoded pixels of each image; 0 where they were not read.
    """

    split: str
    pairs: int = 0
    problems: Problems = field(default_factory=Problems)
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    image_modes: Counter[str] = field(default_factory=Counter)
    mask_modes: Counter[str] = field(default_factory=Counter)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    class_images: np.ndarray = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    wrong_pixels: Counter[int] = field(default_factory=Counter)
    wrong_images: Counter[int] = field(default_factory=Counter)
    mismatches: Counter[tuple[int, int, int, int]] = field(default_factory=Counter)
    digests: list[int] = field(default_factory=list)

    def merge(self, later: "Summary") -> None:
        """Take in what was found in the pairs after these."""
        self.pairs += later.pairs
        self.problems.merge(later.problems)
        for name in ("widths", "heights", "image_modes", "mask_modes", "wrong_pixels", "wrong_images"):
            getattr(self, name).update(getattr(later, name))
        for sizes, count in later.mismatches.items():
            self._count_mismatch(sizes, count)
        self.class_pixels += later.class_pixels
        self.class_images += later.class_images
        self.digests += later.digests
        self._drop_wrong_ids()

    def check(self, image: RawFile, mask: RawFile, classes: ClassList, quick: bool) -> None:
        """
        Look at one more pair.

        Args:
            image, mask ([`RawFile`]): the pair.
            classes ([`ClassList`]): what the ids of the mask mean.
            quick (`bool`): whether the header of the image will do: neither damage nor its digest is known then.
        """
        self.pairs += 1
        self.digests.append(NO_DIGEST)
        sizes = self._open_image(image, quick)
        values = self._open_mask(mask)
        if values is not None:
            self._count_ids(values, classes, image, mask)
        if sizes is not None and values is not None:
            self._compare_sizes(sizes, (values.shape[1], values.shape[0]), image, mask)

    def _add(self, kind: Kind, file: RawFile, detail: str) -> None:
        self.problems.add(kind, Example(self.split, file.name, detail))

    def _open_image(self, file: RawFile, quick: bool) -> "_Sizes | None":
        image: Image.Image
        try:
            if quick:
                with open_header(file.content, name=file.name) as image:
                    sizes = _Sizes.of(image)
            else:
                image = open_image(file.content, name=file.name)
                sizes = _Sizes.of(image)
                self.digests[-1] = _digest(image)
                if image.mode.startswith(RANGED_MODES):
                    to_rgb_image(image)
        except Exception as error:  # Pillow raises nearly anything on damaged EXIF tags
            self._add(Kind.BAD_IMAGE, file, _reason(error, file))
            return None
        self._check_suffix(file, image)
        self.widths[sizes.upright[0]] += 1
        self.heights[sizes.upright[1]] += 1
        self.image_modes[image.mode] += 1
        return sizes

    def _open_mask(self, file: RawFile) -> np.ndarray | None:
        try:
            image = open_image(file.content, name=file.name)
        except ValueError as error:
            self._add(Kind.BAD_MASK, file, _reason(error, file))
            return None
        self.mask_modes[image.mode] += 1
        if image.format in LOSSY_FORMATS:
            self._add(Kind.LOSSY_MASK, file, "holds a JPEG, whatever its name says")
        else:
            self._check_suffix(file, image)
        try:
            values = to_mask(image)
        except Exception as error:  # as above
            is_grey = image.mode in ("RGB", "RGBA") and _channels_are_equal(image)
            self._add(Kind.GREY_RGB if is_grey else Kind.NO_LABEL_MAP, file, _reason(error, file))
            return None
        if image.mode == "P" and (detail := _other_greys(image)):
            self._add(Kind.GREY_PALETTE, file, detail)
        return values

    def _check_suffix(self, file: RawFile, image: Image.Image) -> None:
        expected = Image.registered_extensions().get(file.suffix)
        if expected and image.format and expected != SAME_FORMATS.get(image.format, image.format):
            self._add(Kind.WRONG_SUFFIX, file, f"holds {image.format}")

    def _count_ids(self, values: np.ndarray, classes: ClassList, image: RawFile, mask: RawFile) -> None:
        if values.dtype == np.uint8:
            pixels = np.bincount(values.reshape(-1), minlength=256)
            found = pixels.nonzero()[0]
            pixels = pixels[found]
        else:
            found, pixels = np.unique(values, return_counts=True)
        ids, is_wrong = map_ids(found, classes)
        right = ids[~is_wrong]
        np.add.at(self.class_pixels, right, pixels[~is_wrong])  # several numbers can mean 255
        self.class_images[right] += 1
        if is_wrong.any():
            wrong = dict(zip(found[is_wrong].tolist(), pixels[is_wrong].tolist(), strict=True))
            self._add(Kind.WRONG_ID, mask, _listed_ids(wrong))
            self.wrong_pixels.update(wrong)
            self.wrong_images.update(wrong.keys())
            self._drop_wrong_ids()
        elif (right == 255).all():
            self._add(Kind.UNLABELLED, image, f"all of its mask {mask.name} is ignored")
        elif len(between := _between(values, found)):
            self._add(Kind.SMOOTHED, mask, f"nearly all pixels of {_some(between)} lie between lower and higher ids")
        elif len(found) == 1 and len(classes.names) > 1:
            self._add(Kind.ONE_VALUE, mask, f"every pixel is {found[0]} ({classes.names[right[0]]!r})")

    def _compare_sizes(self, sizes: "_Sizes", mask_size: tuple[int, int], image: RawFile, mask: RawFile) -> None:
        if sizes.upright == mask_size:
            return
        self._count_mismatch((*sizes.upright, *mask_size), 1)
        width, height = sizes.upright
        detail = f"{mask_size[0]} x {mask_size[1]}, but {image.name} is {width} x {height} (width x height, upright)"
        if sizes.stored == mask_size:
            detail += "; the mask was made before the image's EXIF orientation was applied"
        self._add(Kind.SIZE_MISMATCH, mask, detail)

    def _count_mismatch(self, sizes: tuple[int, int, int, int], count: int) -> None:
        if sizes in self.mismatches or len(self.mismatches) < MAX_WRONG_IDS:
            self.mismatches[sizes] += count

    def _drop_wrong_ids(self) -> None:
        """Keep the smallest ones: whatever the order of merging, what is kept was counted in full."""
        if len(self.wrong_pixels) > MAX_WRONG_IDS:
            for value in sorted(self.wrong_pixels)[MAX_WRONG_IDS:]:
                del self.wrong_pixels[value], self.wrong_images[value]


@dataclass(frozen=True)
class _Sizes:
    """Width and height of an image as its file has it, and once its EXIF orientation is applied."""

    stored: tuple[int, int]
    upright: tuple[int, int]

    @classmethod
    def of(cls, image: Image.Image) -> "_Sizes":
        exif = Image.Image.getexif(image)  # a PNG's own method would decode the image
        width, height = image.size
        turned = exif.get(ExifTags.Base.Orientation) in QUARTER_TURNS
        return cls((width, height), (height, width) if turned else (width, height))


def _channels_are_equal(image: Image.Image) -> bool:
    colours = np.asarray(image)[..., :3]
    return bool((colours == colours[..., :1]).all())


def _other_greys(image: Image.Image) -> str:
    """What the palette shows in place of the indices of a mask, where all of it is grey, but other numbers."""
    palette = np.reshape(image.getpalette() or [], (-1, 3))
    used = np.unique(np.asarray(image))
    colours = palette[used[used < len(palette)]]
    greys = colours[:, 0]
    if not len(greys) or (colours != greys[:, None]).any() or np.array_equal(greys, used):
        return ""
    return f"has the indices {_some(used)}, which its palette shows as the grey levels {_some(greys)}"


def _between(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """
    The ids nearly all of whose pixels lie between a lower and a higher one, as interpolation makes them.

    Args:
        values (`numpy.ndarray` of shape `(H, W)`), found (sorted `numpy.ndarray`): the mask, and its ids.
    """
    if len(found) < 3 or values.dtype != np.uint8:
        return found[:0]
    middle = np.zeros(values.shape, dtype=bool)
    for before, here, after, inside in (
        (values[:, :-2], values[:, 1:-1], values[:, 2:], middle[:, 1:-1]),
        (values[:-2], values[1:-1], values[2:], middle[1:-1]),
    ):
        inside |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    pixels, between = (np.bincount(part.reshape(-1), minlength=256)[found] for part in (values, values[middle]))
    return found[(pixels >= FEW_PIXELS) & (between >= BETWEEN * pixels)]


def _some(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:5].tolist())) + (" ..." if len(numbers) > 5 else "")


def _digest(image: Image.Image) -> int:
    """Equal for equal pixels, however they were encoded and whatever else is in the file."""
    state = sha256(f"{image.mode} {image.size} {image.getpalette()}".encode())
    state.update(image.tobytes())
    return int.from_bytes(state.digest()[:8], "little")


def _reason(error: Exception, file: RawFile) -> str:
    return str(error).removeprefix(f"{file.name}: ")


def _listed_ids(pixels: dict[int, int]) -> str:
    shown = ", ".join(f"{value} ({count:,} pixels)" for value, count in list(pixels.items())[:5])
    more = f" and {len(pixels) - 5:,} more" if len(pixels) > 5 else ""
    return f"holds {shown}{more}"
