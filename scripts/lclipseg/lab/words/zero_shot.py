"""Score a checkpoint on classes that it was not trained on, in competition with those that it was trained on.

    python scripts/zero_shot.py runs/mine/best --data data/ccp --bank words/ccp.safetensors --split test \\
        --unseen configuration/held_out/ccp-1.yaml --calibration 0 1 2 4 --out scores.json

The first argument is a folder or a repository on the Hub: an open-vocabulary model that was trained without the unseen
classes. It is given all classes of the data and predicts among all of them: once with the unseen words' vectors as
they are, and once projected onto what the seen words span. Each --calibration is subtracted from the logits of the
seen classes and makes a row of the table. Choose one, and the vectors, on the split val before you look at test.
"""

import functools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.subset import find_classes, load_held_out
from lclipseg.lab.words.zero_shot_scores import ZeroShotScores, score_zero_shot
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import take_classes
from lclipseg.prediction.metrics import percent
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

logger = logging.getLogger("lclipseg")


@dataclass
class ZeroShotArguments:
    data: str = field(metadata={"help": "Data: a folder, a parquet or zip file, or a data set on the Hub."})
    unseen: str = field(metadata={"help": "YAML file of the classes not trained on: `classes: [jeans, suit]`."})
    bank: str | None = field(
        default=None, metadata={"help": "Class embeddings, FILE.safetensors or FILE#KEY. Default: the text tower's."}
    )
    split: str = field(default="test", metadata={"help": "Split of the data to score."})
    calibration: list[float] = field(
        default_factory=lambda: [0.0],
        metadata={"help": "What to subtract from the logits of the seen classes: one number or more, from 0."},
    )
    limit: int | None = field(default=None, metadata={"help": "Score only the first so many images."})
    out: str | None = field(default=None, metadata={"help": "JSON file for the scores and what made them."})


def main(model_source: str, args: ZeroShotArguments) -> list[ZeroShotScores]:
    """Score the checkpoint, print the table, and write the record if `args.out` names a file.

    Raises:
        InputError: the data, the lists, the checkpoint, the bank or the output cannot be used.
    """
    out = None if args.out is None else Path(args.out).expanduser()
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError(f"--out {out} must be a file in a folder that exists")
    data = load_segmentation_data(args.data, args.split)
    unseen = [data.classes.names[class_id] for class_id in find_classes(load_held_out(args.unseen), data.classes)]
    model, image_processor = load_model(model_source)
    trained_on = list(model.config.id2label.values())
    _warn_of_leaks(trained_on, unseen)
    take_classes(model, data.classes.names, data.classes.prompts, bank=args.bank)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)

    num_images = len(data) if args.limit is None else min(args.limit, len(data))
    start = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        rows = []
        for projected in (False, True):
            task = progress.add_task("projected" if projected else "as they are", total=num_images)
            rows += score_zero_shot(
                model,
                image_processor,
                data,
                unseen,
                args.calibration,
                projected=projected,
                limit=args.limit,
                on_image=functools.partial(_advance, progress, task),
            )
    record = {
        "model": model_source,
        "classes_of_checkpoint": trained_on,
        "data": args.data,
        "split": args.split,
        "num_images": num_images,
        "bank": args.bank,
        "unseen": unseen,
        "rows": [row.to_dict() for row in rows],
        "versions": environment.versions(),
        "machine": environment.machine(device),
        "date": environment.now(),
        "seconds": round(time.perf_counter() - start, 3),
    }
    Console().print(_table(rows))
    if out is not None:
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        out.write_text(text + "\n", encoding="utf-8")
        logger.info(f"wrote {out}")
    return rows


def _advance(progress: Progress, task: TaskID, done: int) -> None:
    progress.update(task, completed=done)


def _warn_of_leaks(trained_on: Sequence[str], unseen: Sequence[str]) -> None:
    known = {fold_name(name) for name in trained_on}
    leaked = [name for name in unseen if fold_name(name) in known]
    if leaked:
        logger.warning(f"the checkpoint has the unseen classes {leaked} among its own: this is no zero-shot score")


def _table(rows: Sequence[ZeroShotScores]) -> Table:
    table = Table("unseen vectors", "calibration")
    for header in ("seen mIoU", "unseen mIoU", "harmonic mean", "all mIoU", "pixel accuracy"):
        table.add_column(header, justify="right")
    for row in rows:
        groups = (row.seen_mean_iou, row.unseen_mean_iou, row.harmonic_mean)
        overall = (row.all_classes.mean_iou, row.all_classes.pixel_accuracy)
        table.add_row(
            "projected" if row.projected else "as they are", f"{row.calibration:g}", *map(percent, groups + overall)
        )
    return table


def parse(argv: list[str] | None = None) -> tuple[str, ZeroShotArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub. Put it first."
    return arguments.parse_subject(__doc__, ZeroShotArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
