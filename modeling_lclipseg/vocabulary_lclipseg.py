"""The class list of a model: where class embeddings come from, and what the model was trained on."""

import functools
import os
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging

from .class_embeddings_lclipseg import (
    by_word,
    check_class_embeddings,
    check_same_tower,
    embed_class_names,
    initial_class_embeddings,
    load_text_tower,
    mean_direction,
    nearest_known,
)
from .names_lclipseg import (
    check_bank_tower,
    check_bank_width,
    check_class_names,
    closest,
    fold_name,
    quoted,
    some,
    unfamiliar,
)
from .word_bank_lclipseg import WordBank

logger = logging.get_logger(__name__)

Prompts = Sequence[str | Sequence[str]]  # for every class its word, or its words


class LClipSegVocabulary:
    """
    What takes classes by their names: a checkpoint's model, or an exported graph.

    A model has two class lists. The present one is what it segments into: `config.class_names` and `class_embeddings`.
    The trained one is what its weights were taught: `config.trained_classes` and `trained_embeddings`. The trained
    list is `None` while it equals the present one, so a checkpoint stores it only where the two differ.
    """

    _named: list[str]  # the names that the embeddings, or the classifier's weights, are of
    config: Any  # an `LClipSegConfig`; its type is left to the class that this is mixed into
    class_embeddings: torch.Tensor  # (num_classes, class_embed_dim); zeros before the first `set_classes`
    class_center: torch.Tensor  # (class_embed_dim,)
    trained_embeddings: torch.Tensor | None  # (num_trained, class_embed_dim)
    text_model: CLIPTextModelWithProjection | None

    @property
    def open_vocabulary(self) -> bool:
        """Whether any list of classes is taken (`True`) or only the trained one (`False`)."""
        raise NotImplementedError

    def check_takes_classes(self, names: Sequence[str]) -> None:
        """Raise a ValueError where these classes, in this order, cannot be taken."""
        raise NotImplementedError

    def set_classes(
        self,
        names: Sequence[str],
        embeddings: torch.Tensor | WordBank | str | os.PathLike | None = None,
        prompts: Prompts | None = None,
        tokenizer: CLIPTokenizer | None = None,
    ) -> Self:
        """
        Replace the present classes: names, `config.id2label`, `config.label2id` and the stored embeddings together.
        The first list of a new model is its trained list, and later calls leave that as it is (see
        `remember_classes`). A warning names classes that are unlike all trained ones.

        Args:
            names (sequence of `str`): The class names, in the order of the class indices.
            embeddings, prompts, tokenizer: See `find_class_embeddings`.

        Returns:
            The model itself.

        Raises:
            ValueError: See `find_class_embeddings`.
        """
        vectors = self.find_class_embeddings(names, embeddings, prompts, tokenizer)
        names = check_class_names(names)
        self._keep_trained_classes()
        self._store(names, vectors)
        self._drop_trained_classes_if_present()
        self._warn_of_unfamiliar()
        return self

    def begin_classes(self, names: Sequence[str], known: tuple[Sequence[str], torch.Tensor] | None = None) -> Self:
        """
        Replace the present classes by some to train: as `set_classes`, but a class without a vector is taken. Its
        embedding begins at the classes inside its name ("left mirror" at "mirror"), else in a random direction, and is
        a weight that training changes. A warning names such classes. Nothing is downloaded.

        Args:
            names (sequence of `str`): The class names, in the order of the class indices.
            known (names and a `torch.Tensor` of shape `(num_known, class_embed_dim)`, *optional*): Where the names are
                looked up. By default among the present and the trained classes, and in a text tower inside the model.

        Returns:
            The model itself.

        Raises:
            ValueError: an empty list, blank or duplicate names; other classes for a head that is bound to its own.
        """
        names = check_class_names(names)
        self.check_takes_classes(names)
        words, vectors = self._known_words(names) if known is None else known
        if known is None:
            self._keep_trained_classes()
        if not len(vectors):  # never given classes
            self._store(names, self.class_embeddings.new_zeros(len(names), self.config.class_embed_dim))
            return self
        begun, unknown = initial_class_embeddings([[name] for name in names], by_word(words, vectors), vectors)
        self._store(names, begun)
        self._drop_trained_classes_if_present()
        if unknown:
            self.learn_class_embeddings(unknown)
            logger.warning(
                f"This checkpoint has no vector for {some([names[index] for index in unknown])}. Until training has "
                "learned one, such a class gets pixels at random. `set_classes(names, embeddings)` takes vectors of "
                "the text tower in their place."
            )
        return self

    def learn_class_embeddings(self, indices: Sequence[int]) -> Self:
        """
        Make class embeddings weights that training changes: those of the classes `indices`; the others stay. They are
        saved under the same name as before. Returns the model itself.
        """
        vectors = self.class_embeddings.detach().clone()
        del self.class_embeddings
        self.class_embeddings = nn.Parameter(vectors)
        moves = torch.zeros(len(vectors), 1)
        moves[list(indices)] = 1
        self.class_embeddings.register_hook(lambda gradient: gradient * moves.to(gradient))
        return self

    def find_class_embeddings(
        self,
        names: Sequence[str],
        embeddings: torch.Tensor | WordBank | str | os.PathLike | None = None,
        prompts: Prompts | None = None,
        tokenizer: CLIPTokenizer | None = None,
    ) -> torch.Tensor:
        """
        The embedding of every class; the model is not changed. Each word is looked up in the word bank, then among the
        present and the trained classes, and goes through the text tower if neither has it. The tower is the one inside
        the checkpoint, or that of `config.text_model_name_or_path`, which is loaded once a process. A class with
        several words gets the mean of their unit vectors, at unit length again.

        Args:
            names (sequence of `str`): The class names. Case and the amount of white space do not matter.
            embeddings (*optional*): The embeddings themselves, a `torch.Tensor` of shape `(num_classes,
                class_embed_dim)`; or vectors to look words up in, a [`WordBank`] or its path (`"bank.safetensors"` or
                `"bank.safetensors#key"`).
            prompts (sequence of `str` or of lists of `str`, *optional*): For every class the word, or the words, that
                stand for it. The names by default.
            tokenizer (`CLIPTokenizer`, *optional*): For a tower inside the checkpoint; the one beside it by default.

        Returns:
            `torch.Tensor` of shape `(num_classes, class_embed_dim)`: float32, rows of unit length, on the CPU.

        Raises:
            ValueError: an empty list, blank or duplicate names; prompts that do not fit the names; vectors of another
                count, width or text tower, or not finite; a word without a vector; other classes for a head that is
                bound to those it was trained on; a word bank that cannot be read.
        """
        names = check_class_names(names)
        self.check_takes_classes(names)
        if isinstance(embeddings, str | os.PathLike):
            embeddings = WordBank.load(embeddings)
        # Not by its type, because remote code has a WordBank of its own.
        word_bank: Any = embeddings if hasattr(embeddings, "lookup") else None
        if embeddings is None or word_bank is not None:
            vectors = self._looked_up(_checked_prompts(names, prompts), word_bank, tokenizer)
        elif prompts is not None:
            raise ValueError("`prompts` are words to look up, but `embeddings` are vectors; leave one of them out.")
        else:
            given: Any = embeddings
            vectors = check_class_embeddings(given, len(names), self.config.class_embed_dim).cpu()
        check_same_tower(vectors, names, self.class_center.float().cpu(), self.config.text_model_name_or_path)
        return vectors

    def remember_classes(self) -> Self:
        """Make the present classes the trained ones, as more training will. Returns the model itself."""
        self.trained_embeddings = self.config.trained_classes = None
        return self

    def trained_classes(self) -> tuple[list[str], torch.Tensor]:
        """
        The classes that the weights were taught.

        Returns:
            Their names, and their embeddings, a `torch.Tensor` of shape `(num_trained, class_embed_dim)`: float32, on
            the CPU. Both are empty for a model that was never given classes.
        """
        names, vectors = self.config.trained_classes, self.trained_embeddings
        if names is None or vectors is None:
            names, vectors = self.config.class_names, self.class_embeddings
        vectors = vectors.detach().to("cpu", torch.float32)
        return (list(names), vectors) if vectors.any() else ([], vectors[:0])

    def set_class_center(self, embeddings: torch.Tensor) -> Self:
        """
        Choose the common direction that is subtracted from every class embedding: the mean of `embeddings`. Call it
        before training, best with the vectors of a hundred words or more, and leave it alone afterwards.

        Args:
            embeddings (`torch.Tensor` of shape `(num_words, class_embed_dim)`): CLIP text vectors.

        Returns:
            The model itself.
        """
        embeddings = check_class_embeddings(embeddings, len(embeddings), self.config.class_embed_dim)
        self.class_center = embeddings.mean(dim=0).to(self.class_center)
        return self

    def check_names(self) -> None:
        """
        A warning for classes that were renamed by an assignment to `config.id2label`, which moves no vectors.

        Raises:
            ValueError: it put a name over the vector, or the weights, of another class, or changed their number.
        """
        names, named = self.config.class_names, self._named
        if names == named:
            return
        moved = [name for index, name in enumerate(named) if name in names and names.index(name) != index]
        if moved or len(names) != len(named):
            raise ValueError(
                f"`config.id2label` was assigned {quoted(names[:12])}, but the classes of the weights are "
                f"{quoted(named[:12])}, in this order: an assignment moves no vectors. Give it to "
                "`from_pretrained(..., id2label=...)`, or call `set_classes`."
            )
        renamed = [f"{old!r} is now {new!r}" for old, new in zip(named, names, strict=True) if old != new]
        logger.warning(f"Classes were renamed, and keep their vectors: {', '.join(renamed[:12])}.")
        self._named = names

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        self.check_names()
        return super().save_pretrained(*args, **kwargs)  # type: ignore[misc]

    def _keep_trained_classes(self) -> None:
        if self.trained_embeddings is None and self.class_embeddings.any():
            self.config.trained_classes = self.config.class_names
            self.trained_embeddings = self.class_embeddings.detach()

    def _store(self, names: list[str], vectors: torch.Tensor) -> None:
        """Take over names and embeddings (K, D), which are no weights."""
        vectors = vectors.to(self.class_embeddings.detach())
        if isinstance(self.class_embeddings, nn.Parameter):
            del self.class_embeddings
            self.register_buffer("class_embeddings", vectors)  # type: ignore[attr-defined]
        self.class_embeddings = vectors
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: index for index, name in enumerate(names)}
        self._named = list(names)

    def _known_words(self, names: list[str]) -> tuple[list[str], torch.Tensor]:
        """What has a vector here: the trained classes, the present ones, and `names` if there is a tower inside."""
        words, vectors = self.trained_classes()
        if words:
            present = self.class_embeddings.detach().to("cpu", torch.float32)
            words, vectors = [*words, *self.config.class_names], torch.cat([vectors, present])
        own = set(map(fold_name, words))
        left = [name for name in names if fold_name(name) not in own]
        if left and self.text_model is not None:
            words, vectors = [*words, *left], torch.cat([vectors, self._from_tower(left, None, None)])
        return words, vectors

    def _drop_trained_classes_if_present(self) -> None:
        """Store the trained list no second time where the present one has come to equal it."""
        trained = self.trained_embeddings
        if (
            trained is not None
            and self.config.trained_classes == self.config.class_names
            and torch.equal(trained, self.class_embeddings)
        ):
            self.remember_classes()

    def _warn_of_unfamiliar(self) -> None:
        """Name the present classes that are like none of the trained ones."""
        trained, known = self.trained_classes()
        if self.trained_embeddings is None or not trained:
            return
        cosines, rows = nearest_known(self.class_embeddings.cpu(), known, self.class_center.cpu())
        warning = unfamiliar(self.config.class_names, trained, cosines.tolist(), rows.tolist())
        if warning is not None:
            logger.warning(warning)

    def _looked_up(
        self, prompts: list[list[str]], word_bank: WordBank | None, tokenizer: CLIPTokenizer | None
    ) -> torch.Tensor:
        """The embeddings (K, D) of classes that are given by their words, each word looked up once."""
        words = {fold_name(word): word for of_class in prompts for word in of_class}
        found = self._stored(words)
        if word_bank is not None:  # given for these words, so it comes before the checkpoint's own
            found.update(self._in_bank(word_bank, words))
        left = {key: word for key, word in words.items() if key not in found}
        if left:
            found.update(zip(left, self._from_tower(list(left.values()), word_bank, tokenizer), strict=True))
        return torch.stack([mean_direction([found[fold_name(word)] for word in of_class]) for of_class in prompts])

    def _stored(self, words: dict[str, str]) -> dict[str, torch.Tensor]:
        """The vectors of those words that name a present or, failing that, a trained class."""
        names, vectors = self.trained_classes()
        stored = {fold_name(name): vector for name, vector in zip(names, vectors, strict=True)}
        if names:  # else there are no embeddings at all
            present = self.class_embeddings.detach().to("cpu", torch.float32)
            stored.update(zip(map(fold_name, self.config.class_names), present, strict=True))
        return {key: stored[key] for key in words if key in stored}

    def _in_bank(self, word_bank: WordBank, words: dict[str, str]) -> dict[str, torch.Tensor]:
        """The vectors of those words that the bank has, if its name and width are those of the model's tower."""
        text_model = self.config.text_model_name_or_path
        check_bank_width(word_bank.embeddings.shape[1], self.config.class_embed_dim, text_model)
        listed = {fold_name(word) for word in word_bank.names}
        there = [key for key in words if key in listed]
        if there and not self.class_center.any():
            check_bank_tower(word_bank.text_model, text_model)
        return dict(zip(there, word_bank.lookup([words[key] for key in there]), strict=True)) if there else {}

    def _from_tower(
        self, words: list[str], word_bank: WordBank | None, tokenizer: CLIPTokenizer | None
    ) -> torch.Tensor:
        """The text tower's vectors of the words, (n, D)."""
        config = self.config
        try:
            if self.text_model is not None:
                text_model = self.text_model
                tokenizer = tokenizer or CLIPTokenizer.from_pretrained(self.config.name_or_path)
            elif config.text_model_name_or_path:
                text_model, tokenizer = _text_tower(config.text_model_name_or_path)
            else:
                raise ValueError("`config.text_model_name_or_path` names none.")
            vectors = embed_class_names(words, text_model, tokenizer, config.prompt_templates).cpu()
            return check_class_embeddings(vectors, len(words), config.class_embed_dim)
        except (OSError, TypeError, ValueError) as error:
            own = list(dict.fromkeys([*config.class_names, *(config.trained_classes or ())]))
            raise ValueError(
                f"There is no vector for {some(words)}: not in the checkpoint ({some(own)})"
                f"{', nor in the word bank' if word_bank else ''}"
                f"{closest(words, [*own, *(word_bank.names if word_bank else ())])}. The text tower could not be "
                f"used: {error} A word bank that has the words needs no tower."
            ) from error


