"""What a check of data found, as one record: statistics of every split, and all problems with their nearest fixes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lclipseg.data.check.problems import MAX_WRONG_IDS, NO_DIGEST, Example, Kind, Problems, Summary
from lclipseg.data.check.source import DataSource
from lclipseg.data.class_list import CLASSES_FILE, IGNORE_INDEX, ClassList
from lclipseg.data.splits import same_split

MAX_NAMES = 5  # of images that are equal


@dataclass(frozen=True)
class SizeRange:
    """Pixels along one side."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def of(cls, counts: Counter[int]) -> "SizeRange | None":
        sizes = sorted(counts)
        if not sizes:
            return None
        up_to = np.cumsum([counts[size] for size in sizes])
        return cls(sizes[0], sizes[int(np.searchsorted(up_to, up_to[-1] / 2))], sizes[-1])


@dataclass(frozen=True)
class ClassCount:
    """A class in one split: its pixels, their share of all labelled pixels (0 to 1), and the images that show it."""

    id: int
    name: str
    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class SplitStatistics:
    """One split: pairs, sizes of the upright images, Pillow's modes, ignored pixels as a share (0 to 1) of those with
    an id that may stand there, and all classes."""

    name: str
    pairs: int
    width: SizeRange | None
    height: SizeRange | None
    image_modes: dict[str, int]
    mask_modes: dict[str, int]
    ignored_share: float
    classes: list[ClassCount]

    @classmethod
    def of(cls, summary: Summary, classes: ClassList) -> "SplitStatistics":
        pixels = summary.class_pixels
        labelled = int(pixels[:IGNORE_INDEX].sum())
        images = summary.class_images
        counts = [
            ClassCount(index, name, int(pixels[index]), _share(pixels[index], labelled), int(images[index]))
            for index, name in enumerate(classes.names)
        ]
        return cls(
            name=summary.split,
            pairs=summary.pairs,
            width=SizeRange.of(summary.widths),
            height=SizeRange.of(summary.heights),
            image_modes=dict(summary.image_modes.most_common()),
            mask_modes=dict(summary.mask_modes.most_common()),
            ignored_share=_share(pixels[IGNORE_INDEX], int(pixels.sum())),
            classes=counts,
        )


@dataclass(frozen=True)
class WrongId:
    """A number in the masks that is no class: in how many pixels of how many masks of all splits."""

    id: int
    pixels: int
    masks: int


@dataclass(frozen=True)
class Problem:
    """All cases of one kind: how many there are, the first of them, and the nearest fix."""

    kind: str
    severity: str
    title: str
    fix: str
    count: int
    examples: list[Example]


