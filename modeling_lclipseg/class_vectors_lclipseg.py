"""From class names to class vectors: the rules for names and vectors, the text tower, and banks of embedded words."""

import difflib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

BANK_SUFFIX = ".safetensors"
DEFAULT_KEYS = ("words", "bank.single")
# With this id in its configuration, as published ones have it, a CLIP text tower reads its vector at the highest token
# id of a sentence instead (`CLIPTextModel.forward`).
LEGACY_EOS_TOKEN_ID = 2


# -------------------------------------------------------------------------------------------------- names and vectors


def check_class_names(names: Sequence[str]) -> list[str]:
    """
    Check a list of class names.

    Args:
        names (sequence of `str`): The names, in the order of the class indices.

    Returns:
        `list[str]`: The names without surrounding white space.

    Raises:
        ValueError: one string instead of a list, an empty list, a name that is not a string or is blank, or names that
            differ in nothing but case and white space.
    """
    if isinstance(names, str):
        raise ValueError(f"Class names must be a list, got the one string {names!r}; write [{names!r}].")
    names = list(names)
    if not names:
        raise ValueError("The list of class names is empty; give at least one name.")
    for position, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"Class name {position} of {len(names)} is {name!r}; every name must be a word or more.")
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(fold_name(name), []).append(name)
    repeated = [name for same in spellings.values() if len(same) > 1 for name in same]
    if repeated:
        raise ValueError(f"Duplicate class names: {_quoted(repeated)}; every class needs a name of its own.")
    return [name.strip() for name in names]


def check_class_embeddings(embeddings: torch.Tensor, num_classes: int, embed_dim: int) -> torch.Tensor:
    """
    Check the vectors of a list of classes and bring them to unit length.

    Args:
        embeddings (`torch.Tensor` of shape `(num_classes, embed_dim)`): One vector per class, any length and dtype.
        num_classes (`int`): How many there must be.
        embed_dim (`int`): How wide they must be.

    Returns:
        `torch.Tensor` of shape `(num_classes, embed_dim)`: float32, rows of unit length, without gradient.

    Raises:
        ValueError: not a tensor of that shape, or a row that is zero or holds NaN or infinity.
    """
    unit_rows = _unit_rows(embeddings)
    if len(unit_rows) != num_classes:
        raise ValueError(f"There are {len(unit_rows)} class vectors for {num_classes} classes; give one for each.")
    if unit_rows.shape[1] != embed_dim:
        raise ValueError(
            f"The class vectors are {unit_rows.shape[1]} wide, expected {embed_dim}; are they from another text tower "
            "than the model's?"
        )
    return unit_rows


def check_prompt_templates(prompt_templates: Sequence[str]) -> list[str]:
    """Check prompt templates such as `"a photo of a {}"`: a ValueError unless each has `{}`, once, for the name."""
    if isinstance(prompt_templates, str):
        raise ValueError(f"Prompt templates must be a list, got the one string {prompt_templates!r}.")
    templates = list(prompt_templates)
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(
            f"Prompt templates must hold {{}} once, for example 'a photo of a {{}}'; got {_quoted(wrong) or 'none'}."
        )
    return templates


def _unit_rows(embeddings: torch.Tensor) -> torch.Tensor:
    if not isinstance(embeddings, torch.Tensor) or embeddings.ndim != 2:
        given = tuple(embeddings.shape) if isinstance(embeddings, torch.Tensor) else type(embeddings).__name__
        raise ValueError(f"Class vectors must be a tensor of shape (num_classes, embed_dim), got {given}.")
    embeddings = embeddings.detach().to(torch.float32)
    lengths = embeddings.norm(dim=1)
    # A length is finite only where every number of its row is.
    for problem, rows in (("hold NaN or infinity", ~lengths.isfinite()), ("are zero", lengths < 1e-6)):
        if rows.any():
            indices = rows.nonzero().flatten().tolist()
            shown = ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
            raise ValueError(f"{len(indices)} of {len(rows)} class vectors {problem} (row {shown}); embed them again.")
    return nn.functional.normalize(embeddings, dim=1)


def fold_name(name: str) -> str:
    """What two spellings of one name have in common: case and the amount of white space do not matter."""
    return " ".join(name.split()).casefold()


def _quoted(items: Sequence[object]) -> str:
    return ", ".join(map(repr, items))


# ------------------------------------------------------------------------------------------------------ the text tower