def _checked_prompts(names: list[str], prompts: Prompts | None) -> list[list[str]]:
    """The words of every class; those of one class differ, and no two classes have the same ones."""
    if prompts is None:
        return [[name] for name in names]
    if isinstance(prompts, str):
        raise ValueError(f"`prompts` must be a list, got the one string {prompts!r}; write [{prompts!r}].")
    if len(prompts) != len(names):
        raise ValueError(f"There are {len(prompts)} prompts for {len(names)} classes; give one for each.")
    checked, owners = [], dict[frozenset[str], str]()
    for name, words in zip(names, prompts, strict=True):
        try:
            of_class = check_class_names([words] if isinstance(words, str) else words)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The prompts of the class {name!r} are {words!r}: {error}") from error
        other = owners.setdefault(frozenset(map(fold_name, of_class)), name)
        if other != name:
            raise ValueError(f"The classes {other!r} and {name!r} have the same prompts, {quoted(of_class)}.")
        checked.append(of_class)
    return checked


@functools.lru_cache(maxsize=1)
def _text_tower(name_or_path: str) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    # No warning, but by default nothing quieter is shown, and the first time there are some hundred MB to fetch.
    logger.warning(f"Loading the text tower {name_or_path} for words that have no vector yet; once for this process.")
    return load_text_tower(name_or_path)


__all__ = ["LClipSegVocabulary", "Prompts", "some"]
