"""Command lines from typed dataclasses, with a YAML recipe underneath: what stands on the command line wins."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from scripts.toolkit.cli import InputError


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
        list(groups), description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if argv and argv[0].endswith((".yaml", ".yml")):
        argv = _options(Path(argv[0]), parser) + argv[1:]
    return parser.parse_args_into_dataclasses(args=argv, look_for_args_file=False)


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
    known = {action.dest for action in parser._actions} - {"help"}
    options: list[str] = []
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(sorted(known))}."
            raise InputError(f"recipe {path}: there is no field {name!r}.{hint}")
        items = value if isinstance(value, list) else [value]
        options += [f"--{name}", *map(str, items)] if value is not None else []
    return options
