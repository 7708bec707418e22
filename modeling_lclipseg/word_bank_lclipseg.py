"""Word banks: words with their text vectors, kept in a file so that no text tower is needed again."""

import difflib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from .class_embeddings_lclipseg import unit_rows
from .names_lclipseg import bank_names_path, check_bank_path, check_class_names, fold_name, quoted, read_bank


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
                f"{'; '.join(described)}. Embed them with a text tower (`lclipseg embed WORDS --text-model "
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
        what, names, embeddings, text_model, prompt_templates = read_bank(source, "pt")
        try:
            return cls(names, embeddings, text_model, prompt_templates)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error

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
            bank_names_path(draft).write_text(
                json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
            )
            bank_names_path(path).unlink(missing_ok=True)
            os.replace(draft, path)
            os.replace(bank_names_path(draft), bank_names_path(path))


__all__ = ["WordBank", "check_bank_path"]
