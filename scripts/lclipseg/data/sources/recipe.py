"""How a data set is prepared: the YAML files of configuration/datasets, read and checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.console.paths import configuration
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.sources.coco import InstanceMasks, PanopticMasks
from lclipseg.data.sources.masks import ImageMasks, MaskReader, MatrixMasks
from lclipseg.data.sources.numbering import Numbering, parse_numbering
from lclipseg.data.sources.parts import SplitPart

RECIPES = configuration("datasets")
CLASS_KEYS = {"classes", "ignore_index", "do_reduce_labels", "palette", "prompts"}
LAYOUT_KEYS = {"splits", "ids", "colours", "ignore_index", "do_reduce_labels"}
RECIPE_KEYS = CLASS_KEYS | LAYOUT_KEYS | {"of", "where", "layouts", "keep", "merge", "none_of_these", "group"}


@dataclass(frozen=True)
class Layout:
    """
    One form in which a data set is distributed.

    Args:
        splits (`dict[str, tuple[SplitPart, ...]]`): where the images of each split are.
        numbering ([`Numbering`]): what the masks hold.
    """

    splits: Mapping[str, tuple[SplitPart, ...]]
    numbering: Numbering

    def parts(self) -> list[SplitPart]:
        return [part for parts in self.splits.values() for part in parts]

    def is_in(self, source: Path) -> bool:
        return all(part.is_in(source) for part in self.parts())


@dataclass(frozen=True)
class Recipe:
    """
    Args:
        given (`ClassList`): the classes as the source names them.
        merged (`dict[str, str]`): what those classes are called that get another name, or one name for several.
        kept (`ClassList`): the classes that are written.
        layouts (`tuple[Layout, ...]`): the forms of the source, the preferred one first.
        where (`str`): where the data is to be had.
        group (`re.Pattern`, *optional*): its first bracket finds what stems of one scene have in common; a scene never
            lies in two splits.
    """

    given: ClassList
    merged: Mapping[str, str]
    kept: ClassList
    layouts: tuple[Layout, ...]
    where: str
    group: re.Pattern[str] | None = None

    @classmethod
    def load(cls, name_or_path: str, keep_file: str | None = None) -> "Recipe":
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml"):
            path = RECIPES / f"{name_or_path}.yaml"
        if not path.is_file():
            known = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
            raise InputError(f"there is no recipe {name_or_path!r}: give one of {known} or the path of a YAML file")
        content = _content(path)
        where = str(path)
        given = ClassList.parse({key: content[key] for key in CLASS_KEYS - {"prompts"} if key in content}, where)
        merged = _merged(content.get("merge"), given, where)
        final = _final(given, merged, content, where)
        keep, keep_where = content.get("keep"), where
        if keep_file is not None:
            keep, keep_where = read_lines(Path(keep_file)), keep_file
        kept = final.subset(final.names if keep is None else keep, where=keep_where)
        return cls(
            given=given,
            merged=merged,
            kept=kept,
            layouts=_layouts(content, given, where),
            where=str(content.get("where", "its publisher")),
            group=_group(content.get("group"), where),
        )

    def new_ids(self) -> np.ndarray:
        """What each id of a given class becomes: `(256,)`, uint8."""
        table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        for index, name in enumerate(self.given.names):
            final = self.merged.get(name, name)
            if final in self.kept.names:
                table[index] = self.kept.names.index(final)
        return table

    @property
    def splits(self) -> list[str]:
        return list(self.layouts[0].splits)

    def mask_reader(self, source: Path, part: SplitPart, numbering: Numbering) -> MaskReader:
        """What reads the masks of a part to ids of the given classes."""
        if part.instances is not None:
            final = [self.merged.get(name, name) for name in self.given.names]
            rest = [index for index, name in enumerate(final) if name == self.kept.none_of_these]
            return InstanceMasks(source / part.instances, self.given.names, rest[0] if rest else IGNORE_INDEX)
        if part.segments is not None:
            return PanopticMasks(source / part.segments, self.given.names)
        if part.matrix is not None:
            return MatrixMasks(numbering, part.matrix)
        return ImageMasks(numbering)

    def layout_of(self, source: Path) -> Layout:
        """The first layout that the source has. Raises [`InputError`] if it has none of them."""
        for layout in self.layouts:
            if layout.is_in(source):
                return layout
        found = sorted(path.name for path in source.iterdir())[:10] or "nothing"
        missing = [next(part for part in layout.parts() if not part.is_in(source)) for layout in self.layouts]
        raise InputError(
            f"--source {source} lacks {'; or '.join(map(str, missing))}; it holds {found}. "
            f"Get the data from {self.where}"
        )


def _content(path: Path) -> dict[str, Any]:
    """A recipe's keys; one that is `of` another has that one's keys besides."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("of"), str):
        base = path.with_name(f"{content['of']}.yaml")
        if not base.is_file():
            raise InputError(f"{path} is of {content['of']!r}, but there is no recipe {base}")
        shared = _content(base) if base != path else {"of": content["of"]}
        if "of" in shared:
            raise InputError(f"{path} is of {base}, which is of {shared['of']!r}: only of one that is of none")
        content = {**shared, **content}
    if not isinstance(content, dict) or not isinstance(content.get("splits", content.get("layouts")), (dict, list)):
        raise InputError(f"{path}: a recipe needs the keys 'classes' and 'splits'")
    unknown = sorted(set(content) - RECIPE_KEYS)
    if unknown:
        raise InputError(f"{path} has the unknown keys {unknown}; a recipe can have {sorted(RECIPE_KEYS)}")
    return content


