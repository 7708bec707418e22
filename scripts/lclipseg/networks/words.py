"""Vectors for the words of a class list, from what is at hand; what has none begins as a vector to be learned."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lclipseg.data.class_list import ClassList
from modeling_lclipseg.class_embeddings_lclipseg import initial_class_embeddings, quoted

logger = logging.getLogger("lclipseg")

Lookup = Callable[[Sequence[str]], Mapping[str, torch.Tensor]]


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
    """The vector of every class of a list; see [`initial_class_embeddings`]. A warning names those without one."""
    vectors, unknown = initial_class_embeddings(classes.prompts, lookup, common, seed)
    if unknown:
        names = quoted(classes.names[index] for index in unknown)
        logger.warning(f"no vector is known for {names}: learned in training, and stored with the checkpoint")
    return InitialVectors(vectors, tuple(unknown))
