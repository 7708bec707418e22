"""Command lines for people to repeat: above all the one of a run, from the arguments that run.json keeps."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from lclipseg.console.paths import configuration
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments

RECIPES = configuration("recipes")
# How a run was watched, stopped and started again does not change it.
INCIDENTAL = {"resume", "trackers", "expected_processes", "output_dir"}


def training_command(arguments: Mapping[str, Any], name: str) -> tuple[str, str | None]:
    """
    The command that repeats a run.

    Args:
        arguments (`dict`): The arguments in run.json.
        name (`str`): What the new run's folder is called.

    Returns:
        `tuple`: the command, and the name of the recipe that it starts from (a file in configuration/recipes), or
        `None` where none fits.
    """
    recipe = _recipe_of(arguments)
    given = {**_defaults(), **({} if recipe is None else _read(recipe))}
    words: list[Any] = ["accelerate", "launch", "-m", "lclipseg", "train"]
    if recipe is not None:
        words.append(f"configuration/recipes/{recipe.name}")
    for option, value in arguments.items():
        if option not in INCIDENTAL and value is not None and value != given.get(option):
            words += [f"--{option}", *(value if isinstance(value, list) else [value])]
    words += ["--output_dir", f"runs/{name}"]
    return command_line(words), None if recipe is None else recipe.name


def command_line(words: Iterable[Any]) -> str:
    """Words and values as one line for a shell, whatever stands in them."""
    texts = (str(word).lower() if isinstance(word, bool) else str(word) for word in words)
    return shlex.join("".join(char if char.isprintable() else " " for char in text) for text in texts)


def _recipe_of(arguments: Mapping[str, Any]) -> Path | None:
    """Of the recipes that say nothing else than the arguments do, the one that says most."""
    sizes = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        values = _read(path)
        if all(arguments.get(name) == value for name, value in values.items()):
            sizes[path] = len(values)
    return max(sizes, key=lambda path: sizes[path], default=None)


def _read(recipe: Path) -> dict[str, Any]:
    return yaml.safe_load(recipe.read_text(encoding="utf-8"))


def _defaults() -> dict[str, Any]:
    return {
        field.name: field.default_factory() if field.default_factory is not MISSING else field.default
        for group in (ModelArguments, DataArguments, RunArguments)
        for field in fields(group)
    }
