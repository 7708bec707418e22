"""Vectors for the words of a class list, from what is at hand; what has none begins as a vector to be learned."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from lclipseg.data.class_list import ClassList
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

logger = logging.getLogger("lclipseg")

Lookup = Callable[[Sequence[str]], Mapping[str, torch.Tensor]]
NOISE = 0.3  # length, beside a unit vector, of what tells two classes apart whose words are partly the same


@dataclass(frozen=True)
class InitialVectors:
    """
    Args:
        vectors (`torch.Tensor` of shape `(num_classes, class_embed_dim)`): Unit vectors, one a class.
        learned (`tuple[int, ...]`): The classes that have no word with a vector.
    """

    vectors: torch.Tensor
    learned: tuple[int, ...]


def initial_vectors(classes: ClassList, lookup: Lookup, common: torch.Tensor, seed: int) -> InitialVectors:
    """
    The vector of every class: the mean direction of those of its words that have one. A class without any begins at
    the known words inside its name, shaken ("left mirror" beside "mirror"), or in a random direction.

    Args:
        classes ([`ClassList`]): The classes.
        lookup (`Callable`): Gives those of some words that have a vector, by the word.
        common (`torch.Tensor` of shape `(num_words, class_embed_dim)`): Vectors of many words, among which a random
            direction is typical.
        seed (`int`): Seed of what is random.
    """
    words = list(dict.fromkeys(word for prompts in classes.prompts for word in prompts))
    parts = list(dict.fromkeys(part for word in words for part in word.split()))
    known = lookup([*words, *(part for part in parts if part not in words)])
    generator = torch.Generator().manual_seed(seed)
    vectors, learned = [], []
    for index, prompts in enumerate(classes.prompts):
        found = [known[word] for word in prompts if word in known]
        if not found:
            learned.append(index)
            inside = [known[part] for word in prompts for part in word.split() if part in known]
            found = [_begin(inside, common, generator)]
        vectors.append(mean_direction(found))
    if learned:
        names = ", ".join(repr(classes.names[index]) for index in learned)
        logger.warning(f"no vector is known for {names}: learned in training, and stored with the checkpoint")
    return InitialVectors(torch.stack(vectors), tuple(learned))


def mean_direction(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The unit vector (D) between several (D) of any length; a single one as it is."""
    if len(vectors) == 1:
        return vectors[0]
    return functional.normalize(functional.normalize(torch.stack(list(vectors)), dim=-1).mean(0), dim=-1)


def by_word(words: Sequence[str], vectors: torch.Tensor) -> Lookup:
    """A lookup in vectors (N, D) of words (N); case and the amount of white space do not matter."""
    rows = {fold_name(word): vector for word, vector in zip(words, vectors, strict=True)}
    return lambda asked: {word: rows[fold_name(word)] for word in asked if fold_name(word) in rows}


def _begin(inside: Sequence[torch.Tensor], common: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = functional.normalize(torch.randn(common.shape[1], generator=generator), dim=0)
    if inside:
        return functional.normalize(mean_direction(inside) + NOISE * drawn, dim=0)
    center = functional.normalize(common, dim=-1).mean(0)
    spread = (functional.normalize(common, dim=-1) - center).norm(dim=-1).mean()
    return functional.normalize(center + spread * drawn, dim=0)