def _layouts(content: Mapping[str, Any], given: ClassList, where: str) -> tuple[Layout, ...]:
    shared = {key: content[key] for key in LAYOUT_KEYS if key in content}
    forms = [*([shared] if "splits" in content else []), *content.get("layouts", [])]
    layouts = tuple(_layout(content, form, given, where) for form in forms)
    if len({frozenset(layout.splits) for layout in layouts}) != 1:
        raise InputError(f"{where}: every layout needs the same splits, not {[list(one.splits) for one in layouts]}")
    return layouts


def _layout(content: Mapping[str, Any], form: Any, given: ClassList, where: str) -> Layout:
    if not isinstance(form, dict) or not isinstance(form.get("splits"), dict) or set(form) - LAYOUT_KEYS:
        raise InputError(f"{where}: a layout has the key 'splits' and may have others of {sorted(LAYOUT_KEYS)}")
    numbered = {**content, **form}
    classes = ClassList.parse({key: numbered[key] for key in CLASS_KEYS - {"prompts"} if key in numbered}, where)
    splits = {}
    for split, parts in form["splits"].items():
        listed = parts if isinstance(parts, list) else [parts]
        splits[str(split)] = tuple(SplitPart.parse(part, f"{where}, {split}") for part in listed)
    return Layout(splits, parse_numbering(numbered, classes, where))


def _merged(given: Any, classes: ClassList, where: str) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(names, list) for names in given.values()):
        raise InputError(f"{where}: merge must be {{new name: [class, ...]}}, not {given!r}")
    unknown = [name for names in given.values() for name in names if name not in classes.names]
    if unknown:
        raise InputError(f"{where}: cannot merge {unknown}; the classes are {list(classes.names)}")
    return {name: new for new, names in given.items() for name in names}


def _final(given: ClassList, merged: Mapping[str, str], content: Mapping[str, Any], where: str) -> ClassList:
    """The classes after merging, each where the first of its parts stood; prompts are those of the merged ones."""
    names = list(dict.fromkeys(merged.get(name, name) for name in given.names))
    found: dict[str, object] = {"classes": names}
    found |= {key: content[key] for key in ("prompts", "none_of_these") if key in content}
    if given.palette is not None:
        colours: dict[str, tuple[int, int, int]] = {}
        for name, colour in zip(given.names, given.palette, strict=True):
            colours.setdefault(merged.get(name, name), colour)
        found["palette"] = [list(colours[name]) for name in names]
    return ClassList.parse(found, where)


def _group(given: Any, where: str) -> re.Pattern[str] | None:
    if given is None:
        return None
    try:
        group = re.compile(given)
    except (TypeError, re.error) as error:
        raise InputError(f"{where}: group {given!r} is no regular expression: {error}") from error
    if group.groups != 1:
        raise InputError(f"{where}: group {given!r} needs one bracket, such as ^(.+)_crop")
    return group


def read_lines(path: Path) -> Sequence[str]:
    """The names in a text file of --keep, one a line."""
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise InputError(f"--keep {path} cannot be read: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]
