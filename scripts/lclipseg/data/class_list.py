"""The classes of a data set: names, prompts, ignored value and colours, as `classes.json` holds them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.console.torch_free import check_class_names, fold_name

CLASSES_FILE = "classes.json"
IGNORE_INDEX = 255


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of their ids.

    Args:
        names (`tuple[str, ...]`): what the classes are called, at most 255 of them.
        prompts (`tuple[tuple[str, ...], ...]`): what the text tower reads for each class: its word, or several words
            whose vectors are averaged.
        ignore_index (`int`, *optional*): value in the mask files that means "not labelled", besides 255.
        palette (`tuple[tuple[int, int, int], ...]`, *optional*): RGB colour of each class, 0 to 255.
        do_reduce_labels (`bool`): whether the mask files count from 1 and their 0 means "not labelled", as ADE20K's.
        none_of_these (`str`, *optional*): the class that stands for all that is none of the others, "background" say.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    ignore_index: int | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    do_reduce_labels: bool = False
    none_of_these: str | None = None

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def of_something(self) -> tuple[str, ...]:
        """The names of all classes but `none_of_these`."""
        return tuple(name for name in self.names if name != self.none_of_these)

    @classmethod
    def load(cls, path: str | Path) -> "ClassList":
        """Read `classes.json`: `["sky", ...]`, `{"0": "sky", ...}` or `{"classes": ["sky", ...], "ignore_index": 11,
        "palette": [[r, g, b], ...], "prompts": {"sky": "blue sky", "sofa": ["sofa", "couch"]}, "do_reduce_labels":
        false, "none_of_these": "background"}`, all but the first key optional."""
        try:
            content = json.loads(read_text(path))
        except OSError as error:
            raise InputError(f"class list {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"class list {path} is not valid JSON: {error}") from error
        return cls.parse(content, where=str(path))

    @classmethod
    def parse(cls, content: object, where: str) -> "ClassList":
        """Check what a class list holds; `where` names its file in the errors."""
        if isinstance(content, list):
            content = {"classes": content}
        elif isinstance(content, dict) and content and all(str(key).isdigit() for key in content):
            content = {"classes": _names_in_id_order(content, where)}
        if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
            raise InputError(f'{where}: must be ["sky", ...], {{"0": "sky", ...}} or {{"classes": ["sky", ...], ...}}')
        do_reduce_labels = content.get("do_reduce_labels", False)
        if not isinstance(do_reduce_labels, bool):
            raise InputError(f"{where}: do_reduce_labels must be true or false, got {do_reduce_labels!r}")
        names = _checked(content["classes"], where)
        prompts = _prompts(names, content.get("prompts") or {}, where)
        none_of_these = content.get("none_of_these")
        if none_of_these is not None and none_of_these not in names:
            raise InputError(
                f"{where}: none_of_these is {none_of_these!r}, which is no class; the classes are {names}"
            )
        limit = IGNORE_INDEX - int(do_reduce_labels)
        if len(names) > limit:
            raise InputError(f"{where}: {len(names)} classes, at most {limit} are possible: 255 means ignored")
        return cls(
            names=tuple(names),
            prompts=prompts,
            ignore_index=_ignore_index(content.get("ignore_index"), names, do_reduce_labels, where),
            palette=_palette(content.get("palette"), names, where),
            do_reduce_labels=do_reduce_labels,
            none_of_these=none_of_these,
        )

    def subset(self, keep: Sequence[str], where: str) -> "ClassList":
        """The classes of `keep` alone, in that order and numbered anew; `where` names its file in the error."""
        unknown = [name for name in keep if name not in self.names]
        if unknown or not keep:
            raise InputError(
                f"{where}: cannot keep {unknown or 'no class at all'}; the classes are {list(self.names)}"
            )
        indices = [self.names.index(name) for name in dict.fromkeys(keep)]
        return ClassList(
            names=tuple(self.names[index] for index in indices),
            prompts=tuple(self.prompts[index] for index in indices),
            palette=None if self.palette is None else tuple(self.palette[index] for index in indices),
            none_of_these=self.none_of_these if self.none_of_these in keep else None,
        )

    def save(self, path: str | Path) -> None:
        """Write the list as a `classes.json` that [`ClassList.load`] reads back to an equal list."""
        content: dict[str, object] = {"classes": list(self.names)}
        if self.ignore_index is not None:
            content["ignore_index"] = self.ignore_index
        if self.do_reduce_labels:
            content["do_reduce_labels"] = True
        prompts = {
            name: words[0] if len(words) == 1 else list(words)
            for name, words in zip(self.names, self.prompts, strict=True)
            if words != (name,)
        }
        if prompts:
            content["prompts"] = prompts
        if self.palette is not None:
            content["palette"] = [list(colour) for colour in self.palette]
        if self.none_of_these is not None:
            content["none_of_these"] = self.none_of_these
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _checked(names: list, where: str) -> list[str]:
    try:
        return check_class_names(names)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _names_in_id_order(id2label: Mapping[object, object], where: str) -> list[object]:
    by_id = {int(str(key)): name for key, name in id2label.items()}
    if sorted(by_id) != list(range(len(id2label))):
        raise InputError(f"{where}: the ids must be 0 to {len(id2label) - 1} without gaps, got {sorted(by_id)}")
    return [by_id[index] for index in range(len(by_id))]


def _prompts(names: list[str], given: object, where: str) -> tuple[tuple[str, ...], ...]:
    if not isinstance(given, dict):
        raise InputError(
            f'{where}: prompts must be {{"class name": "word", "another": ["one", "or several"]}}, got {given!r}'
        )
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"{where}: prompts for {unknown}, which are no classes; the classes are {names}")
    of_class = [given.get(name, name) for name in names]
    prompts = [words if isinstance(words, list) else [words] for words in of_class]
    checked = tuple(
        tuple(_checked(words, f"{where}, prompts of {name!r}")) for name, words in zip(names, prompts, strict=True)
    )
    first: dict[frozenset[str], str] = {}
    for name, words in zip(names, checked, strict=True):
        other = first.setdefault(frozenset(map(fold_name, words)), name)
        if other != name:
            raise InputError(
                f"{where}: {other!r} and {name!r} have the same prompts {list(words)}; nothing tells them apart"
            )
    return checked


def _ignore_index(given: object, names: list[str], do_reduce_labels: bool, where: str) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise InputError(f"{where}: ignore_index must be a whole number from 0, got {given!r}")
    class_id = given - int(do_reduce_labels)
    if 0 <= class_id < len(names):
        raise InputError(
            f"{where}: ignore_index {given} is the class {names[class_id]!r} in the masks. Take the class out of the "
            "list (value 0: and set do_reduce_labels), or leave ignore_index out"
        )
    return given


def _palette(given: object, names: list[str], where: str) -> tuple[tuple[int, int, int], ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != len(names):
        count = len(given) if isinstance(given, list) else repr(given)
        raise InputError(f"{where}: palette needs one [r, g, b] for each of the {len(names)} classes, got {count}")
    for name, colour in zip(names, given, strict=True):
        if (
            not isinstance(colour, list)
            or len(colour) != 3
            or not all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
        ):
            raise InputError(f"{where}: palette of {name!r} must be three whole numbers 0 to 255, got {colour!r}")
    return tuple((red, green, blue) for red, green, blue in given)
