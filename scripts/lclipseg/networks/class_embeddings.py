"""Classes for the commands: what `set_classes` takes, with errors that name the options."""

import functools
from collections.abc import Sequence

from lclipseg.console.errors import InputError
from lclipseg.console.hub import reach_hub
from lclipseg.console.paths import configuration
from modeling_lclipseg import LClipSegConfig, LClipSegVocabulary, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names, fold_name
from modeling_lclipseg.vocabulary_lclipseg import Prompts

EVERYDAY_WORDS = configuration("words", "vitb16.safetensors")


def comma_separated(names: str) -> list[str]:
    """The names in `"sky, road"`."""
    return [name.strip() for name in names.split(",")]


def take_classes(
    model: LClipSegVocabulary,
    names: Sequence[str],
    prompts: Prompts | None = None,
    *,
    given: str = "",
    bank: str | None = None,
) -> None:
    """
    Give an open-vocabulary model other classes. A class that the checkpoint has keeps its embedding, unless the bank
    has all words of its prompt. Without a bank, further words come from the one that ships here, if it is of the
    checkpoint's text tower, and from the tower only then.

    Args:
        model ([`LClipSegForSemanticSegmentation`] or [`OnnxModel`]): its classes are replaced in place.
        names (sequence of `str`): the class names; case does not matter.
        prompts (sequence of `str` or of lists of `str`, *optional*): for every class the word, or words, that stand
            for it; the names by default.
        given (`str`, *optional*): the option that asked for these classes, for messages.
        bank (`str`, *optional*): `FILE.safetensors` or `FILE.safetensors#key`, see [`WordBank`].

    Raises:
        InputError: a closed or baked vocabulary, bad names, a bank that cannot be read or is another tower's, or a
            name without a vector.
    """
    try:
        words = everyday_words(model) if bank is None else WordBank.load(bank)
        model.check_takes_classes(check_class_names(names))
        if prompts is not None:
            listed = set() if bank is None or words is None else {fold_name(word) for word in words.names}
            own = {fold_name(name) for name in (*model.config.class_names, *model.trained_classes()[0])}
            prompts = [
                name if fold_name(name) in own and not _folded(prompt) <= listed else prompt
                for name, prompt in zip(names, prompts, strict=True)
            ]
        if not _all_words(names, prompts) <= _known(model, words):
            reach_hub(model.config.text_model_name_or_path or "")
        model.set_classes(names, words, prompts)
    except ValueError as error:
        where = f" (--bank {bank})" if bank is not None else " (a word bank is given by --bank FILE.safetensors#KEY)"
        raise InputError(f"{given}: {error}{where}" if given else f"{error}{where}") from error


def _all_words(names: Sequence[str], prompts: Prompts | None) -> set[str]:
    return set().union(*map(_folded, names if prompts is None else prompts))


def _known(model: LClipSegVocabulary, bank: WordBank | None) -> set[str]:
    """The words that have a vector without a text tower."""
    own = (*model.config.class_names, *model.trained_classes()[0])
    return {fold_name(word) for word in (*own, *(() if bank is None else bank.names))}


def everyday_words(model: LClipSegVocabulary) -> WordBank | None:
    """
    The words that ship here and that the checkpoint does not have itself, whose own vectors come first.

    Args:
        model ([`LClipSegForSemanticSegmentation`] or [`OnnxModel`]): what shall take them.

    Returns:
        [`WordBank`], or `None` where the checkpoint's text tower or its sentence is another one than theirs.
    """
    bank = everyday_bank(model.config)
    if bank is None:
        return None
    own = {fold_name(name) for name in (*model.config.class_names, *model.trained_classes()[0])}
    rows = [row for row, word in enumerate(bank.names) if fold_name(word) not in own]
    return WordBank(tuple(bank.names[row] for row in rows), bank.embeddings[rows], bank.text_model)


def everyday_bank(config: LClipSegConfig) -> WordBank | None:
    """The words that ship here; `None` where a configuration's text tower or its sentence is another than theirs."""
    bank = _everyday_bank()
    is_same = (
        _last_part(config.text_model_name_or_path) == _last_part(bank.text_model)
        and tuple(config.prompt_templates) == bank.prompt_templates
        and config.class_embed_dim == bank.embeddings.shape[1]
    )
    return bank if is_same else None


@functools.cache
def _everyday_bank() -> WordBank:
    return WordBank.load(EVERYDAY_WORDS)


def _last_part(name: str | None) -> str:
    """`clip-vit-base-patch16` of a name on the Hub or of a folder."""
    return (name or "").rstrip("/").rsplit("/", 1)[-1].casefold()


def _folded(prompt: str | Sequence[str]) -> set[str]:
    return {fold_name(word) for word in ([prompt] if isinstance(prompt, str) else prompt)}
