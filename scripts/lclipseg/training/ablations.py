"""What a comparison takes away: a part of the fusion module, or the meaning of the class embeddings.

A part is taken away by holding the weights through which it acts at zero. The network, its files and its cost stay
those of the whole module, and a checkpoint of an ablated run loads like any other.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lclipseg.console.errors import InputError
from lclipseg.networks.build import ClassEmbeddings
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.heads_lclipseg import LClipSegFusionHead

VECTORS = ("clip", "shuffled", "random", "learned")


def _hold_at_zero(*modules_or_parameters: nn.Module | nn.Parameter) -> None:
    for item in modules_or_parameters:
        for parameter in [item] if isinstance(item, nn.Parameter) else item.parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)


def _without_image_to_text(head: Any) -> None:
    for layer in head.fusion.layers:
        _hold_at_zero(layer.image_to_text.output)


def _without_text_to_image(head: Any) -> None:
    for layer in head.fusion.layers:
        _hold_at_zero(layer.text_to_image.value)


def _without_image_branch(head: Any) -> None:
    for layer in head.fusion.layers:
        _hold_at_zero(layer.image_branch[-1])


def _without_text_branch(head: Any) -> None:
    for layer in head.fusion.layers:
        _hold_at_zero(layer.text_branch.attention.output, layer.text_branch.feed_forward[-1])


def _without_bridge(head: Any) -> None:
    _without_image_to_text(head)
    _without_text_to_image(head)


def _without_presence(head: Any) -> None:
    _hold_at_zero(head.presence)


def _undisturbed(head: Any) -> None:
    for module in (head.token_projection, *(layer.text_to_image.value for layer in head.fusion.layers)):
        nn.init.zeros_(module.weight)


ABLATIONS: dict[str, Callable[[Any], None]] = {
    "image_to_text": _without_image_to_text,
    "text_to_image": _without_text_to_image,
    "image_branch": _without_image_branch,
    "text_branch": _without_text_branch,
    "bridge": _without_bridge,  # both directions
    "presence": _without_presence,
    "undisturbed": _undisturbed,  # nothing taken away: what the bridge gives both sides begins at zero, and is learned
}


def ablate(model: LClipSegForSemanticSegmentation, part: str) -> None:
    """
    Take a part of the fusion module away, for good.

    Raises:
        [`InputError`]: there is no such part, or the model has no two-way block that it is of.
    """
    if part not in ABLATIONS:
        raise InputError(f"--ablation is {part!r}; allowed: {', '.join(ABLATIONS)}")
    if not isinstance(model.head, LClipSegFusionHead):
        raise InputError(f"--ablation {part} needs --guidance fusion, not {model.config.guidance!r}")
    if part != "presence" and not len(model.head.fusion.layers):
        raise InputError(f"--ablation {part} needs a two-way block: add --config num_fusion_layers=1")
    ABLATIONS[part](model.head)


def control_vectors(vectors: ClassEmbeddings, kind: str, seed: int) -> ClassEmbeddings:
    """
    Class embeddings without CLIP's meaning, to see what the meaning is worth.

    Args:
        vectors ([`ClassEmbeddings`]): The right ones.
        kind (`str`): `"clip"`: these. `"shuffled"`: every class gets the vector of another one. `"random"` and
            `"learned"`: random unit vectors, and nothing subtracted from them; `"learned"` ones are changed by
            training (`learn_class_embeddings`).
        seed (`int`): Seed of what is random.

    Raises:
        [`InputError`]: there is no such kind, or a single class to shuffle.
    """
    if kind not in VECTORS:
        raise InputError(f"--vectors is {kind!r}; allowed: {', '.join(VECTORS)}")
    if kind == "clip":
        return vectors
    generator = torch.Generator().manual_seed(seed)
    if kind == "shuffled":
        return replace(vectors, classes=vectors.classes[_all_moved(len(vectors.classes), generator)])
    drawn = torch.randn(vectors.classes.shape, generator=generator)
    return replace(vectors, classes=nn.functional.normalize(drawn, dim=-1), words=None)


def _all_moved(count: int, generator: torch.Generator) -> torch.Tensor:
    """A permutation that leaves nothing in its place: a random cycle through all."""
    if count < 2:
        raise InputError("--vectors shuffled needs at least two classes")
    order = torch.randperm(count, generator=generator)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved
