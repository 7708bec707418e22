"""Class embeddings made harder in training, so that words not seen there transfer better."""

from typing import Any

import torch
from torch import nn

from lclipseg.console.errors import InputError
from modeling_lclipseg import LClipSegForSemanticSegmentation


class VectorAugmentation:
    """
    In every training step, shaken class embeddings, and other words that compete with the classes.

    Noise keeps the network from tying a class to one exact direction. Other words, drawn anew in each step, are never
    right: they take the room around the classes that none of them should fill. A validation sees neither.

    Args:
        noise (`float`): Length of the random vector that is added to every unit class embedding, 0 for none.
        num_words (`int`): Number of other words a step, 0 for none.
        words (`torch.Tensor` of shape `(num_words_in_all, class_embed_dim)`): Vectors to draw them from, without those
            of any class, seen or unseen.
    """

    def __init__(self, noise: float, num_words: int, words: torch.Tensor):
        if noise < 0 or num_words < 0:
            raise InputError(f"--vector_noise {noise} and --negative_words {num_words} must not be below 0")
        if num_words > len(words):
            raise InputError(f"--negative_words is {num_words}, but there are only {len(words)} other words")
        self.noise, self.num_words, self.words = noise, num_words, words

    def attach(self, model: LClipSegForSemanticSegmentation) -> None:
        """Work on every forward pass of `model` in training mode from now on."""
        model.register_forward_pre_hook(self._add_vectors, with_kwargs=True)

    def _add_vectors(self, model: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
        if not model.training:
            return None
        vectors = nn.functional.normalize(model.class_embeddings, dim=-1)
        if self.noise:
            vectors = vectors + self.noise * nn.functional.normalize(torch.randn_like(vectors), dim=-1)
        drawn = torch.randperm(len(self.words))[: self.num_words]
        return args, {**kwargs, "class_embeddings": torch.cat([vectors, self.words[drawn].to(vectors)])}
