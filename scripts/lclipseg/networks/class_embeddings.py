"""Classes for the commands: what `set_classes` takes, with errors that name the options."""

from collections.abc import Sequence

from lclipseg.console.errors import InputError
from modeling_lclipseg import LClipSegVocabulary, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names, fold_name
from modeling_lclipseg.vocabulary_lclipseg import Prompts


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
    has all words of its prompt.

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
        words = None if bank is None else WordBank.load(bank)
        model.check_takes_classes(check_class_names(names))
        if prompts is not None:
            listed = set() if words is None else {fold_name(word) for word in words.names}
            own = {fold_name(name) for name in (*model.config.class_names, *model.trained_classes()[0])}
            prompts = [
                name if fold_name(name) in own and not _folded(prompt) <= listed else prompt
                for name, prompt in zip(names, prompts, strict=True)
            ]
        model.set_classes(names, words, prompts)
    except ValueError as error:
        where = f" (--bank {bank})" if bank is not None else " (a word bank is given by --bank FILE.safetensors#KEY)"
        raise InputError(f"{given}: {error}{where}" if given else f"{error}{where}") from error


def _folded(prompt: str | Sequence[str]) -> set[str]:
    return {fold_name(word) for word in ([prompt] if isinstance(prompt, str) else prompt)}
