"""Class embeddings for the commands: what the model package finds, with a word bank that is named by its file."""

from collections.abc import Sequence
from typing import Any

import torch

from lclipseg.console.errors import InputError
from lclipseg.networks.exported import OnnxModel
from modeling_lclipseg import WordBank, find_class_embeddings


def resolve_class_embeddings(
    model: Any, names: Sequence[str], prompts: Sequence[str] | None = None, bank: str | None = None
) -> torch.Tensor:
    """
    The vector of every class, as [`find_class_embeddings`] finds it.

    Args:
        model ([`LClipSegForSemanticSegmentation`] or [`OnnxModel`]): with an open vocabulary; it is not changed.
        names (sequence of `str`): the class names; case does not matter.
        prompts (sequence of `str`, *optional*): the words that stand for the classes in the bank and the tower; the
            names themselves by default.
        bank (`str`, *optional*): `FILE.safetensors` or `FILE.safetensors#key`, see [`WordBank`].

    Returns:
        `torch.Tensor` of shape `(num_classes, class_embed_dim)`: float32, on the CPU.

    Raises:
        InputError: a closed or baked vocabulary, bad names, a bank that cannot be read or is another tower's, or a
            name without a vector.
    """
    if isinstance(model, OnnxModel):
        model.check_open()
    try:
        return find_class_embeddings(model, names, prompts, None if bank is None else WordBank.load(bank))
    except ValueError as error:
        where = f" (--bank {bank})" if bank is not None else " (a word bank is given by --bank FILE.safetensors#KEY)"
        raise InputError(f"{error}{where}") from error
