"""The score of a checkpoint on a data set, with what made it."""

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lclipseg.console import environment
from lclipseg.console.errors import InputError
from lclipseg.console.markdown import plain
from lclipseg.console.processes import check_processes
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.networks.checkpoints import load_runnable, weights_sha256
from lclipseg.networks.class_embeddings import take_classes
from lclipseg.prediction.arguments import EvaluateArguments
from lclipseg.prediction.evaluate import evaluate_model, scored_by_least
from lclipseg.prediction.inference_mode import InferenceMode
from lclipseg.prediction.metrics import ConfusionMatrix, SegmentationScores, percent

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("lclipseg")


@dataclass(frozen=True)
class EvaluationRecord:
    """A result and what is needed to make it again."""

    model: str
    revision: str | None
    weights_sha256: str | None
    data: str
    split: str
    num_images: int
    limit: int | None
    classes_from: str
    bank: str | None
    inference: InferenceMode
    least_score: float | None
    batch_size: int
    scores: SegmentationScores
    versions: dict[str, str]
    machine: dict[str, str | int | None]
    commit: str | None
    date: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "scores": self.scores.to_dict()}

    def to_markdown(self) -> str:
        settings = ", ".join(f"{key} {value}" for key, value in asdict(self.inference).items() if value is not None)
        heading = f"# {plain(self.model)} on {plain(self.data)}, {plain(self.split)} ({self.num_images} images)"
        if self.least_score is not None:
            settings += f", none of the classes below a score of {self.least_score:g}"
        return f"{heading}\n\nInference: {settings}.\n\n{self.scores.to_markdown()}"

    def save(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {folder} cannot be made a folder: {error.strerror}") from error
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
        (folder / "evaluation.md").write_text(self.to_markdown(), encoding="utf-8")


def score(model_source: str, args: EvaluateArguments) -> EvaluationRecord:
    """Score the checkpoint, print the table, and write the record if `args.out` names a folder."""
    data = load_segmentation_data(
        args.data, args.split, classes=args.classes, image_column=args.image_column, mask_column=args.mask_column
    )
    model, image_processor = load_runnable(model_source, args.revision)
    if args.classes_from == "data":
        asked = data.classes if args.least_score is None else scored_by_least(data.classes)
        take_classes(model, asked.names, asked.prompts, given="--classes-from data", bank=args.bank)
    accelerator = _processes()
    check_processes(args.expected_processes, accelerator.num_processes if accelerator else 1)
    device = accelerator.device if accelerator else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)

    num_images = len(data) if args.limit is None else min(args.limit, len(data))
    start = time.perf_counter()
    scores = _evaluate(model, image_processor, data, args, num_images, accelerator)
    seconds = time.perf_counter() - start
    record = EvaluationRecord(
        model=model_source,
        revision=args.revision,
        weights_sha256=weights_sha256(model_source),
        data=args.data,
        split=args.split,
        num_images=num_images,
        limit=args.limit,
        classes_from=args.classes_from,
        bank=args.bank,
        inference=args.inference,
        least_score=args.least_score,
        batch_size=args.batch_size,
        scores=scores,
        versions=environment.versions(),
        machine=environment.machine(device),
        commit=environment.commit(),
        date=environment.now(),
        seconds=round(seconds, 3),
    )
    if accelerator is not None and not accelerator.is_main_process:
        return record
    Console().print(_table(scores))
    print(f"{scores.summary()}; {num_images} images in {seconds:.1f} s")
    if args.out is not None:
        record.save(Path(args.out).expanduser())
        logger.info(f"wrote evaluation.json and evaluation.md to {args.out}")
    return record


def _processes() -> "Accelerator | None":
    """The processes that a launcher started, if it started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import Accelerator  # one process does without the library

    return Accelerator()


def _evaluate(
    model,
    image_processor,
    data: SegmentationData,
    args: EvaluateArguments,
    num_images: int,
    accelerator: "Accelerator | None",
) -> SegmentationScores:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    own = num_images if accelerator is None else -(-num_images // accelerator.num_processes)
    is_shown = accelerator is None or accelerator.is_main_process
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not is_shown) as progress:
        task = progress.add_task("mIoU –", total=own)

        def show(done: int, counts: ConfusionMatrix) -> None:
            progress.update(task, completed=done, description=f"mIoU {percent(counts.scores().mean_iou)}")

        return evaluate_model(
            model,
            image_processor,
            data,
            args.inference,
            batch_size=args.batch_size,
            limit=args.limit,
            num_workers=args.num_workers,
            accelerator=accelerator,
            on_batch=show,
            least_score=args.least_score,
        )


def _table(scores: SegmentationScores) -> Table:
    table = Table("class")
    for header in ("IoU", "accuracy", "pixels"):
        table.add_column(header, justify="right")
    for name, iou in scores.per_class.items():
        pixels = str(scores.per_class_pixels[name])
        table.add_row(escape(name), percent(iou), percent(scores.per_class_accuracy[name]), pixels)
    return table
