"""The class embeddings that a run begins with: from a word bank, a checkpoint's own classes, or CLIP's text tower."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.networks import build
from lclipseg.networks.build import ClassEmbeddings
from lclipseg.networks.class_embeddings import EVERYDAY_WORDS, everyday_bank, everyday_words
from lclipseg.networks.words import initial_vectors
from lclipseg.training.ablations import control_vectors
from lclipseg.training.arguments import ModelArguments
from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import by_word, check_same_tower, fold_name


@dataclass(frozen=True)
class FoundVectors:
    """
    Args:
        learned (sequence of `int`): The classes whose vectors training changes.
        bank (`dict`, *optional*): The file of the word bank that vectors were looked up in, and its SHA-256.
    """

    learned: Sequence[int] = ()
    bank: Mapping[str, str] | None = None


def vectors_for_preset(
    arguments: ModelArguments, config: LClipSegConfig, classes: ClassList, seed: int
) -> tuple[ClassEmbeddings, FoundVectors]:
    """
    The vectors of `--bank`; without one, those of the words that ship here, if they are of the preset's text tower and
    hold all words of the classes, else those of the tower. What `--bank` lacks is learned.

    Raises:
        [`InputError`]: a bank or a tower that cannot be used.
    """
    bank = _bank_for_preset(arguments, config, classes)
    learned: Sequence[int] = ()
    if bank is not None:
        found = initial_vectors(classes, by_word(bank.names, bank.embeddings), bank.embeddings, seed)
        learned = found.learned
        tower = bank.text_model or arguments.text_model
        vectors = ClassEmbeddings(found.vectors, bank.embeddings, tower, bank.prompt_templates)
    else:
        text_model = arguments.text_model or config.text_model_name_or_path
        vectors = build.vectors_from_tower(classes, str(text_model), config.prompt_templates)
    vectors = control_vectors(vectors.centred_by(arguments.center), arguments.vectors, seed)
    learned = range(len(classes.names)) if arguments.vectors == "learned" else learned
    return vectors, FoundVectors(learned, None if bank is None else _record(arguments.bank))


def vectors_for_checkpoint(
    arguments: ModelArguments, trained: LClipSegForSemanticSegmentation, classes: ClassList, seed: int
) -> tuple[torch.Tensor, FoundVectors]:
    """
    The vectors (K, D) of the classes, of unit length. Those of `--bank` come before the checkpoint's own, which come
    before those of the words that ship here. A class none of whose words is found is looked for by its name among the
    checkpoint's classes, and learned if it is not there either.

    Raises:
        [`InputError`]: a checkpoint without text, or a bank that cannot be read or is another text tower's.
    """
    if not trained.head.takes_text:
        raise InputError(
            f"--start_from {arguments.start_from} has guidance 'none', and thus no text space to put classes into; "
            "start from a text-guided checkpoint, or train it on as --guidance none"
        )
    names, vectors = trained.trained_classes()
    names = [*trained.config.class_names, *names]
    vectors = common = torch.cat([trained.class_embeddings.detach().float(), vectors])
    own = first = set(map(fold_name, names))
    bank = _shipped_bank(arguments, trained) if arguments.bank is None else _given_bank(arguments, trained)
    if bank is not None:  # of a word in both what comes last counts; the bank that ships has none of the own ones
        names, vectors = [*names, *bank.names], torch.cat([vectors, bank.embeddings])
        common = bank.embeddings
        first = own if arguments.bank is None else set(map(fold_name, names))
    words = [_words(*of_class, first, own) for of_class in zip(classes.names, classes.prompts, strict=True)]
    found = initial_vectors(replace(classes, prompts=tuple(words)), by_word(names, vectors), common, seed)
    given = ClassEmbeddings(found.vectors, None, None, ())
    controlled = control_vectors(given, arguments.vectors, seed).classes
    learned = range(len(classes.names)) if arguments.vectors == "learned" else found.learned
    return controlled, FoundVectors(learned, None if bank is None else _record(arguments.bank))


def _words(name: str, words: Sequence[str], first: set[str], own: set[str]) -> tuple[str, ...]:
    """
    The words by which a class is looked up: those in `first`; else its name, if that is one of the checkpoint's `own`,
    whose vector the network knows whatever its words were; else all of them.
    """
    known = tuple(word for word in words if fold_name(word) in first)
    return known or ((name,) if fold_name(name) in own else tuple(words))


def _bank_for_preset(arguments: ModelArguments, config: LClipSegConfig, classes: ClassList) -> WordBank | None:
    if arguments.bank is not None:
        return build.load_bank(arguments.bank, arguments.text_model)
    shipped = everyday_bank(config) if arguments.text_model is None else None
    if shipped is None:
        return None
    has = {fold_name(word) for word in shipped.names}
    return shipped if all(fold_name(word) in has for words in classes.prompts for word in words) else None


def _given_bank(arguments: ModelArguments, trained: LClipSegForSemanticSegmentation) -> WordBank:
    bank = build.load_bank(str(arguments.bank), arguments.text_model)
    width = trained.config.class_embed_dim
    if bank.embeddings.shape[1] != width:
        raise InputError(
            f"--bank {arguments.bank} has vectors of width {bank.embeddings.shape[1]}, but --start_from "
            f"{arguments.start_from} takes {width}; give a bank of its text tower"
        )
    try:
        _check_tower(bank, trained)
    except ValueError as error:
        raise InputError(f"--bank {arguments.bank}, --start_from {arguments.start_from}: {error}") from error
    return bank


def _shipped_bank(arguments: ModelArguments, trained: LClipSegForSemanticSegmentation) -> WordBank | None:
    """The words that ship here, if both the name and the vectors of the checkpoint's text tower are theirs."""
    bank = everyday_words(trained) if arguments.text_model is None else None
    try:
        if bank is not None:
            _check_tower(bank, trained)
    except ValueError:
        return None
    return bank


def _check_tower(bank: WordBank, trained: LClipSegForSemanticSegmentation) -> None:
    check_same_tower(bank.embeddings, bank.names, trained.class_center, trained.config.text_model_name_or_path)


def _record(given: str | None) -> dict[str, str]:
    """Of `--bank`, or of the bank that ships here."""
    path = EVERYDAY_WORDS if given is None else Path(given.partition("#")[0])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": path.name if given is None else given, "sha256": digest}