@dataclass(frozen=True)
class DataReport:
    """
    What was found.

    Args:
        source (`str`): what was checked.
        quick (`bool`): whether the pixels of the images were left out.
        class_names (`list[str]`), class_words (`list[list[str]]`): in the order of their ids, see [`ClassList`].
        splits (`list[SplitStatistics]`): one for each split.
        wrong_ids (`list[WrongId]`): the smallest numbers that are no class, 1000 at most.
        problems (`list[Problem]`): errors first, then warnings.
    """

    source: str
    quick: bool
    class_names: list[str]
    class_words: list[list[str]]
    splits: list[SplitStatistics]
    wrong_ids: list[WrongId]
    problems: list[Problem]

    @property
    def errors(self) -> int:
        """How many cases keep the data from being used."""
        return sum(problem.count for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> int:
        return sum(problem.count for problem in self.problems if problem.severity == "warning")

    @classmethod
    def of(cls, source: DataSource, summaries: Sequence[Summary], quick: bool) -> "DataReport":
        """Draw the conclusions from the summary of every split, in the order of `source.splits`."""
        problems = Problems()
        problems.merge(source.problems)
        for summary in summaries:
            problems.merge(summary.problems)
        splits = [SplitStatistics.of(summary, source.classes) for summary in summaries]
        unused = _note_unused_classes(summaries, source.classes, problems)
        for summary, split in zip(summaries, splits, strict=True):
            _note_classes(summary, split, source.classes, unused, problems)
        _note_equal_images(source, summaries, problems)
        wrong = _wrong_ids(summaries)
        fixes = {
            Kind.WRONG_ID: wrong_id_fix(source.classes, wrong, _zero_occurs(summaries, source.classes)),
            Kind.SIZE_MISMATCH: size_fix(summaries),
        }
        return cls(
            source=source.name,
            quick=quick,
            class_names=list(source.classes.names),
            class_words=[list(words) for words in source.classes.prompts],
            splits=splits,
            wrong_ids=wrong,
            problems=[
                Problem(
                    kind.name.lower(),
                    kind.severity,
                    kind.title,
                    fixes.get(kind, kind.fix),
                    problems.counts[kind],
                    problems.examples[kind],
                )
                for kind in Kind
                if kind in problems.counts
            ],
        )


def wrong_id_fix(classes: ClassList, wrong: Sequence[WrongId], zero_occurs: bool) -> str:
    """
    Guess what the numbers mean that are no class.

    Args:
        classes ([`ClassList`]): the classes.
        wrong (sequence of [`WrongId`]): the numbers, smallest first.
        zero_occurs (`bool`): whether any mask holds the number 0.
    """
    ids = [entry.id for entry in wrong]
    first_unused = len(classes.names) + int(classes.do_reduce_labels)
    if ids == [first_unused] and not classes.do_reduce_labels and not zero_occurs:
        return f'the ids seem to count from 1, as 0 never occurs: set "do_reduce_labels": true in {CLASSES_FILE}'
    if len(ids) == 1 and classes.ignore_index is None:
        fix = f'if {ids[0]} means "not labelled", set "ignore_index": {ids[0]} in {CLASSES_FILE}'
        if ids == [first_unused] and not classes.do_reduce_labels:
            fix += '; if 0 means that and the ids count from 1, set "do_reduce_labels": true'
        return fix
    if ids and len(ids) <= IGNORE_INDEX - first_unused and ids == list(range(first_unused, first_unused + len(ids))):
        meant = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else str(ids[0])
        return f"name what {meant} mean in {CLASSES_FILE}, or write 255 in their place"
    return "if these are grey levels or colours, translate them into ids; write 255 where nothing is labelled"


def size_fix(summaries: Sequence[Summary]) -> str:
    """Guess how masks came to other sizes than their images."""
    kinds = {sizes for summary in summaries for sizes in summary.mismatches}
    if len(kinds) != 1 or sum(summary.mismatches.total() for summary in summaries) == 1:
        return Kind.SIZE_MISMATCH.fix
    ((width, height, mask_width, mask_height),) = kinds
    sizes = f"images are {width} x {height}, their masks {mask_width} x {mask_height} (width x height)"
    if (mask_width, mask_height) == (height, width):
        return f"all such {sizes}: make the masks from the upright images, or turn them"
    if abs(width * mask_height - height * mask_width) <= max(width, height):
        return f"all such {sizes}: bring them to one size, the masks by nearest neighbour, as any other way mixes ids"
    return f"all such {sizes}: one of them is cut; make the masks from the images as they are"


def _zero_occurs(summaries: Sequence[Summary], classes: ClassList) -> bool:
    return not classes.do_reduce_labels and any(summary.class_pixels[0] for summary in summaries)


def _wrong_ids(summaries: Sequence[Summary]) -> list[WrongId]:
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for summary in summaries:
        pixels.update(summary.wrong_pixels)
        images.update(summary.wrong_images)
    return [WrongId(value, pixels[value], images[value]) for value in sorted(pixels)[:MAX_WRONG_IDS]]


def _note_unused_classes(summaries: Sequence[Summary], classes: ClassList, problems: Problems) -> set[str]:
    """The classes that no mask of any split has."""
    labelled = sum((summary.class_pixels for summary in summaries), start=np.zeros(256, dtype=np.int64))
    if not labelled[:IGNORE_INDEX].any():
        return set()
    unused = [name for index, name in enumerate(classes.names) if not labelled[index]]
    for name in unused:
        problems.add(Kind.UNUSED_CLASS, Example("", name, f"id {classes.names.index(name)} is in no mask"))
    return set(unused)


def _note_classes(
    summary: Summary, split: SplitStatistics, classes: ClassList, unused: set[str], problems: Problems
) -> None:
    """What only the masks of a whole split show."""
    found = summary.class_pixels.nonzero()[0].tolist()
    labelled = [index for index in found if index != IGNORE_INDEX]
    counts_from_0 = classes.ignore_index is None and not classes.do_reduce_labels
    if len(labelled) == 1 and len(classes.names) > 1:
        name = classes.names[labelled[0]]
        kind = Kind.ONLY_0_AND_255 if found == [0, IGNORE_INDEX] and counts_from_0 else Kind.ONE_CLASS
        detail = f"its masks hold nothing but {name!r}" + (" and ignored pixels" if IGNORE_INDEX in found else "")
        problems.add(kind, Example(split.name, split.name, detail))
    if "train" in same_split(split.name) or "val" in same_split(split.name):
        for entry in split.classes:
            if entry.pixels == 0 and entry.name not in unused:
                detail = f"no pixel of it in {split.name!r}"
                problems.add(Kind.ABSENT_CLASS, Example(split.name, entry.name, detail))


def _note_equal_images(source: DataSource, summaries: Sequence[Summary], problems: Problems) -> None:
    """Find images of equal pixels, in one sorted array for all of them."""
    digests = np.array([digest for summary in summaries for digest in summary.digests], dtype=np.uint64)
    split_of = np.repeat(np.arange(len(summaries)), [len(summary.digests) for summary in summaries])
    first_of = np.searchsorted(split_of, np.arange(len(summaries)))
    order = np.argsort(digests, kind="stable")  # equal ones side by side, in the order of the data
    bounds = np.flatnonzero(np.diff(digests[order], prepend=NO_DIGEST, append=NO_DIGEST))
    groups = [order[start:stop] for start, stop in pairwise(bounds) if stop - start > 1]
    for group in sorted(groups, key=lambda group: group[0]):
        names = [_name(source, split_of[at], at - first_of[split_of[at]]) for at in group[:MAX_NAMES]]
        same = ", ".join(names[1:]) + (f" and {len(group) - MAX_NAMES} more" if len(group) > MAX_NAMES else "")
        here, counts = np.unique(split_of[group], return_counts=True)
        example = Example(source.splits[here[0]].name, names[0], f"has the pixels of {same}")
        if len(here) > 1:
            problems.add(Kind.SHARED_IMAGE, example)
        if (counts > 1).any():
            problems.add(Kind.DUPLICATE, example, int((counts - 1).sum()))


def _name(source: DataSource, split: int, index: int) -> str:
    return f"{source.splits[split].image_name(int(index))} of {source.splits[split].name!r}"


def _share(part: int, whole: int) -> float:
    return round(int(part) / whole, 6) if whole else 0.0
