"""From words to a word bank, through a CLIP text tower."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.console.hub import reach_hub
from lclipseg.data.class_list import ClassList
from lclipseg.networks.arguments import EmbedArguments
from modeling_lclipseg.class_embeddings_lclipseg import (
    check_class_names,
    embed_class_names,
    load_text_tower,
)
from modeling_lclipseg.word_bank_lclipseg import WordBank

BATCH_SIZE = 64
WORD_FILE_SUFFIXES = (".json", ".txt")


@dataclass(frozen=True)
class CosineSummary:
    """Cosines between all pairs of different vectors, from -1 to 1; NaN where there is no pair."""

    mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class EmbedReport:
    """How far the words of a bank can be told apart, as they are and after its mean vector is subtracted."""

    num_words: int
    raw: CosineSummary
    centred: CosineSummary


def read_words(source: str) -> list[str]:
    """
    Read the words to embed.

    Args:
        source (`str`): A text file with one word a line, a class list (.json), or words separated by commas.

    Raises:
        [`InputError`]: the file is missing or unreadable, there is no word, or one is blank or stands there twice.
    """
    if os.path.isfile(source):  # unlike pathlib's, no error for a list that is too long for a file name
        path = Path(source)
        if path.suffix == ".json":
            return list(dict.fromkeys(word for prompts in ClassList.load(path).prompts for word in prompts))
        try:
            words = read_text(path).rstrip().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the list of words {path} cannot be read as UTF-8 text: {error}") from error
        where = f"{path}, one word a line"
    else:
        if "," not in source and (source.endswith(WORD_FILE_SUFFIXES) or "/" in source or os.sep in source):
            raise InputError(
                f"the list of words {source} is not a file; give a text file with one word a line, a classes.json, or "
                "words separated by commas"
            )
        words = source.split(",")
        where = f"the words {source!r}, separated by commas"
    try:
        return check_class_names(words)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def summarise_cosines(embeddings: torch.Tensor) -> CosineSummary:
    """
    Mean and range of the cosines between different rows.

    Args:
        embeddings (`torch.Tensor` of shape `(num_words, embed_dim)`): Vectors of any length; a zero one has cosine 0.
    """
    num_words = len(embeddings)
    if num_words < 2:
        return CosineSummary(math.nan, math.nan, math.nan)
    unit_rows = torch.nn.functional.normalize(embeddings, dim=1)
    total, lowest, highest = 0.0, math.inf, -math.inf
    for start in range(0, num_words, 1024):  # some rows at a time: all pairs of a large bank would fill the memory
        block = unit_rows[start : start + 1024]
        cosines = block @ unit_rows.T
        itself = torch.arange(len(block)), torch.arange(start, start + len(block))
        total += float(cosines.double().sum() - cosines[itself].double().sum())
        lowest = min(lowest, float(cosines.min()))  # a vector with itself has 1, which changes no minimum
        cosines[itself] = -math.inf
        highest = max(highest, float(cosines.max()))
    return CosineSummary(total / (num_words * (num_words - 1)), lowest, highest)


def embed(words: list[str], text_model: str, templates: list[str]) -> WordBank:
    """Put `words` through the text tower `text_model` (Hub name or folder), in batches, showing the progress."""
    reach_hub(text_model)
    tower, tokenizer = load_text_tower(text_model)
    batches = [words[start : start + BATCH_SIZE] for start in range(0, len(words), BATCH_SIZE)]
    shown = track(batches, description="embedding", console=Console(stderr=True))
    embeddings = torch.cat([embed_class_names(batch, tower, tokenizer, templates) for batch in shown])
    return WordBank(tuple(words), embeddings, text_model, tuple(templates))


def embed_words(words: str, args: EmbedArguments) -> EmbedReport:
    """
    Write the word bank `args.out` of `words` and print how far its words can be told apart.

    Raises:
        [`InputError`]: the words, the templates, the text tower or the output cannot be used.
    """
    listed = read_words(words)
    try:
        bank = embed(listed, args.text_model, args.templates)
        bank.save(args.out)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    report = EmbedReport(
        len(listed), summarise_cosines(bank.embeddings), summarise_cosines(bank.embeddings - bank.center)
    )
    _print(report, args.out)
    return report


def _print(report: EmbedReport, out: str) -> None:
    console = Console(soft_wrap=True)
    console.print(f"{report.num_words} words -> {escape(out)}", highlight=False)
    if report.num_words < 2:
        console.print("one word alone: no cosines to report", highlight=False)
        return
    for title, cosines in (("as they are", report.raw), ("minus the bank's mean", report.centred)):
        console.print(
            f"cosine between different words, {title}: mean {cosines.mean:.3f}, "
            f"range {cosines.lowest:.3f} to {cosines.highest:.3f}",
            highlight=False,
        )
