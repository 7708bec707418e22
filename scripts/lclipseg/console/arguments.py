"""Command lines from typed dataclasses, with a YAML recipe underneath: what stands on the command line wins."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from lclipseg.console.errors import InputError


def parse(description: str, *groups: Any, argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """
    Parse `[RECIPE.yaml] [--field value ...]` into one instance of every dataclass in `groups`.

    Args:
        description (`str`): Shown by `--help`, usually the command's docstring.
        groups (dataclasses): Classes whose fields are the options; field names are unique over all of them.
        argv (sequence of `str`, *optional*): The arguments; the process's own by default.

    Raises:
        [`InputError`]: the recipe is missing, is not a mapping, or has a field that no option has.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(
        list(groups),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = _options(Path(argv[0]), parser) + argv[1:]
    *parsed, unknown = parser.parse_args_into_dataclasses(
        args=argv, look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        raise InputError(f"there is no option {unknown[0]!r}.{_hint(unknown[0].lstrip('-'), parser)} See --help.")
    return tuple(parsed)


def parse_subject(
    docstring: str | None,
    group: Any,
    subject: str,
    help: str,
    *,
    nargs: str | None = None,
    argv: Sequence[str] | None = None,
) -> tuple[Any, Any]:
    """
    Parse `SUBJECT [--field value ...]`: what a command works on, and how.

    Args:
        docstring (`str`): The command's; its first line is shown by `--help`.
        group (dataclass): A class whose fields are the options.
        subject (`str`), help (`str`): Name and description of the positional argument.
        nargs (`str`, *optional*): `"+"` where it may be several.
        argv (sequence of `str`, *optional*): The arguments; the process's own by default.

    Returns:
        `tuple`: the subject (a list with `nargs`) and the instance of `group`. Wrong arguments end the process with
        usage and exit status 2.
    """
    parser = HfArgumentParser(group, description=(docstring or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument(subject, help=help, nargs=nargs)
    options, positional, unknown = parser.parse_args_into_dataclasses(
        args=None if argv is None else list(argv), look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}.{_hint(unknown[0].lstrip('-'), parser)}")
    return getattr(positional, subject), options


def _options(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """The recipe as command-line options, so that both go through the same type checks."""
    if not path.is_file():
        raise InputError(f"recipe {path} does not exist; the published ones are in configuration/recipes/.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"recipe {path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"recipe {path} holds no `field: value` lines.")
    options: list[str] = []
    for name, value in values.items():
        if name not in _fields(parser):
            raise InputError(f"recipe {path}: there is no field {name!r}.{_hint(str(name), parser)}")
        items = value if isinstance(value, list) else [value]
        options += [f"--{name}", *map(str, items)] if value is not None else []
    return options


def _fields(parser: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in parser._actions} - {"help"}


def _hint(name: str, parser: argparse.ArgumentParser) -> str:
    near = difflib.get_close_matches(name, _fields(parser), n=1)
    return f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(sorted(_fields(parser)))}."
