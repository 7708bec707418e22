"""One word bank from several tensors of a published file of text vectors.

    python scripts/merge_banks.py published.safetensors --keys oid500.a objects365.a lvis1203.a \\
        --text_model openai/clip-vit-base-patch32 --template "a {}" --out words/mine.safetensors

Beside the file stands published_names.json, as for every word bank. Names are cleaned: "legging_(clothing)" becomes
"legging". A word that occurs in several tensors has its vector from the first of --keys that has it. Name the tensors
with the plainest names first: underscores and qualifiers stood in the sentences that were embedded, and a word may
mean something else in another list ("tank", "football").
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from modeling_lclipseg.class_embeddings_lclipseg import check_prompt_templates
from modeling_lclipseg.word_bank_lclipseg import WordBank, check_bank_path, fold_name

logger = logging.getLogger("lclipseg")

QUALIFIER = re.compile(r"[\s_]*\([^()]*\)")


@dataclass
class MergeArguments:
    keys: list[str] = field(metadata={"help": "Names of the tensors; of a word in several, the first one counts."})
    text_model: str = field(metadata={"help": "Text tower that made the vectors, as models name it."})
    template: str = field(metadata={"help": "The sentence that the words were put into, with {} in their place."})
    out: str = field(metadata={"help": "The word bank to write, NAME.safetensors; NAME_names.json comes beside it."})


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


def main(source: str, args: MergeArguments) -> WordBank:
    """
    Write the word bank `args.out` from the tensors `args.keys` of the file `source`, and return it.

    Raises:
        [`InputError`]: the file, a key or the template cannot be used, or the file names another text tower.
    """
    try:
        check_bank_path(args.out)
        (template,) = check_prompt_templates([args.template])
        banks = [WordBank.load(f"{source}#{key}") for key in args.keys]
        stated = banks[0].text_model  # one for all tensors of a file
        if stated not in (None, args.text_model):
            raise InputError(f"--text_model is {args.text_model!r}, but {source} says that it comes from {stated!r}")
        merged, counts = merge_banks(banks, args.text_model, template)
        merged.save(args.out)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    for key, bank, count in zip(args.keys, banks, counts, strict=True):
        logger.info(f"{key}: {count} of {len(bank.names)} words")
    logger.info(f"{args.out}: {len(merged.names)} words")
    return merged


def parse(argv: list[str] | None = None) -> tuple[str, MergeArguments]:
    description = "The published file, NAME.safetensors, with NAME_names.json beside it. Put it first."
    return arguments.parse_subject(__doc__, MergeArguments, "bank", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
