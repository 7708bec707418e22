"""From a preset, a class list and class embeddings to a model and an image processor ready for training."""

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError

from lclipseg.console.errors import InputError
from lclipseg.console.hub import reach_hub
from lclipseg.console.paths import configuration
from lclipseg.data.class_list import ClassList
from lclipseg.networks.backbones import load_backbone_weights
from lclipseg.networks.presets import Preset
from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation, LClipSegImageProcessor, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import embed_class_names, load_text_tower, mean_direction

logger = logging.getLogger("lclipseg")

# Everyday words whose mean vector stands for what all of CLIP's text vectors have in common.
COMMON_WORDS = configuration("common_words.txt")


@dataclass(frozen=True)
class ClassEmbeddings:
    """
    Where a model's text side starts.

    Args:
        classes (`torch.Tensor` of shape `(num_classes, class_embed_dim)`): One vector per class.
        words (`torch.Tensor` of shape `(num_words, class_embed_dim)`, *optional*): Vectors of many words of the same
            tower, whose mean is the centre that the model subtracts; without them it subtracts nothing.
        text_model (`str`, *optional*): The tower's name, where it is known.
        prompt_templates (`tuple[str, ...]`): The sentences that the words were put into; empty where unknown.
    """

    classes: torch.Tensor
    words: torch.Tensor | None
    text_model: str | None
    prompt_templates: tuple[str, ...]

    def centred_by(self, center: str) -> "ClassEmbeddings":
        """The same with another centre: the mean of `"words"`, of the `"classes"` themselves, or `"none"`."""
        choices = {"words": self.words, "classes": self.classes, "none": None}
        if center not in choices:
            raise InputError(f"--center is {center!r}; allowed: {', '.join(choices)}.")
        return replace(self, words=choices[center])


def load_bank(source: str, text_model: str | None) -> WordBank:
    """
    Open a word bank (`FILE.safetensors` or `FILE.safetensors#key`). `text_model` names the tower that made it, for
    banks that do not say so themselves.

    Raises:
        [`InputError`]: it cannot be read, or says that another tower made it.
    """
    try:
        bank = WordBank.load(source)
    except ValueError as error:
        raise InputError(str(error)) from error
    if bank.text_model is not None and text_model not in (None, bank.text_model):
        raise InputError(
            f"word bank {source} was made with {bank.text_model!r}, but --text_model says {text_model!r}; leave that "
            "out."
        )
    if bank.text_model is None and text_model is None:
        logger.warning(
            f"word bank {source} does not say which text tower made it, so that the model will refuse words without a "
            "vector; name the tower by --text_model if you know it"
        )
    return bank


def vectors_from_tower(classes: ClassList, text_model: str, prompt_templates: Sequence[str]) -> ClassEmbeddings:
    """Put the classes' words, and the common words, through a CLIP text tower (Hub name or folder)."""
    words = COMMON_WORDS.read_text(encoding="utf-8").split("\n")
    try:
        reach_hub(text_model)
        tower, tokenizer = load_text_tower(text_model)
        return ClassEmbeddings(
            embed_classes(classes, lambda words: embed_class_names(words, tower, tokenizer, prompt_templates)),
            embed_class_names([word for word in words if word], tower, tokenizer, prompt_templates),
            text_model,
            tuple(prompt_templates),
        )
    except ValueError as error:
        raise InputError(
            f"{error} Without it: vectors from a word bank (--bank FILE.safetensors), or a model without text "
            "(--guidance none)."
        ) from error


def embed_classes(classes: ClassList, embed: Callable[[Sequence[str]], torch.Tensor]) -> torch.Tensor:
    """
    The embedding (K, D) of every class: of its word, or the mean direction of its words.

    Args:
        classes ([`ClassList`]): The classes.
        embed (`Callable`): Gives different words (N) their vectors (N, D).
    """
    words = list(dict.fromkeys(word for prompts in classes.prompts for word in prompts))
    vectors = dict(zip(words, embed(words), strict=True))
    return torch.stack([mean_direction([vectors[word] for word in prompts]) for prompts in classes.prompts])


