"""From class names to class embeddings: the rules for names and vectors, and the text tower."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

from .names_lclipseg import (
    FAMILIAR_COSINE,
    SHORTEST_CENTER,
    check_class_names,
    check_cosines,
    check_lengths,
    fold_name,
    quoted,
)

# Length, beside a unit vector, of what tells two classes apart whose words are partly the same.
NOISE = 0.3
# Published CLIP text towers have this id in their configuration; they read their vector at the highest token id of a
# sentence instead (`CLIPTextModel.forward`).
LEGACY_EOS_TOKEN_ID = 2


# -------------------------------------------------------------------------------------------------- names and vectors


def check_class_embeddings(embeddings: torch.Tensor, num_classes: int, embed_dim: int) -> torch.Tensor:
    """
    Check the vectors of a list of classes and bring them to unit length.

    Args:
        embeddings (`torch.Tensor` of shape `(num_classes, embed_dim)`): One vector per class, any length and dtype.
        num_classes (`int`): How many there must be.
        embed_dim (`int`): How wide they must be.

    Returns:
        `torch.Tensor` of shape `(num_classes, embed_dim)`: float32, rows of unit length, without gradient.

    Raises:
        ValueError: not a tensor of that shape, or a row that is zero or holds NaN or infinity.
    """
    vectors = unit_rows(embeddings)
    if len(vectors) != num_classes:
        raise ValueError(f"There are {len(vectors)} class embeddings for {num_classes} classes; give one for each.")
    if vectors.shape[1] != embed_dim:
        raise ValueError(
            f"The class embeddings are {vectors.shape[1]} wide, expected {embed_dim}; are they from another text "
            "tower than the model's?"
        )
    return vectors


def check_prompt_templates(prompt_templates: Sequence[str]) -> list[str]:
    """Check prompt templates such as `"a photo of a {}"`: a ValueError unless each has `{}`, once, for the name."""
    if isinstance(prompt_templates, str):
        raise ValueError(f"Prompt templates must be a list, got the one string {prompt_templates!r}.")
    templates = list(prompt_templates)
    wrong = [template for template in templates if template.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(
            f"Prompt templates must hold {{}} once, for example 'a photo of a {{}}'; got {quoted(wrong) or 'none'}."
        )
    return templates


def check_same_tower(vectors: torch.Tensor, names: Sequence[str], center: torch.Tensor, text_model: str | None):
    """
    Check that vectors come from the text tower that a model was trained with. The vectors of a tower share a common
    direction, and a checkpoint stores its tower's (`class_center`). That direction identifies the tower; names of
    folders and files do not count. A model without a centre takes all vectors.

    Measured by scripts/bank_geometry.py on 360 words of ViT-B/16 and 1,585 of ViT-B/32: the cosine of a word with its
    own tower's direction is 0.68 to 0.95, with the other tower's -0.12 to 0.05.

    Args:
        vectors (`torch.Tensor` of shape `(num_classes, embed_dim)`): Of unit length.
        names (sequence of `str`): What the vectors stand for.
        center (`torch.Tensor` of shape `(embed_dim,)`): The model's `class_center`.
        text_model (`str`, *optional*): Name of the model's text tower, for the message.

    Raises:
        ValueError: the vectors are another tower's.
    """
    if center.norm() < SHORTEST_CENTER:
        return
    cosines = nn.functional.cosine_similarity(vectors, center.to(vectors), dim=1)
    check_cosines(cosines.tolist(), names, text_model)


def project_onto_known(vectors: torch.Tensor, known: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """
    Vectors for new words that differ from the common direction only as the known words do.

    A network's response to a direction that none of its training words had is as random as its first weights. This
    function therefore keeps only that part of a new word's difference to the centre which lies in the span of the
    known words' differences. The word becomes a mixture of known words, and a known word stays as it is.

    Args:
        vectors (`torch.Tensor` of shape `(num_classes, embed_dim)`): CLIP text vectors of the new words.
        known (`torch.Tensor` of shape `(num_known, embed_dim)`): Those of the words that the network was trained with.
        center (`torch.Tensor` of shape `(embed_dim,)`): The model's `class_center`, shorter than 1.

    Returns:
        `torch.Tensor` of shape `(num_classes, embed_dim)`: float32, of unit length. The model takes it
        like any other vectors.
    """
    center = center.float()
    new, taught = (_centred(rows, center) for rows in (vectors, known))
    basis = torch.linalg.qr(taught.T).Q  # (D, num_known)
    inside = nn.functional.normalize(new @ basis @ basis.T, dim=1)
    # The model subtracts the centre again: `inside` is how far it must lie from the centre to be of unit length.
    along = inside @ center
    distance = (along.square() + 1 - center.square().sum()).sqrt() - along
    return center + distance[:, None] * inside


def nearest_known(
    vectors: torch.Tensor, known: torch.Tensor, center: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Find the known word that each new word is most like, by their cosine with the common direction left out. A network
    gives pixels at random to words below `FAMILIAR_COSINE` to all that it knows.

    Measured by scripts/other_words.py on CamVid with another word for every class at once: words at 0.26 to 0.92 keep
    most of the score, unrelated ones (-0.01 to 0.26) nothing. Among 36 garments near words keep half.

    Args:
        vectors (`torch.Tensor` of shape `(num_classes, embed_dim)`): CLIP text vectors of the new words.
        known (`torch.Tensor` of shape `(num_known, embed_dim)`): Those of the words that the network was trained with.
        center (`torch.Tensor` of shape `(embed_dim,)`): The model's `class_center`.

    Returns:
        Cosines and rows of `known`, two tensors of shape `(num_classes,)`.
    """
    nearest = (_centred(vectors, center) @ _centred(known, center).T).max(dim=1)
    return nearest.values, nearest.indices


