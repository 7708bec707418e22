"""What several data sets have in common when one run trains on all of them, from the checks of each."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.data.arguments import CheckArguments
from lclipseg.data.check.check import check_data, written
from lclipseg.data.check.report import DataReport
from lclipseg.data.check.text import Section, sections_to_markdown, show_sections
from lclipseg.data.class_list import ClassList
from lclipseg.data.mix import MixedClasses, set_names
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

logger = logging.getLogger("lclipseg")

OF_RECIPE = ("classes", "image_column", "mask_column")  # what a recipe may say of the data that concerns a check


@dataclass(frozen=True)
class MixReport:
    """
    Args:
        classes (`int`): How many there are together.
        images (`dict[str, int]`), shares (`dict[str, float]`): Of each set, to train on, and its share of the samples.
        shared (`list[dict[str, str]]`): The classes of several sets: what each of these sets calls it.
        partly_shared (`list[tuple[str, ...]]`): Words that classes of other words have as well, which thus are others.
        renamed (`list[str]`): Names that stand for different words in two sets, as the mix has them.
    """

    classes: int
    images: dict[str, int]
    shares: dict[str, float]
    shared: list[dict[str, str]]
    partly_shared: list[tuple[str, ...]]
    renamed: list[str]

    @classmethod
    def of(cls, names: Sequence[str], reports: Sequence[DataReport], weights: Sequence[float] = ()) -> "MixReport":
        """
        Args:
            names (sequence of `str`): What the sets are called.
            reports (sequence of [`DataReport`]): The check of each.
            weights (sequence of `float`, *optional*): How often each is drawn from; by default by the square root of
                the number of its images.

        Raises:
            [`InputError`]: more classes than masks can number, or weights that do not fit.
        """
        lists = [ClassList(tuple(one.class_names), tuple(map(tuple, one.class_words))) for one in reports]
        mixed = MixedClasses.join(lists, names)
        images = {name: _to_train(report) for name, report in zip(names, reports, strict=True)}
        if weights and (len(weights) != len(names) or min(weights) <= 0):
            raise InputError(
                f"data_weights is {list(weights)}; give one number above 0 for each of {len(names)} sets."
            )
        drawn = list(weights) or [math.sqrt(count) for count in images.values()]
        called: dict[int, dict[str, str]] = defaultdict(dict)
        for name, classes, ids in zip(names, lists, mixed.ids, strict=True):
            for class_name, class_id in zip(classes.names, ids, strict=True):
                called[class_id][name] = class_name
        own = {name for classes in lists for name in classes.names}
        return cls(
            len(mixed.classes.names),
            images,
            {name: share / (sum(drawn) or 1) for name, share in zip(names, drawn, strict=True)},
            [sets for sets in called.values() if len(sets) > 1],
            _partly_shared(mixed.classes),
            [name for name in mixed.classes.names if name not in own],
        )

    def sections(self) -> list[Section]:
        """What is shown of it, as tables."""
        sets = [[name, f"{count:,}", f"{self.shares[name]:.1%}"] for name, count in self.images.items()]
        found = [Section(f"The mix: {self.classes} classes", ["set", "images to train on", "share of samples"], sets)]
        names = list(self.images)
        same = [[one.get(name, "") for name in names] for one in self.shared]
        if same:
            found.append(Section("One class, since the words are the same", names, same))
        if self.partly_shared:
            found.append(
                Section("Classes of their own, though they share a word", ["word", "classes"],
                        [[word, ", ".join(classes)] for word, *classes in self.partly_shared])
            )  # fmt: skip
        if self.renamed:
            found.append(
                Section("Names of other words in another set", ["as the mix has it"], [[n] for n in self.renamed])
            )
        return found


def check_sources(sources: Sequence[str], args: CheckArguments) -> int:
    """
    Check one data source, or several and what they share; or those of a recipe.

    Returns:
        `int`: how many errors there are.

    Raises:
        [`InputError`]: a source that cannot be checked, or a recipe that names none.
    """
    sources, args, weights = _of_recipe(sources, args)
    if len(sources) == 1:
        return check_data(sources[0], args).errors
    names = set_names(sources)
    reports = []
    for name, source in zip(names, sources, strict=True):
        logger.info(f"{name}:")
        out = None if args.out is None else str(Path(args.out) / name)
        reports.append(check_data(source, replace(args, out=out)))
    mix = MixReport.of(names, reports, weights)
    show_sections(mix.sections(), Console())
    if args.out is not None:
        files = {
            "mix.md": sections_to_markdown("Several data sets together", mix.sections()),
            "mix.json": json.dumps(asdict(mix), indent=1) + "\n",
        }
        written(Path(args.out).expanduser(), files)
    return sum(report.errors for report in reports)


def _of_recipe(sources: Sequence[str], args: CheckArguments) -> tuple[list[str], CheckArguments, list[float]]:
    if len(sources) != 1 or not sources[0].endswith((".yaml", ".yml")):
        return list(sources), args, []
    content = read_yaml(sources[0], "recipe ")
    if isinstance(content, dict) and "names" in content and "data" not in content:
        return list(sources), args, []  # YOLO's list of classes, which stands for its export
    data = content.get("data") if isinstance(content, dict) else None
    data = [data] if isinstance(data, str) else data
    if not isinstance(data, list) or not data or not all(isinstance(source, str) for source in data):
        raise InputError(f"recipe {sources[0]} names no data to check; write `data: [FOLDER, ...]` into it.")
    told = {name: content[name] for name in OF_RECIPE if content.get(name) and getattr(args, name) is None}
    return data, replace(args, **told), list(content.get("data_weights") or [])


def _to_train(report: DataReport) -> int:
    return next((split.pairs for split in report.splits if split.name == "train"), 0)


def _partly_shared(classes: ClassList) -> list[tuple[str, ...]]:
    having: dict[str, list[str]] = defaultdict(list)
    for name, words in zip(classes.names, classes.prompts, strict=True):
        for word in words:
            having[fold_name(word)].append(name)
    return [(word, *names) for word, names in having.items() if len(names) > 1]