def build_model(
    preset: Preset,
    config: Mapping[str, Any],
    classes: ClassList,
    vectors: ClassEmbeddings | None,
    backbone_weights: str,
) -> LClipSegForSemanticSegmentation:
    """
    A model for `classes`.

    Args:
        preset ([`Preset`]): Backbone and sizes.
        config (`dict`): Fields of [`LClipSegConfig`] over the preset's own, such as `guidance`.
        classes ([`ClassList`]): The classes, in the order of their ids.
        vectors ([`ClassEmbeddings`], *optional*): Their vectors and centre; none for a guidance without text.
        backbone_weights (`str`): File or Hub name of the backbone's weights, or `"none"` for random ones.
    """
    overrides: dict[str, Any] = {**config, "id2label": classes.id2label}
    if vectors is not None:
        overrides["class_embed_dim"] = vectors.classes.shape[1]
        overrides["text_model_name_or_path"] = vectors.text_model
        if vectors.prompt_templates:
            overrides["prompt_templates"] = vectors.prompt_templates
    try:
        model = LClipSegForSemanticSegmentation(preset.build_config(**overrides))
    except (ValueError, RuntimeError, StrictDataclassError) as error:  # timm: RuntimeError for a name it does not know
        raise InputError(f"the model of preset {preset.name!r} cannot be built: {error}") from error
    if backbone_weights != "none":
        load_backbone_weights(model, backbone_weights)
    if vectors is not None:
        if vectors.words is not None:
            model.set_class_center(vectors.words)
        model.set_classes(classes.names, vectors.classes)
    return model


def build_image_processor(preset: Preset, shortest_edge: int | None) -> LClipSegImageProcessor:
    """
    The processor for a preset: its backbone's normalisation; images resized to `shortest_edge`, or kept. A backbone
    that is built for one size (`img_size`) gets images that fit into it, padded to it.
    """
    mean, std = list(preset.image_mean), list(preset.image_std)
    if preset.image_size is not None:
        side = preset.image_size
        pad_size = {"height": side, "width": side}
        return LClipSegImageProcessor(size={"longest_edge": side}, pad_size=pad_size, image_mean=mean, image_std=std)
    if shortest_edge is None:
        return LClipSegImageProcessor(do_resize=False, image_mean=mean, image_std=std)
    return LClipSegImageProcessor(size=_edges(shortest_edge), image_mean=mean, image_std=std)


def with_shortest_edge(processor: LClipSegImageProcessor, shortest_edge: int) -> LClipSegImageProcessor:
    """The processor with another shorter side in pixels; 0 keeps the size of images.

    Raises:
        [`InputError`]: it pads to one size, which its backbone is built for.
    """
    if processor.pad_size is not None:
        height, width = processor.pad_size["height"], processor.pad_size["width"]
        raise InputError(f"--shortest_edge {shortest_edge}: this network is built for {height} x {width} pixels alone")
    options = {"do_resize": True, "size": _edges(shortest_edge)} if shortest_edge else {"do_resize": False}
    return type(processor)(**{**processor.to_dict(), **options})


def _edges(shortest_edge: int) -> dict[str, int]:
    return {"shortest_edge": shortest_edge, "longest_edge": 4 * shortest_edge}


def config_fields(settings: Sequence[str]) -> dict[str, Any]:
    """`["hidden_size=64"]` as fields of [`LClipSegConfig`], which checks them."""
    fields: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in LClipSegConfig.__dataclass_fields__:
            near = difflib.get_close_matches(name, LClipSegConfig.__dataclass_fields__, n=3, cutoff=0.4)
            raise InputError(f"--config {setting}: write FIELD=VALUE with a field of LClipSegConfig, such as {near}.")
        fields[name] = yaml.safe_load(value)
    return fields
