"""Word banks: words with their text vectors, kept in a file so that no text tower is needed again."""

import difflib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .class_embeddings_lclipseg import check_class_names, fold_name, quoted, unit_rows

BANK_SUFFIX = ".safetensors"
DEFAULT_KEYS = ("words", "bank.single")


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
        rows = unit_rows(self.embeddings)
        if not self.names or len(self.names) != len(rows):
            raise ValueError(f"{len(self.names)} words for {len(rows)} vectors; every vector needs its word.")
        object.__setattr__(self, "embeddings", rows)

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
                described.append(f"{name!r} (closest: {quoted(closest) or 'none'})")
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


__all__ = ["WordBank", "check_bank_path"]