def initial_class_embeddings(
    prompts: Sequence[Sequence[str]],
    lookup: Callable[[Sequence[str]], Mapping[str, torch.Tensor]],
    common: torch.Tensor,
    seed: int = 0,
) -> tuple[torch.Tensor, list[int]]:
    """
    A vector for every class, to train with: the mean direction of those of its words that have one. A class without
    any begins at the known words inside its name, shaken ("left mirror" beside "mirror"), or in a random direction.

    Args:
        prompts (sequence of lists of `str`): The words of every class.
        lookup (`Callable`): Gives those of some words that have a vector, by the word.
        common (`torch.Tensor` of shape `(num_words, class_embed_dim)`): Vectors of many words, among which a random
            direction is typical.
        seed (`int`, *optional*, defaults to 0): Seed of what is random.

    Returns:
        The vectors, a `torch.Tensor` of shape `(num_classes, class_embed_dim)`, and the indices of the classes that
        have no word with a vector.
    """
    words = list(dict.fromkeys(word for of_class in prompts for word in of_class))
    parts = list(dict.fromkeys(part for word in words for part in word.split()))
    known = lookup([*words, *(part for part in parts if part not in words)])
    generator = torch.Generator().manual_seed(seed)
    vectors, unknown = [], []
    for index, of_class in enumerate(prompts):
        found = [known[word] for word in of_class if word in known]
        if not found:
            unknown.append(index)
            inside = [known[part] for word in of_class for part in word.split() if part in known]
            found = [_begin(inside, common, generator)]
        vectors.append(mean_direction(found))
    return torch.stack(vectors), unknown