def load_text_tower(name_or_path: str) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    """
    Load a CLIP text tower and its tokenizer.

    Args:
        name_or_path (`str`): A name on the Hub or a local folder, of a text tower or of a whole CLIP model.

    Returns:
        `CLIPTextModelWithProjection` in float32 and evaluation mode, and its `CLIPTokenizer`.

    Raises:
        ValueError: it cannot be loaded, or is not a text tower with projection and vocabulary. What is missing in a
            folder, transformers itself would fill with random weights and an empty vocabulary, without an error.
    """
    allowed = "Give a name on the Hub, for example 'openai/clip-vit-base-patch16', or a local folder of a CLIP model."
    verbosity = logging.get_verbosity()
    # The image tower of a whole CLIP model is unused here on purpose; the report about it would be a page long.
    logging.set_verbosity_error()
    try:
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(
            name_or_path, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(name_or_path)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(f"The text tower {name_or_path!r} cannot be loaded: {error} {allowed}") from error
    finally:
        logging.set_verbosity(verbosity)
    text_model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ValueError(f"{name_or_path!r} is no CLIP text tower with projection: it lacks {missing[0]}. {allowed}")
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(f"{name_or_path!r} has no tokenizer files with a vocabulary (tokenizer.json). {allowed}")
    return text_model, tokenizer


def embed_class_names(
    names: Sequence[str],
    text_model: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    prompt_templates: Sequence[str],
) -> torch.Tensor:
    """
    Embed class names with a CLIP text tower: the mean over the templates of their unit vectors, at unit length again.

    Args:
        names (sequence of `str`): The class names.
        text_model (`CLIPTextModelWithProjection`), tokenizer (`CLIPTokenizer`): The tower and its tokenizer.
        prompt_templates (sequence of `str`): Sentences with `{}` in the place of the name.

    Returns:
        `torch.Tensor` of shape `(num_classes, projection_dim)`: float32, rows of unit length, on the tower's device.

    Raises:
        ValueError: bad names or templates, a prompt longer than the tower reads, or a tokenizer of another tower.
    """
    names = check_class_names(names)
    templates = check_prompt_templates(prompt_templates)
    _check_tokenizer_fits(tokenizer, text_model)
    was_training = text_model.training
    text_model.eval()
    try:
        with torch.no_grad():
            sentences = [[template.replace("{}", name) for name in names] for template in templates]
            per_template = [_embed_prompts(prompts, text_model, tokenizer) for prompts in sentences]
    finally:
        text_model.train(was_training)
    return _unit_rows(torch.stack(per_template).mean(dim=0))


def _embed_prompts(
    prompts: list[str], text_model: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer
) -> torch.Tensor:
    tokens = tokenizer(prompts, verbose=False)  # no warning about length: the error below says more
    limit = min(tokenizer.model_max_length, text_model.config.max_position_embeddings)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    if max(lengths) > limit:
        longest = lengths.index(max(lengths))
        raise ValueError(
            f"The prompt {prompts[longest]!r} has {lengths[longest]} tokens and the text tower reads {limit}; shorten "
            "the class name or the template."
        )
    padded = tokenizer.pad(tokens, return_tensors="pt").to(text_model.device)
    text_embeds = text_model(**padded).text_embeds.float()  # (K, D)
    return nn.functional.normalize(text_embeds, dim=-1)


def _check_tokenizer_fits(tokenizer: CLIPTokenizer, text_model: CLIPTextModelWithProjection) -> None:
    config, eos_token_id = text_model.config, tokenizer.eos_token_id
    highest = max(tokenizer.get_vocab().values())
    read_at = highest if config.eos_token_id == LEGACY_EOS_TOKEN_ID else config.eos_token_id
    # A tower that does not find its token reads every sentence at the first one, which is the same for all.
    if highest >= config.vocab_size or eos_token_id != read_at:
        raise ValueError(
            f"The tokenizer is not this text tower's: its token ids go up to {highest} and its sentences end with "
            f"{eos_token_id}; the tower has ids up to {config.vocab_size - 1} and reads its vector at {read_at}."
        )


# ---------------------------------------------------------------------------------------------------------- word banks


@dataclass(frozen=True, eq=False)
class WordBank:
    """
    Words with their text vectors: what a text tower says about them, kept so that it need not be loaded again.

    On disk: `FILE.safetensors` with one or more tensors (num_words, embed_dim), and beside it `FILE_names.json`:
    `{"names": {key: [words in row order]}, "text_model": "openai/clip-vit-base-patch16", "prompt_templates": [...]}`,
    the last two optional.

    Args:
        names (`tuple[str, ...]`): The words. Of a word that stands here twice, the first row counts.
        embeddings (`torch.Tensor` of shape `(num_words, embed_dim)`):
            Their vectors. Any length and dtype is taken; kept in float32, at unit length.
        text_model (`str`, *optional*): Name of the text tower that made them, where it is known.
        prompt_templates (`tuple[str, ...]`): The sentences that the words were put into; empty where not known.

    Raises:
        ValueError: no words, another number of words than rows, or rows that are zero or not finite.
    """

    names: tuple[str, ...]
    embeddings: torch.Tensor
    text_model: str | None = None
    prompt_templates: tuple[str, ...] = ()

    def __post_init__(self):
        unit_rows = _unit_rows(self.embeddings)
        if not self.names or len(self.names) != len(unit_rows):
            raise ValueError(f"{len(self.names)} words for {len(unit_rows)} vectors; every vector needs its word.")
        object.__setattr__(self, "embeddings", unit_rows)

    @property
    def center(self) -> torch.Tensor:
        """`torch.Tensor` of shape `(embed_dim,)`: the mean of the rows, shorter than 1."""
        return self.embeddings.mean(dim=0)

    def lookup(self, names: Sequence[str]) -> torch.Tensor:
        """
        The vectors of some words; case and the amount of white space do not matter.

        Args:
            names (sequence of `str`): The words.

        Returns:
            `torch.Tensor` of shape `(num_names, embed_dim)`: float32, rows of unit length.

        Raises:
            ValueError: bad names, or words that the bank lacks (all named, with the closest ones that it has).
        """
        names = check_class_names(names)
        rows: dict[str, int] = {}
        for row, word in enumerate(self.names):
            rows.setdefault(fold_name(word), row)
        missing = [name for name in names if fold_name(name) not in rows]
        if missing:
            described = []
            for name in missing:
                closest = [self.names[rows[word]] for word in difflib.get_close_matches(fold_name(name), rows, n=3)]
                described.append(f"{name!r} (closest: {_quoted(closest) or 'none'})")
            raise ValueError(
                f"The word bank of {len(self.names)} words lacks {len(missing)} of the {len(names)} words asked for: "
                f"{'; '.join(described)}. Embed them with a text tower (`lclipseg-embed WORDS --text-model "
                f"{self.text_model or 'NAME_OR_PATH'} --out words.safetensors`), or give a word bank that has them."
            )
        return self.embeddings[[rows[fold_name(name)] for name in names]]

    @classmethod
    def load(cls, source: str | os.PathLike) -> "WordBank":
        """
        Read a word bank.

        Args:
            source (`str`): `bank.safetensors`, or `bank.safetensors#key` for one of several tensors. Without a key the
                only tensor counts, else `words`, else `bank.single`.

        Raises:
            ValueError: a file is missing or broken, the key is not in it, or words and rows do not go together.
        """
        stem, suffix, key = os.fspath(source).partition(f"{BANK_SUFFIX}#")
        path = check_bank_path(stem + BANK_SUFFIX if suffix else source)
        names_path = _names_path(path)
        for file in (path, names_path):
            if not file.is_file():
                raise ValueError(f"{file} does not exist; a word bank is NAME.safetensors beside NAME_names.json.")
        try:
            with safe_open(path, framework="pt") as tensors:
                key = _chosen_key(key if suffix else None, sorted(tensors.keys()), path)
                embeddings = tensors.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise ValueError(f"The word bank {path} cannot be read as safetensors: {error}") from error
        names, text_model, prompt_templates = _read_names(names_path, key)
        try:
            return cls(names, embeddings, text_model, prompt_templates)
        except ValueError as error:
            raise ValueError(f"The word bank {path}, key {key!r}: {error}") from error

    def save(self, path: str | os.PathLike, key: str = "words") -> None:
        """
        Write the bank to `path` and its words to the `_names.json` beside it, replacing what is there. No file is ever
        half written, and never do words stand beside vectors of another bank.

        Args:
            path (`str`): Where to; ends in `.safetensors`, in a folder that exists.
            key (`str`, *optional*, defaults to `"words"`): Name of the tensor.

        Raises:
            ValueError: `path` has another suffix or its folder does not exist.
        """
        path = check_bank_path(path)
        content: dict[str, object] = {"names": {key: list(self.names)}}
        if self.text_model is not None:
            content["text_model"] = self.text_model
        if self.prompt_templates:
            content["prompt_templates"] = list(self.prompt_templates)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
            draft = Path(folder) / path.name
            save_file({key: self.embeddings.contiguous()}, draft)
            _names_path(draft).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            _names_path(path).unlink(missing_ok=True)
            os.replace(draft, path)
            os.replace(_names_path(draft), _names_path(path))


def check_bank_path(path: str | os.PathLike) -> Path:
    """Check that `path` can be a word bank's: a ValueError without the suffix `.safetensors` or the folder."""
    path = Path(path)
    if path.suffix != BANK_SUFFIX:
        raise ValueError(f"A word bank is a file that ends in {BANK_SUFFIX}, got {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"The folder {path.parent} of the word bank {path.name} does not exist; make it first.")
    return path


def _names_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_names.json")


def _chosen_key(key: str | None, keys: list[str], path: Path) -> str:
    defaults = keys if len(keys) == 1 else DEFAULT_KEYS
    for candidate in defaults if key is None else [key]:
        if candidate in keys:
            return candidate
    wanted = "No key is chosen" if key is None else f"There is no key {key!r}"
    raise ValueError(f"{wanted} in the word bank {path}; write {path}#KEY with one of: {', '.join(keys)}.")


def _read_names(path: Path, key: str) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The list of words {path} cannot be read as JSON: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not _is_list_of_strings(names.get(key)):
        raise ValueError(f'The list of words {path} must be {{"names": {{"{key}": [words in row order]}}}}.')
    text_model, prompt_templates = content.get("text_model"), content.get("prompt_templates", [])
    if not isinstance(text_model, str | None) or not _is_list_of_strings(prompt_templates):
        raise ValueError(f"In {path}, `text_model` must be a name and `prompt_templates` a list of sentences.")
    return tuple(names[key]), text_model, tuple(prompt_templates)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


__all__ = [
    "WordBank",
    "check_bank_path",
    "check_class_embeddings",
    "check_class_names",
    "check_prompt_templates",
    "embed_class_names",
    "load_text_tower",
]
