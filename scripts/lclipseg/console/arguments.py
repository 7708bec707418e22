"""Command lines from typed dataclasses, with a YAML recipe underneath: what stands on the command line wins.

A field is an option `--name VALUE` of its type: `str`, `int`, `float`, `bool` (`--name` alone is true), a `Literal`
(one of its values) or a list of these (`--name A B`), or `None`. Its metadata hold the `help`.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.console.nearest import nearest

METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", bool: "true|false"}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse(
    description: str | None,
    *groups: Any,
    argv: Sequence[str] | None = None,
    underneath: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """
    Parse `[RECIPE.yaml] [--field value ...]` into one instance of every dataclass in `groups`.

    Args:
        description (`str`): Shown by `--help`, usually the command's docstring.
        groups (dataclasses): Classes whose fields are the options; field names are unique over all of them.
        argv (sequence of `str`, *optional*): The arguments; the process's own by default.
        underneath (`dict`, *optional*): Values of fields that recipe and command line win over.

    Raises:
        [`InputError`]: the recipe is missing, is not a mapping, or has a field that no option has.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(description, groups)
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = _recipe(Path(argv[0]), parser) + argv[1:]
    argv = _options(underneath or {}) + argv
    values, unknown = parser.parse_known_args(list(_spelled(argv, parser)))
    if unknown:
        raise InputError(f"there is no option {unknown[0]!r}.{_hint(unknown[0].lstrip('-'), parser)} See --help.")
    return tuple(_instance(group, values) for group in groups)


def parse_subject(
    description: str | None,
    group: Any,
    subject: str,
    help: str,
    nargs: str | None = None,
    argv: Sequence[str] | None = None,
) -> tuple[Any, Any]:
    """
    Parse `SUBJECT [--field value ...]`: what a command works on, and how.

    Args:
        description (`str`), group (dataclass): As for [`parse`].
        subject (`str`), help (`str`): Name and description of the positional argument.
        nargs (`str`, *optional*): `"+"` where it may be several, `"*"` where it may be none, too.
        argv (sequence of `str`, *optional*): The arguments; the process's own by default.

    Returns:
        `tuple`: the subject (a list with `nargs`) and the instance of `group`. Wrong arguments end with status 2.
    """
    parser = _parser(description, [group])
    parser.add_argument(subject, help=help, nargs=nargs)
    values, unknown = parser.parse_known_args(list(_spelled(sys.argv[1:] if argv is None else argv, parser)))
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}.{_hint(unknown[0].lstrip('-'), parser)}")
    return getattr(values, subject, []), _instance(group, values)


def _parser(description: str | None, groups: Iterable[Any]) -> argparse.ArgumentParser:
    """A parser whose result lacks what is not given, for which the dataclasses have the defaults."""
    layout: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(description=description, argument_default=argparse.SUPPRESS, **layout)
    for group in groups:
        for field in fields(group):
            _add(parser, field, get_type_hints(group)[field.name])
    return parser


def _add(parser: argparse.ArgumentParser, field: Field, hint: Any) -> None:
    options: dict[str, Any] = {}
    if NoneType in get_args(hint):
        (hint,) = (kind for kind in get_args(hint) if kind is not NoneType)
    if get_origin(hint) is list:
        (hint,), options["nargs"] = get_args(hint), "+"
    if get_origin(hint) is Literal:
        options["choices"] = get_args(hint)
    else:
        options |= {"type": _truth if hint is bool else hint, "metavar": METAVARS[hint]}
    if hint is bool:
        options |= {"nargs": "?", "const": True}
    default = field.default if field.default_factory is MISSING else field.default_factory()
    text = field.metadata.get("help", "")
    text += "" if "Default: " in text or "Required" in text else _shown_default(default)
    parser.add_argument(f"--{field.name}", required=default is MISSING, help=text.replace("%", "%%"), **options)


def _shown_default(default: Any) -> str:
    if default is MISSING:
        return " Required."
    if default is None or default in ("", []):
        return " Default: none."
    shown = str(default).lower() if isinstance(default, bool) else default
    return f" Default: {' '.join(map(str, default)) if isinstance(default, list) else shown}."


def _truth(text: str) -> bool:
    if text.lower() not in TRUTH:
        raise argparse.ArgumentTypeError(f"give true or false, not {text!r}")
    return TRUTH[text.lower()]


def _spelled(argv: Iterable[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """The arguments with `--an-option` written as its field is, `--an_option`."""
    for word in argv:
        name, equals, value = word.partition("=")
        field = name.removeprefix("--").replace("-", "_")
        yield f"--{field}{equals}{value}" if name.startswith("--") and field in _fields(parser) else word


def _instance(group: Any, values: argparse.Namespace) -> Any:
    return group(**{field.name: getattr(values, field.name) for field in fields(group) if field.name in values})


def _recipe(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """The recipe as command-line options, so that both go through the same type checks."""
    if not path.is_file():
        raise InputError(f"recipe {path} does not exist; the published ones are in configuration/recipes/.")
    values = read_yaml(path, "recipe ")
    if not isinstance(values, dict):
        raise InputError(f"recipe {path} holds no `field: value` lines.")
    for name in values:
        if name not in _fields(parser):
            raise InputError(f"recipe {path}: there is no field {name!r}.{_hint(str(name), parser)}")
    return _options(values)


def _options(values: Mapping[str, Any]) -> list[str]:
    options: list[str] = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        options += [f"--{name}", *map(str, items)] if value is not None and items else []
    return options


def _fields(parser: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in parser._actions} - {"help"}


def _hint(name: str, parser: argparse.ArgumentParser) -> str:
    near = nearest(name.replace("-", "_"), sorted(_fields(parser)))
    return f" Did you mean {near!r}?" if near else f" There are {', '.join(sorted(_fields(parser)))}."
