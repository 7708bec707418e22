"""Where the vectors of a class list come from: a word bank, the checkpoint itself, or its text tower."""

import difflib
import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

from .class_embeddings_lclipseg import (
    FAMILIAR_COSINE,
    check_class_embeddings,
    check_class_names,
    check_same_tower,
    embed_class_names,
    fold_name,
    load_text_tower,
    nearest_known,
    quoted,
)
from .heads_lclipseg import OPEN_GUIDANCES
from .word_bank_lclipseg import WordBank

logger = logging.get_logger(__name__)


def find_class_embeddings(
    model: Any,
    names: Sequence[str],
    prompts: Sequence[str] | None = None,
    word_bank: WordBank | None = None,
    tokenizer: CLIPTokenizer | None = None,
) -> torch.Tensor:
    """
    The vector of every class: the word bank's where one is given and has the word, else the one stored in the
    checkpoint for a class of that name, else what the text tower says. The tower is loaded only if a word needs it,
    and once for all calls. The model is not changed.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): An open-vocabulary checkpoint.
        names (sequence of `str`): The class names; case does not matter.
        prompts (sequence of `str`, *optional*): The words that stand for the classes in the bank and the tower; the
            names themselves by default.
        word_bank ([`WordBank`], *optional*): Vectors of further words.
        tokenizer (`CLIPTokenizer`, *optional*): For a checkpoint with a text tower inside; by default the one that is
            stored beside it.

    Returns:
        `torch.Tensor` of shape `(num_classes, class_embed_dim)`: float32, on the CPU.

    Raises:
        ValueError: a closed-vocabulary checkpoint, bad names, a word bank of another text tower, or a name that has no
            vector.
    """
    names = check_class_names(names)
    check_takes_classes(model, names)
    words = check_class_names(names if prompts is None else prompts)
    if len(words) != len(names):
        raise ValueError(f"There are {len(words)} prompts for {len(names)} classes; give one for each.")

    found: dict[str, torch.Tensor] = {}
    if word_bank is not None:  # given for these words, so it comes before the checkpoint's own
        found.update(_in_bank(word_bank, dict(zip(names, words, strict=True)), model))
    for name, vector in _stored(model, names).items():
        found.setdefault(name, vector)
    left = {name: word for name, word in zip(names, words, strict=True) if name not in found}
    if left:
        found.update(zip(left, _from_tower(model, list(left.values()), word_bank, tokenizer), strict=True))
    return torch.stack([found[name] for name in names])  # (K, D)


def check_takes_classes(model: Any, names: Sequence[str]) -> None:
    """A ValueError for other classes, or another order, than those that a closed-vocabulary head was trained on."""
    own = model.config.class_names
    if not model.open_vocabulary and not (model.head.takes_text and list(names) == own):
        raise ValueError(
            f"This checkpoint has guidance={model.config.guidance!r}: its classifier is bound to the {len(own)} "
            f"classes it was trained on ({_some(own)}) and cannot take others, nor another order. Use a checkpoint "
            f"with guidance={OPEN_GUIDANCES}."
        )


def warn_of_unfamiliar(model: Any, names: Sequence[str], vectors: torch.Tensor) -> None:
    """Name the new classes, with vectors (K, D), that are like none of those that the checkpoint has now."""
    known = model.class_embeddings.detach().to("cpu", torch.float32)
    if not known.any():  # a model that was never given classes
        return
    own = model.config.class_names
    nearest = nearest_known(vectors.cpu(), known, model.class_center.cpu())
    far = [
        f"{name!r} (nearest: {own[row]!r}, {cosine:.2f})"
        for name, cosine, row in zip(names, *(part.tolist() for part in nearest), strict=True)
        if cosine < FAMILIAR_COSINE
    ]
    if far:
        logger.warning(
            f"Unlike every class of this checkpoint: {', '.join(far[:12])}{', ...' if len(far) > 12 else ''}. It was "
            "taught nothing about them, and will give them pixels at random. Other words for its classes are nearer "
            f"to them (cosine {FAMILIAR_COSINE} or more, the common direction left out)."
        )


