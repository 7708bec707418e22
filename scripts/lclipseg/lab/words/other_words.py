"""Score a checkpoint that is given other words for its classes: "sidewalk" where it was trained with "pavement".

    python scripts/other_words.py runs/mine/best --data data/camvid --bank words/camvid.safetensors --split test \\
        --words configuration/other_words/camvid-1.yaml configuration/other_words/camvid-2.yaml --out scores.jsonl

The first argument is a folder or a repository on the Hub: an open-vocabulary model. It is scored with its own words;
then, for every file of --words, with the words there in place of its own, all at once: with their vectors as they are,
and projected onto what its own words span. A file says `words: {pavement: sidewalk}`; classes that it leaves out keep
their word. A word's cosine is that with the own word nearest to it. --out gets a line of JSON for every score, after
those that it has.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.console.frame import run_command
from lclipseg.data.open import load_segmentation_data
from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.prediction.metrics import SegmentationScores, percent
from modeling_lclipseg import LClipSegVocabulary
from modeling_lclipseg.class_embeddings_lclipseg import fold_name, nearest_known, project_onto_known

logger = logging.getLogger("lclipseg")

OWN, AS_THEY_ARE, PROJECTED = "own", "as they are", "projected"


@dataclass
class OtherWordsArguments:
    data: str = field(metadata={"help": "Data: a folder, a parquet or zip file, or a data set on the Hub."})
    words: list[str] = field(metadata={"help": "YAML files of other words: `words: {pavement: sidewalk}`."})
    bank: str | None = field(
        default=None, metadata={"help": "Class embeddings, FILE.safetensors or FILE#KEY. Default: the text tower's."}
    )
    split: str = field(default="test", metadata={"help": "Split of the data to score."})
    limit: int | None = field(default=None, metadata={"help": "Score only the first so many images."})
    out: str | None = field(default=None, metadata={"help": "File that gets a line of JSON for every score."})


@dataclass(frozen=True)
class OtherWordsScores:
    """
    Scores with one list of words.

    Args:
        words (`str`): Name of the list; "own" for the model's.
        vectors (`str`): "own", "as they are" or "projected", see [`project_onto_known`].
        cosines (`list[float]`): Of every word with the own word nearest to it, see [`nearest_known`].
        scores ([`SegmentationScores`]): By the names that the classes have in the data.
    """

    words: str
    vectors: str
    cosines: list[float]
    scores: SegmentationScores


def load_words(path: str | Path, names: list[str]) -> list[str]:
    """
    Read other words for classes.

    Args:
        path (`str` or `Path`): YAML, `words: {pavement: sidewalk}`.
        names (`list[str]`): The classes.

    Returns:
        `list[str]`: a word for every class, its own where the file has none.

    Raises:
        [`InputError`]: the file is missing or not of that form, or names a class that there is not.
    """
    content = read_yaml(path, "the words ")
    words = content.get("words") if isinstance(content, dict) else None
    if not isinstance(words, dict) or not all(isinstance(text, str) for pair in words.items() for text in pair):
        raise InputError(f"the words {path} must be `words: {{pavement: sidewalk}}`, texts alone")
    given = {fold_name(name): word for name, word in words.items()}
    unknown = [name for name in words if fold_name(name) not in set(map(fold_name, names))]
    if unknown:
        raise InputError(f"the words {path} are for {unknown}, which the model does not have; it has {names}")
    return [given.get(fold_name(name), name) for name in names]


def _found(model: LClipSegVocabulary, names: Sequence[str], bank: str | None = None) -> torch.Tensor:
    try:
        return model.find_class_embeddings(names, bank)
    except ValueError as error:
        raise InputError(str(error) if bank is None else f"{error} (--bank {bank})") from error


def main(model_source: str, args: OtherWordsArguments) -> list[OtherWordsScores]:
    """Score the checkpoint with every list, print the table, and add the scores to `args.out`.

    Raises:
        InputError: the data, the lists, the checkpoint, the bank or the output cannot be used.
    """
    out = None if args.out is None else Path(args.out).expanduser()
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"--out {out} must be a file in a folder that exists")
    data = load_segmentation_data(args.data, args.split)
    model, image_processor = load_model(model_source)
    names = model.config.class_names
    own = _found(model, names)
    vectors = {(OWN, OWN): own}
    for path in args.words:
        other = _found(model, load_words(path, names), args.bank)
        vectors[Path(path).stem, AS_THEY_ARE] = other
        vectors[Path(path).stem, PROJECTED] = project_onto_known(other, own, model.class_center.cpu())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    rows = []
    for (words, kind), rows_of_words in vectors.items():
        logger.info(f"words: {words}, vectors: {kind}")
        model.set_classes(names, rows_of_words)
        cosines = nearest_known(rows_of_words, own, model.class_center.cpu())[0].tolist()
        scores = evaluate_model(model, image_processor, data, limit=args.limit)
        rows.append(OtherWordsScores(words, kind, cosines, scores))
    Console().print(_table(rows))
    if out is not None:
        made_by = {
            "model": model_source,
            "guidance": model.config.guidance,
            "num_fusion_layers": model.config.num_fusion_layers,
            "data": args.data,
            "split": args.split,
            "num_images": len(data) if args.limit is None else min(args.limit, len(data)),
            "bank": args.bank,
            "versions": environment.versions(),
            "machine": environment.machine(device),
            "date": environment.now(),
        }
        with out.open("a", encoding="utf-8") as file:
            for row in rows:
                line = {
                    "words": row.words,
                    "vectors": row.vectors,
                    "cosines": dict(zip(names, row.cosines, strict=True)),
                    "scores": row.scores.to_dict(),
                    **made_by,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        logger.info(f"added {len(rows)} lines to {out}")
    return rows


def _table(rows: list[OtherWordsScores]) -> Table:
    table = Table("words", "vectors")
    for header in ("cosines", "mIoU", "minus own", "pixel accuracy"):
        table.add_column(header, justify="right")
    own = rows[0].scores.mean_iou
    for row in rows:
        difference = f"{100 * (row.scores.mean_iou - own):+.2f}"
        cosines = f"{min(row.cosines):.2f} to {max(row.cosines):.2f}"
        scores = (percent(row.scores.mean_iou), difference, percent(row.scores.pixel_accuracy))
        table.add_row(row.words, row.vectors, cosines, *scores)
    return table


def parse(argv: list[str] | None = None) -> tuple[str, OtherWordsArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub. Put it first."
    return arguments.parse_subject(__doc__, OtherWordsArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
