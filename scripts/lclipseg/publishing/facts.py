"""What a card says that no record holds: where data and initial weights come from, their licences, what they are for.

Facts stand in small YAML files, one for a data set (configuration/cards/data) and, where there is more to say, one for
a checkpoint (configuration/cards/checkpoints, or anyone's own); the latter wins. `shared: NAME` in a file stands for
what checkpoints/NAME.yaml says. Their texts are Markdown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from lclipseg.console.errors import InputError
from lclipseg.console.nearest import nearest
from lclipseg.console.paths import configuration

FOLDER = configuration("cards")
SHARED = "shared"  # names a file of configuration/cards/checkpoints whose facts hold, where a file has no own
DATA, CHECKPOINTS, TOWERS = FOLDER / "data", FOLDER / "checkpoints", FOLDER / "text_towers.yaml"


@dataclass(frozen=True)
class Source:
    """Something that went into a checkpoint, and its licence."""

    what: str
    licence: str


@dataclass(frozen=True)
class Facts:
    """
    All of it is optional; a card says so where something is not known.

    Args:
        name (`str`): The data set's name.
        licence (`str`): The Hub's identifier of the licence that the weights are under, for example `cc-by-nc-4.0`.
        summary (`str`): The card's first sentence.
        training_data, initial_weights, class_embeddings ([`Source`]): What went in: `{what: ..., licence: ...}`.
        purpose, not_for (`str`): Ends of the sentences "For ..." and "Not for ...".
        limits, notes (`list[str]`): Items of the limits, and remarks on the training.
        base_model, datasets (`list[str]`): Names on the Hub.
        benchmark (`dict`): `{id: ..., task_id: ...}` of a data set that is a benchmark on the Hub and keeps a list of
            results.
        examples (`dict[str, str]`): Images of the project, `{path: title}`, to try the checkpoint with.
    """

    name: str | None = None
    licence: str | None = None
    summary: str | None = None
    training_data: Source | None = None
    initial_weights: Source | None = None
    class_embeddings: Source | None = None
    purpose: str | None = None
    not_for: str | None = None
    limits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base_model: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    benchmark: dict[str, str] | None = None
    examples: dict[str, str] = field(default_factory=dict)


def load_facts(data_name: str, checkpoint: str | Path | None = None) -> Facts:
    """
    The facts of a data set, if there are any, and over them those of a checkpoint.

    Args:
        data_name (`str`): Name of a file in configuration/cards/data; there need not be one.
        checkpoint (`str` or `Path`, *optional*): Name of a file in configuration/cards/checkpoints, which need not be
            there, or the path of a YAML file, which must be.

    Raises:
        [`InputError`]: a file is missing, or says what no card has a place for.
    """
    named = CHECKPOINTS / f"{checkpoint}.yaml" if isinstance(checkpoint, str) else checkpoint
    facts: dict[str, Any] = {}
    for path in (DATA / f"{data_name}.yaml", named):
        if path is not None and (path.is_file() or path is checkpoint):
            content = _read(path)
            shared = content.pop(SHARED, None)
            facts |= (_read(CHECKPOINTS / f"{shared}.yaml") if shared else {}) | content
    return Facts(**facts)


@cache
def tower_parameters(name: str | None) -> int | None:
    """Parameters of a CLIP text tower, counted from its configuration; `None` if it is not in text_towers.yaml."""
    config = yaml.safe_load(TOWERS.read_text(encoding="utf-8")).get(name)
    if config is None:
        return None
    with torch.device("meta"):
        tower = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    return sum(parameter.numel() for parameter in tower.parameters())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no file {path} with facts for the card") from None
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no `field: value` lines")
    known = Facts.__dataclass_fields__
    shared = {SHARED: str(content.pop(SHARED))} if SHARED in content else {}
    for name in content:
        if name not in known:
            near = nearest(str(name), known)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{path}: a card has no place for {name!r}; {hint}")
    return shared | {name: _checked(path, name, value) for name, value in content.items()}


def _checked(path: Path, name: str, value: Any) -> Any:
    """The value, of the kind that the field has."""
    default = getattr(Facts(), name)
    if name in ("training_data", "initial_weights", "class_embeddings"):
        if not isinstance(value, Mapping) or set(value) != {"what", "licence"}:
            raise InputError(f"{path}: {name} must be {{what: ..., licence: ...}}, not {value!r}")
        return Source(**value)
    if name == "benchmark":
        if not isinstance(value, Mapping) or set(value) != {"id", "task_id"}:
            raise InputError(f"{path}: benchmark must be {{id: ..., task_id: ...}}, not {value!r}")
        return dict(value)
    kind: type = str if default is None else type(default)
    if not isinstance(value, kind):
        raise InputError(f"{path}: {name} must be a {kind.__name__}, not {value!r}")
    return value
