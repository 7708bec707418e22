"""Which images each split of a source gets, so that no scene lies in two of them."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.sources.parts import Pairs, SplitPart, group_of

logger = logging.getLogger("lclipseg")

# A scene of two splits stays in the first of these: what is measured stays as published, and training loses images.
PREFERENCE = ("test", "val", "validation")


@dataclass(frozen=True)
class PlacedPart:
    """A part of a split with its files."""

    part: SplitPart
    pairs: Pairs


def place_splits(
    splits: Mapping[str, Sequence[SplitPart]], source: Path, scratch: Path, group: re.Pattern[str] | None
) -> dict[str, list[PlacedPart]]:
    """
    The files of all splits; with `group`, images of a scene that another split measures are left out of training.

    Raises:
        [`InputError`]: see [`SplitPart.pairs`]; or a split has no image left, or an image twice.
    """
    placed = {
        split: [PlacedPart(part, part.pairs(split, source, scratch, group)) for part in parts]
        for split, parts in splits.items()
    }
    for split, parts in placed.items():
        stems = [stem for part in parts for stem in part.pairs]
        if len(set(stems)) < len(stems):
            raise InputError(f"the parts of the split {split!r} have images of the same stem")
    return placed if group is None else _apart(placed, group)


def _apart(placed: Mapping[str, list[PlacedPart]], group: re.Pattern[str]) -> dict[str, list[PlacedPart]]:
    order = sorted(placed, key=lambda split: PREFERENCE.index(split) if split in PREFERENCE else len(PREFERENCE))
    owner: dict[str, str] = {}
    for split in order:
        for part in placed[split]:
            for stem in part.pairs:
                owner.setdefault(group_of(stem, group), split)
    apart = {}
    for split, parts in placed.items():
        kept = [
            PlacedPart(part.part, {s: files for s, files in part.pairs.items() if owner[group_of(s, group)] == split})
            for part in parts
        ]
        before, after = (sum(len(part.pairs) for part in them) for them in (parts, kept))
        if not after:
            raise InputError(f"every image of the split {split!r} shows a scene of another split")
        if after < before:
            logger.info(f"{split}: {before - after} of {before} images are left out, as another split has their scene")
        apart[split] = kept
    return apart
