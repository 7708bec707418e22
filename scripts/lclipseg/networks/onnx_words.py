"""The class embeddings of an exported graph, and words looked up beside it, as arrays. Nothing here needs torch.

Which vector a word gets, and what is refused, is as in [`LClipSegVocabulary`]; only that there is no text tower.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lclipseg.console.errors import InputError
from lclipseg.console.paths import configuration
from lclipseg.console.torch_free import (
    SHORTEST_CENTER,
    check_bank_tower,
    check_bank_width,
    check_class_names,
    check_cosines,
    check_lengths,
    closest,
    fold_name,
    read_bank,
    some,
    unfamiliar,
)
from lclipseg.networks.export_record import BANK_FILE, CLASS_CENTER, TRAINED_EMBEDDINGS

EVERYDAY_WORDS = configuration("words", "vitb16.safetensors")


class MissingWords(InputError):
    """Words that have no vector without a text tower."""


@dataclass(frozen=True)
class Bank:
    """A word bank: rows (num_words, embed_dim) of unit length by the folded word, and what made them."""

    rows: Mapping[str, np.ndarray]
    words: tuple[str, ...]
    text_model: str | None
    prompt_templates: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(next(iter(self.rows.values())))


def load_bank(source: str | Path) -> Bank:
    """A word bank from `FILE.safetensors` or `FILE.safetensors#key`; errors as in [`WordBank.load`]."""
    what, names, embeddings, text_model, templates = read_bank(source, "np")
    try:
        vectors = unit_rows(embeddings)
        if not names or len(names) != len(vectors):
            raise ValueError(f"{len(names)} words for {len(vectors)} vectors; every vector needs its word.")
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    rows: dict[str, np.ndarray] = {}
    for name, vector in zip(names, vectors, strict=True):
        rows.setdefault(fold_name(name), vector)  # of a word that stands there twice, the first row counts
    return Bank(rows, names, text_model, templates)


class ExportedWords:
    """
    What has a vector beside an exported graph.

    Args:
        names (sequence of `str`), class_embeddings (`np.ndarray` of shape `(num_classes, class_embed_dim)`): The
            classes that it was exported with.
        trained (sequence of `str`), trained_embeddings (`np.ndarray`): Those that the network was trained on.
        center (`np.ndarray` of shape `(class_embed_dim,)`): The common direction of its text tower.
        config ([`ExportedConfig`]): Which tower that is.
    """

    def __init__(self, names, class_embeddings, trained, trained_embeddings, center, config: Any):
        self.names, self.class_embeddings = names, class_embeddings
        self.trained, self.trained_embeddings = trained, trained_embeddings
        self.center, self.config = center, config
        self._own = dict(zip(map(fold_name, trained), trained_embeddings, strict=True))
        self._own.update(zip(map(fold_name, names), class_embeddings, strict=True))

    @classmethod
    def load(cls, folder: Path, config: Any) -> "ExportedWords":
        """Of an exported folder; an [`InputError`] where its vectors are not there or not those of its classes."""
        try:
            tensors = load_file(folder / BANK_FILE)
            vectors, center = (tensors[key].astype(np.float32) for key in ("words", CLASS_CENTER))
            trained = tensors.get(TRAINED_EMBEDDINGS, vectors).astype(np.float32)
            return cls(
                config.class_names, vectors, config.trained_classes or config.class_names, trained, center, config
            )
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise InputError(f"{folder / BANK_FILE} cannot be used: {error}; export the model again") from error

    def known(self, bank: Bank | None = None) -> set[str]:
        """All words that have a vector here or in a bank, folded."""
        return {*self._own, *(() if bank is None else bank.rows)}

    def find(self, names: Sequence[str], bank: str | Bank | None = None) -> np.ndarray:
        """
        The embedding of every class. Each word is looked up in the bank that was given, among the classes of the
        graph, and in the words that ship here if they are of its text tower.

        Returns:
            `np.ndarray` of shape `(num_classes, class_embed_dim)`: float32, rows of unit length.

        Raises:
            MissingWords: a word without a vector.
            ValueError: bad names, or a bank that cannot be read or is another tower's.
        """
        checked = check_class_names(names)
        given = load_bank(bank) if isinstance(bank, str) else bank
        if given is None:
            given = self.everyday()
            sources = [self._own, {} if given is None else given.rows]
        else:
            self._check(given, checked)
            sources = [given.rows, self._own]
        found = {key: rows[key] for rows in reversed(sources) for key in map(fold_name, checked) if key in rows}
        missing = [name for name in checked if fold_name(name) not in found]
        if missing:
            own = list(dict.fromkeys([*self.names, *self.trained]))
            raise MissingWords(
                f"There is no vector for {some(missing)}: not in the checkpoint ({some(own)})"
                f"{', nor in the word bank' if given is not None else ''}"
                f"{closest(missing, [*own, *(given.words if given is not None else ())])}. A word bank that has the "
                'words needs no text tower; with `pip install "lclipseg[torch]"` the tower itself is asked.'
            )
        vectors = unit_rows(np.stack([found[fold_name(name)] for name in checked]))
        length = np.linalg.norm(self.center)
        if length >= SHORTEST_CENTER:
            check_cosines((vectors @ (self.center / length)).tolist(), checked, self.config.text_model)
        return vectors

    def unfamiliar(self, names: Sequence[str], vectors: np.ndarray) -> str | None:
        """What to warn of where classes are like none of the trained ones; see [`nearest_known`]."""
        centred, known = (_normalized(unit_rows(rows) - self.center) for rows in (vectors, self.trained_embeddings))
        cosines = centred @ known.T
        rows = cosines.argmax(axis=1)
        return unfamiliar(names, self.trained, cosines.max(axis=1).tolist(), rows.tolist())

    def everyday(self) -> Bank | None:
        """The words that ship here, where they are of this graph's text tower and sentence."""
        bank = _everyday_bank()
        same = _last_part(self.config.text_model) == _last_part(bank.text_model)
        fits = self.config.prompt_templates == bank.prompt_templates and bank.width == self.class_embeddings.shape[1]
        return bank if same and fits else None

    def _check(self, bank: Bank, names: Sequence[str]) -> None:
        check_bank_width(bank.width, self.class_embeddings.shape[1], self.config.text_model)
        if not self.center.any() and any(fold_name(name) in bank.rows for name in names):
            check_bank_tower(bank.text_model, self.config.text_model)


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """`embeddings` (n, D) in float32 and at unit length; a ValueError if a row is zero or not finite."""
    if embeddings.ndim != 2:
        raise ValueError(f"Class embeddings must have shape (num_classes, embed_dim), got {embeddings.shape}.")
    rows = embeddings.astype(np.float32)
    check_lengths(np.linalg.norm(rows, axis=1).tolist())
    return _normalized(rows)


def _normalized(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@functools.cache
def _everyday_bank() -> Bank:
    return load_bank(EVERYDAY_WORDS)


def _last_part(name: str | None) -> str:
    """`clip-vit-base-patch16` of a name on the Hub or of a folder."""
    return (name or "").rstrip("/").rsplit("/", 1)[-1].casefold()


__all__ = ["Bank", "ExportedWords", "MissingWords", "load_bank"]
