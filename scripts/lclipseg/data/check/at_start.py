"""The part of the check that costs seconds, at every start of a training: masks and the headers of images, of some."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Kind, Summary
from lclipseg.data.check.report import DataReport, Problem
from lclipseg.data.check.run import Checker, Part
from lclipseg.data.check.source import CheckedTable, DataSource, FolderSplit, SplitSource
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.labelled import FolderData, SegmentationData
from lclipseg.data.layout import ALL_PROBLEMS

PAIRS = 256  # of a split, spread evenly: all of a small one
PAIRS_IN_DOUBT = 4096  # where those have pixels of a single class
UNREADABLE = (Kind.BAD_IMAGE, Kind.BAD_MASK)  # which a training leaves out, up to a share


def look(source: str, splits: Mapping[str, SegmentationData], max_unreadable: float) -> list[str]:
    """
    Look at some pairs of a data set before anything is trained on it.

    Args:
        source (`str`): what it is called in messages.
        splits (`dict[str, SegmentationData]`): the split to train on, and others to validate on.
        max_unreadable (`float`): share of the first one's images that may be damaged, 0 to 1.

    Returns:
        `list[str]`: what is allowed, but odd: one sentence each.

    Raises:
        [`InputError`]: what keeps the data from being trained on, with the nearest fix.
    """
    classes = next(iter(splits.values())).classes
    checked = {name: _checked(name, Path(source).expanduser(), data) for name, data in splits.items()}
    summaries = [_some_of(split, classes) for split in checked.values()]
    looked_at = " and ".join(f"{one.pairs} of {len(checked[one.split])} pairs of {one.split!r}" for one in summaries)
    for index, summary in enumerate(summaries):
        _check_labels(source, summary, classes, is_trained=index == 0)
        allowed = max_unreadable * len(checked[summary.split]) if index == 0 else 0
        unreadable = {kind: count for kind in UNREADABLE if (count := summary.problems.counts[kind])}
        if sum(unreadable.values()) > allowed:
            example = summary.problems.examples[next(iter(unreadable))][0]
            raise InputError(
                f"{source}: {sum(unreadable.values())} of {looked_at} cannot be read, for example {example.name}: "
                f"{example.detail}. {ALL_PROBLEMS}"
            )
    problems = DataReport.of(DataSource(source, classes, list(checked.values())), summaries, quick=True).problems
    for problem in problems:
        if problem.severity == "error" and Kind[problem.kind.upper()] not in UNREADABLE:
            raise InputError(f"{source}, {looked_at}: {_sentence(problem)}. {ALL_PROBLEMS}")
    return [f"{source}, {looked_at}: {_sentence(problem)}" for problem in problems if problem.severity == "warning"]


def _checked(name: str, root: Path, data: Any) -> SplitSource:
    if isinstance(data, FolderData):
        return FolderSplit(name, root, data.pairs)
    return CheckedTable(name, data.rows, data.columns.image, data.columns.mask)


def _some_of(split: SplitSource, classes: ClassList) -> Summary:
    """What is found in some pairs of a split; in more of them where all labelled pixels are of one class."""
    summary = _look_at(split, classes, PAIRS)
    if len(split) > summary.pairs and len(classes.names) > 1 and len(_labelled(summary)) < 2:
        return _look_at(split, classes, PAIRS_IN_DOUBT)
    return summary


def _look_at(split: SplitSource, classes: ClassList, count: int) -> Summary:
    checker, summary = Checker([split], classes, quick=True), Summary(split.name)
    for index in sorted(set(np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int).tolist())):
        summary.merge(checker.check(Part(0, index, index + 1)))
    return summary


def _labelled(summary: Summary) -> list[int]:
    return summary.class_pixels[:IGNORE_INDEX].nonzero()[0].tolist()


def _check_labels(source: str, summary: Summary, classes: ClassList, is_trained: bool) -> None:
    """Raises [`InputError`] if nothing can be learned from the labelled pixels, or nothing scored by them."""
    labelled = _labelled(summary)
    if summary.wrong_pixels or len(labelled) > 1 or len(classes.names) == 1 or not summary.class_pixels.any():
        return
    if not labelled:
        role = "train" if is_trained else "validate"
        raise InputError(
            f"{source}: the {summary.pairs} images to {role} on have no labelled pixel: all of their masks is 255 or "
            f"ignore_index. {ALL_PROBLEMS}"
        )
    if not is_trained:
        return
    name = classes.names[labelled[0]]
    only = f"{source}: every labelled pixel of {summary.pairs} masks of {summary.split!r} is {name!r}"
    counts_from_0 = classes.ignore_index is None and not classes.do_reduce_labels
    if labelled == [0] and summary.class_pixels[IGNORE_INDEX] and counts_from_0:
        raise InputError(
            f'{only}, and the others are 255, which means "not labelled": where they are a class, write its id in '
            f"their place (1 is {classes.names[1]!r}). {ALL_PROBLEMS}"
        )
    raise InputError(f"{only}, so that there is nothing to tell apart: see how the masks were saved. {ALL_PROBLEMS}")


def _sentence(problem: Problem) -> str:
    shown = "; ".join(f"{example.name} {example.detail}" for example in problem.examples[:3])
    return f"{problem.title}: {problem.count} ({shown}); {problem.fix}"