def mean_direction(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The unit vector (D) between several (D) of any length; a single one as it is."""
    if len(vectors) == 1:
        return vectors[0]
    return nn.functional.normalize(nn.functional.normalize(torch.stack(list(vectors)), dim=-1).mean(0), dim=-1)


def by_word(words: Sequence[str], vectors: torch.Tensor) -> Callable[[Sequence[str]], dict[str, torch.Tensor]]:
    """A lookup in vectors (N, D) of words (N); case and the amount of white space do not matter."""
    rows = {fold_name(word): vector for word, vector in zip(words, vectors, strict=True)}
    return lambda asked: {word: rows[fold_name(word)] for word in asked if fold_name(word) in rows}


def _begin(inside: Sequence[torch.Tensor], common: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = nn.functional.normalize(torch.randn(common.shape[1], generator=generator), dim=0)
    if inside:
        return nn.functional.normalize(mean_direction(inside) + NOISE * drawn, dim=0)
    center = nn.functional.normalize(common, dim=-1).mean(0)
    spread = (nn.functional.normalize(common, dim=-1) - center).norm(dim=-1).mean()
    return nn.functional.normalize(center + spread * drawn, dim=0)


def _centred(rows: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(unit_rows(rows) - center.float(), dim=1)


def unit_rows(embeddings: torch.Tensor) -> torch.Tensor:
    """`embeddings` (n, D) in float32 and at unit length; a ValueError if a row is zero or not finite."""
    if not isinstance(embeddings, torch.Tensor) or embeddings.ndim != 2:
        given = tuple(embeddings.shape) if isinstance(embeddings, torch.Tensor) else type(embeddings).__name__
        raise ValueError(f"Class embeddings must be a tensor of shape (num_classes, embed_dim), got {given}.")
    embeddings = embeddings.detach().to(torch.float32)
    lengths = embeddings.norm(dim=1)
    check_lengths(lengths.tolist())
    return nn.functional.normalize(embeddings, dim=1)


# ------------------------------------------------------------------------------------------------------ the text tower


def load_text_tower(name_or_path: str) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    """
    Load a CLIP text tower and its tokenizer.

    Args:
        name_or_path (`str`): A name on the Hub or a local folder, of a text tower or of a whole CLIP model.

    Returns:
        `CLIPTextModelWithProjection` in float32 and evaluation mode, and its `CLIPTokenizer`.

    Raises:
        ValueError: it cannot be loaded, or is not a text tower with projection and vocabulary. What is missing in a
            folder, transformers itself would fill with random weights and an empty vocabulary, without an error.
    """
    allowed = "Give a name on the Hub, for example 'openai/clip-vit-base-patch16', or a local folder of a CLIP model."
    verbosity = logging.get_verbosity()
    # transformers would report on a page that the image tower of a whole CLIP model is not loaded.
    logging.set_verbosity_error()
    try:
        loaded: Any = CLIPTextModelWithProjection.from_pretrained(
            name_or_path, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = CLIPTokenizer.from_pretrained(name_or_path)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ValueError(f"The text tower {name_or_path!r} cannot be loaded: {error} {allowed}") from error
    finally:
        logging.set_verbosity(verbosity)
    text_model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ValueError(f"{name_or_path!r} is no CLIP text tower with projection: it lacks {missing[0]}. {allowed}")
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ValueError(f"{name_or_path!r} has no tokenizer files with a vocabulary (tokenizer.json). {allowed}")
    return text_model, tokenizer


def embed_class_names(
    names: Sequence[str],
    text_model: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    prompt_templates: Sequence[str],
) -> torch.Tensor:
    """
    Embed class names with a CLIP text tower: the mean over the templates of their unit vectors, at unit length again.

    Args:
        names (sequence of `str`): The class names.
        text_model (`CLIPTextModelWithProjection`), tokenizer (`CLIPTokenizer`): The tower and its tokenizer.
        prompt_templates (sequence of `str`): Sentences with `{}` in the place of the name.

    Returns:
        `torch.Tensor` of shape `(num_classes, projection_dim)`: float32, rows of unit length, on the tower's device.

    Raises:
        ValueError: bad names or templates, a prompt longer than the tower reads, or a tokenizer of another tower.
    """
    names = check_class_names(names)
    templates = check_prompt_templates(prompt_templates)
    _check_tokenizer_fits(tokenizer, text_model)
    was_training = text_model.training
    text_model.eval()
    try:
        with torch.no_grad():
            sentences = [[template.replace("{}", name) for name in names] for template in templates]
            per_template = [_embed_prompts(prompts, text_model, tokenizer) for prompts in sentences]
    finally:
        text_model.train(was_training)
    return unit_rows(torch.stack(per_template).mean(dim=0))


def _embed_prompts(
    prompts: list[str], text_model: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer
) -> torch.Tensor:
    tokens = tokenizer(prompts, verbose=False)  # no warning about length: the error below says more
    limit = min(tokenizer.model_max_length, text_model.config.max_position_embeddings)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    if max(lengths) > limit:
        longest = lengths.index(max(lengths))
        raise ValueError(
            f"The prompt {prompts[longest]!r} has {lengths[longest]} tokens and the text tower reads {limit}; shorten "
            "the class name or the template."
        )
    padded = tokenizer.pad(tokens, return_tensors="pt").to(text_model.device)
    text_embeds = text_model(**padded).text_embeds.float()  # (K, D)
    return nn.functional.normalize(text_embeds, dim=-1)


def _check_tokenizer_fits(tokenizer: CLIPTokenizer, text_model: CLIPTextModelWithProjection) -> None:
    config, eos_token_id = text_model.config, tokenizer.eos_token_id
    highest = max(tokenizer.get_vocab().values())
    read_at = highest if config.eos_token_id == LEGACY_EOS_TOKEN_ID else config.eos_token_id
    # A tower that does not find its end token reads every sentence at the first token, which is the same for all.
    if highest >= config.vocab_size or eos_token_id != read_at:
        raise ValueError(
            f"The tokenizer is not this text tower's: its token ids go up to {highest} and its sentences end with "
            f"{eos_token_id}; the tower has ids up to {config.vocab_size - 1} and reads its vector at {read_at}."
        )


__all__ = [
    "FAMILIAR_COSINE",
    "check_class_embeddings",
    "check_class_names",
    "check_prompt_templates",
    "check_same_tower",
    "embed_class_names",
    "fold_name",
    "load_text_tower",
    "nearest_known",
    "project_onto_known",
    "quoted",
    "unit_rows",
]
