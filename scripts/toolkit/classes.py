"""From class names to class vectors for a loaded model: its own, a word bank's, or the text tower's."""

import difflib
import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import CLIPTokenizer

from modeling_lclipseg.class_vectors_lclipseg import (
    WordBank,
    check_class_names,
    embed_class_names,
    fold_name,
    load_text_tower,
)
from modeling_lclipseg.heads_lclipseg import OPEN_GUIDANCES
from scripts.toolkit.cli import InputError

logger = logging.getLogger("lclipseg")


def resolve_class_vectors(
    model: Any, names: Sequence[str], prompts: Sequence[str] | None = None, bank: str | None = None
) -> torch.Tensor:
    """
    The vector of every class: the word bank's where one is given and has the word, else the one stored in the
    checkpoint for a class of that name, else what the text tower says. The tower is loaded only if a word needs it.
    The model is not changed.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): an open-vocabulary checkpoint.
        names (sequence of `str`): the class names; case does not matter.
        prompts (sequence of `str`, *optional*): the words that stand for the classes in the bank and the tower; the
            names themselves by default.
        bank (`str`, *optional*): `FILE.safetensors` or `FILE.safetensors#key`, see [`WordBank`].

    Returns:
        `torch.Tensor` of shape `(num_classes, class_embed_dim)`: float32, on the CPU.

    Raises:
        InputError: a closed-vocabulary checkpoint, bad names, a bank that cannot be read or is another tower's, or a
            name without a vector.
    """
    if not model.open_vocabulary:
        raise InputError(
            f"this checkpoint has guidance {model.config.guidance!r}: its classifier is bound to the classes it was "
            f"trained on ({_quoted(model.config.id2label.values())}) and takes no others; use a checkpoint with "
            f"guidance {OPEN_GUIDANCES}"
        )
    try:
        names = check_class_names(names)
        words = check_class_names(names if prompts is None else prompts)
        word_bank = None if bank is None else WordBank.load(bank)
    except ValueError as error:
        raise InputError(str(error)) from error
    if len(words) != len(names):
        raise InputError(f"there are {len(words)} prompts for {len(names)} classes; give one for each")

    found: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    if word_bank is not None:  # given for these words, so it comes before the checkpoint's own
        _check_same_tower(word_bank, bank, model)
        listed = {fold_name(word) for word in word_bank.names}
        in_bank = {name: word for name, word in zip(names, words, strict=True) if fold_name(word) in listed}
        if in_bank:
            found.update(zip(in_bank, word_bank.lookup(list(in_bank.values())), strict=True))
        counts["the word bank"] = len(in_bank)
    for name, vector in zip(names, _stored_vectors(model, names), strict=True):
        if vector is not None:
            found.setdefault(name, vector)
    counts["the checkpoint"] = len(found) - sum(counts.values())
    left = {name: word for name, word in zip(names, words, strict=True) if name not in found}
    if left:
        found.update(zip(left, _embed(model, list(left.values()), word_bank), strict=True))
        counts["the text tower"] = len(left)
    logger.info("class vectors: " + ", ".join(f"{count} from {source}" for source, count in counts.items() if count))
    return torch.stack([found[name] for name in names])  # (K, D)


def _stored_vectors(model: Any, names: Sequence[str]) -> list[torch.Tensor | None]:
    """The checkpoint's own vector of each name, where it has one."""
    stored = model.class_embeddings.detach().to("cpu", torch.float32)
    if not stored.any():  # a model that was never given classes
        return [None] * len(names)
    rows = {fold_name(name): stored[int(index)] for index, name in model.config.id2label.items()}
    return [rows.get(fold_name(name)) for name in names]


def _check_same_tower(word_bank: WordBank, bank: str | None, model: Any) -> None:
    """Vectors of two text towers live in different spaces: mixed, they would segment nonsense without an error."""
    wanted, width = model.config.text_model_name_or_path, model.config.class_embed_dim
    if word_bank.embeddings.shape[1] != width:
        raise InputError(
            f"the vectors of word bank {bank} are {word_bank.embeddings.shape[1]} wide, but this checkpoint takes "
            f"{width}; give a bank of its text tower ({wanted or 'not named in its config'})"
        )
    if word_bank.text_model and wanted and _last_part(word_bank.text_model) != _last_part(wanted):
        raise InputError(
            f"word bank {bank} comes from the text tower {word_bank.text_model!r}, but this checkpoint was trained "
            f"with {wanted!r}; give a bank of that tower"
        )


def _embed(model: Any, words: list[str], word_bank: WordBank | None) -> torch.Tensor:
    """What the text tower says about the words, (K, D)."""
    try:
        if model.text_model is not None:
            text_model, tokenizer = model.text_model, CLIPTokenizer.from_pretrained(model.name_or_path)
        elif model.config.text_model_name_or_path:
            text_model, tokenizer = load_text_tower(model.config.text_model_name_or_path)
        else:
            raise ValueError("its config names none")
        return embed_class_names(words, text_model, tokenizer, model.config.prompt_templates).cpu()
    except (OSError, ValueError) as error:
        own = list(model.config.id2label.values())
        known = own + list(word_bank.names if word_bank else ())
        raise InputError(
            f"there is no vector for {_quoted(words)}: not in the checkpoint ({_quoted(own)})"
            f"{', nor in the word bank' if word_bank else ''}{_closest(words, known)}. The text tower could not be "
            f"used: {error} Or give a word bank that has the words: --bank FILE.safetensors#KEY"
        ) from error


def _closest(words: Sequence[str], known: Sequence[str]) -> str:
    near = [match for word in words for match in difflib.get_close_matches(word, known, n=1)]
    return f" (did you mean {_quoted(near)}?)" if near else ""


def _last_part(name_or_path: str) -> str:
    """`openai/clip-vit-base-patch16` and a local copy of it in a folder of that name are one tower."""
    return name_or_path.rstrip("/").rsplit("/", 1)[-1].casefold()


def _quoted(names: Any) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:12])) + (f", ... {len(names)} in all" if len(names) > 12 else "")
