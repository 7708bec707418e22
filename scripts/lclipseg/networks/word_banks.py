"""One word bank from several."""

import logging
import re
from collections.abc import Iterable

import torch

from lclipseg.console.errors import InputError
from lclipseg.networks.arguments import MergeArguments
from modeling_lclipseg.word_bank_lclipseg import WordBank, fold_name

logger = logging.getLogger("lclipseg")

QUALIFIER = re.compile(r"[\s_]*\([^()]*\)")


def clean_word(word: str) -> str:
    """A published name as people write it: without a qualifier in brackets, with spaces instead of underscores."""
    return " ".join(QUALIFIER.sub("", word).replace("_", " ").split())


def merge_banks(banks: Iterable[WordBank], text_model: str, template: str) -> tuple[WordBank, list[int]]:
    """
    Join banks of one text tower and one template; of a word that occurs twice the first row counts.

    Args:
        banks (iterable of [`WordBank`]): What to join, the preferred one first.
        text_model (`str`), template (`str`): What made the vectors.

    Returns:
        `tuple`: the bank, with cleaned words, and how many of its words come from each of `banks`.

    Raises:
        ValueError: there is no word, or vectors of different widths.
    """
    words: dict[str, tuple[str, torch.Tensor]] = {}
    counts = []
    for bank in banks:
        before = len(words)
        for name, vector in zip(bank.names, bank.embeddings, strict=True):
            word = clean_word(name)
            if word:
                words.setdefault(fold_name(word), (word, vector))
        counts.append(len(words) - before)
    widths = sorted({len(vector) for _, vector in words.values()})
    if len(widths) != 1:
        raise ValueError(f"The vectors must have one width, got {widths or 'no words'}; take keys of one text tower.")
    names, vectors = zip(*words.values(), strict=True)
    return WordBank(names, torch.stack(vectors), text_model, (template,)), counts


def merge_tensors(source: str, args: MergeArguments) -> WordBank:
    """
    Write the word bank `args.out` from the tensors `args.keys` of the file `source`, and return it.

    Raises:
        [`InputError`]: the file or a key cannot be used, or the file names another text tower.
    """
    try:
        banks = [WordBank.load(f"{source}#{key}") for key in args.keys]
        stated = banks[0].text_model  # one for all tensors of a file
        if stated not in (None, args.text_model):
            raise InputError(f"--text_model is {args.text_model!r}, but {source} says that it comes from {stated!r}")
        merged, counts = merge_banks(banks, args.text_model, args.template)
        merged.save(args.out)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    for key, bank, count in zip(args.keys, banks, counts, strict=True):
        logger.info(f"{key}: {count} of {len(bank.names)} words")
    logger.info(f"{args.out}: {len(merged.names)} words")
    return merged