def _in_bank(word_bank: WordBank, words: dict[str, str], model: Any) -> dict[str, torch.Tensor]:
    """The vectors of those names whose words the bank has, once it is clear that the bank is of the model's tower."""
    width, text_model = model.config.class_embed_dim, model.config.text_model_name_or_path
    if word_bank.embeddings.shape[1] != width:
        raise ValueError(
            f"The word bank's vectors are {word_bank.embeddings.shape[1]} wide, but this checkpoint takes {width}; "
            f"give a bank of its text tower ({text_model or 'not named in its config'})."
        )
    listed = {fold_name(word) for word in word_bank.names}
    there = {name: word for name, word in words.items() if fold_name(word) in listed}
    if not there:
        return {}
    vectors = word_bank.lookup(list(there.values()))
    check_same_tower(vectors, list(there), model.class_center.float().cpu(), text_model)
    if not model.class_center.any() and _of_another_name(word_bank.text_model, text_model):
        raise ValueError(
            f"The word bank comes from the text tower {word_bank.text_model!r}, but this checkpoint was trained with "
            f"{text_model!r}; give a bank of that tower."
        )
    return dict(zip(there, vectors, strict=True))


def _of_another_name(bank_model: str | None, text_model: str | None) -> bool:
    """`openai/clip-vit-base-patch16` and a local copy of it in a folder of that name are one tower."""
    if not bank_model or not text_model:
        return False
    return len({name.rstrip("/").rsplit("/", 1)[-1].casefold() for name in (bank_model, text_model)}) > 1


def _stored(model: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The checkpoint's own vectors of those names that it has."""
    stored = model.class_embeddings.detach().to("cpu", torch.float32)
    if not stored.any():  # a model that was never given classes
        return {}
    rows = {fold_name(name): row for row, name in enumerate(model.config.class_names)}
    return {name: stored[rows[fold_name(name)]] for name in names if fold_name(name) in rows}


def _from_tower(
    model: Any, words: list[str], word_bank: WordBank | None, tokenizer: CLIPTokenizer | None
) -> torch.Tensor:
    """What the text tower says about the words, (K, D): the one inside the checkpoint, or the one that it names."""
    config = model.config
    try:
        if model.text_model is not None:
            text_model = model.text_model
            tokenizer = tokenizer or CLIPTokenizer.from_pretrained(model.name_or_path)
        elif config.text_model_name_or_path:
            text_model, tokenizer = _text_tower(config.text_model_name_or_path)
        else:
            raise ValueError("`config.text_model_name_or_path` names none.")
        vectors = embed_class_names(words, text_model, tokenizer, config.prompt_templates).cpu()
        vectors = check_class_embeddings(vectors, len(words), config.class_embed_dim)
        check_same_tower(vectors, words, model.class_center.float().cpu(), config.text_model_name_or_path)
    except (OSError, TypeError, ValueError) as error:
        own = config.class_names
        known = [*own, *(word_bank.names if word_bank else ())]
        raise ValueError(
            f"There is no vector for {_some(words)}: not in the checkpoint ({_some(own)})"
            f"{', nor in the word bank' if word_bank else ''}{_closest(words, known)}. The text tower could not be "
            f"used: {error} A word bank that has the words needs no tower."
        ) from error
    return vectors


@functools.lru_cache(maxsize=1)
def _text_tower(name_or_path: str) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    # No warning, but by default nothing quieter is shown, and the first time there are some hundred MB to fetch.
    logger.warning(f"Loading the text tower {name_or_path} for words that have no vector yet; once for this process.")
    return load_text_tower(name_or_path)


def _closest(words: Sequence[str], known: Sequence[str]) -> str:
    near = [match for word in words for match in difflib.get_close_matches(word, known, n=1)]
    return f" (did you mean {quoted(near)}?)" if near else ""


def _some(names: Sequence[str]) -> str:
    return quoted(names[:12]) + (f", ... {len(names)} in all" if len(names) > 12 else "")


__all__ = ["check_takes_classes", "find_class_embeddings", "warn_of_unfamiliar"]
