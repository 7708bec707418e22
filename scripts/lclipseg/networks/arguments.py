"""What `lclipseg embed` and `lclipseg merge-banks` can be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lclipseg.console.errors import InputError


@dataclass
class EmbedArguments:
    text_model: str = field(metadata={"help": "Text tower: a name on the Hub, or a local folder of a CLIP model."})
    out: str = field(
        default="words.safetensors",
        metadata={"help": "The word bank to write, NAME.safetensors; NAME_names.json comes beside it."},
    )
    templates: list[str] = field(
        default_factory=lambda: ["a photo of a {}"],
        metadata={"help": "Sentences with {} in the place of the word; their vectors are averaged."},
    )

    def __post_init__(self) -> None:
        _check_bank(self.out)
        _check_templates("templates", self.templates)


@dataclass
class MergeArguments:
    keys: list[str] = field(metadata={"help": "Names of the tensors; of a word in several, the first one counts."})
    text_model: str = field(metadata={"help": "Text tower that made the vectors, as models name it."})
    template: str = field(metadata={"help": "The sentence that the words were put into, with {} in their place."})
    out: str = field(metadata={"help": "The word bank to write, NAME.safetensors; NAME_names.json comes beside it."})

    def __post_init__(self) -> None:
        _check_bank(self.out)
        _check_templates("template", [self.template])


def _check_bank(out: str) -> None:
    if not out.endswith(".safetensors"):
        raise InputError(f"--out {out}: a word bank is a file that ends in .safetensors")
    if not Path(out).parent.is_dir():
        raise InputError(f"--out {out}: the folder {Path(out).parent} does not exist; make it first")


def _check_templates(option: str, templates: Sequence[str]) -> None:
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise InputError(f"--{option} must hold {{}} once, for example 'a photo of a {{}}'; got {wrong or 'none'}")
