"""What a start is worth with few labelled images: the same short training from several starts, scored on test.

    python scripts/few_labels.py data/car_parts --starts imagenet lclipseg-mbv3s-everyday --images 5 20 100 --seeds 3
    python scripts/few_labels.py data/idd_lite data/ccp --summary README.md    # its table, of what there is

A start is `imagenet` (the preset's backbone weights, new head), `imagenet-none` (the same without text) or the name of
a folder in --checkpoints. Runs take turns, start by start, so that what else the machine does meets all alike. Every
result is a line of --results and is not made again; options behind `--options` go to every training from a checkpoint.
"""

import itertools
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.markdown import replace_between
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.comparisons.labels import DEFAULT, read_lines, table_of_starts
from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments
from lclipseg.training.session import train

SUMMARY_BEGIN = "<!-- few labels: begin (scripts/few_labels.py --summary) -->"
SUMMARY_END = "<!-- few labels: end -->"
SHORT = [
    *("--crop_size", "256", "256", "--shortest_edge", "288", "--batch_size", "6", "--steps", "150", "--cache", "true"),
    *("--channels_last", "true", "--trackers", "none", "--eval_every", "1000000"),
]


@dataclass
class FewLabelsArguments:
    starts: list[str] = field(
        default_factory=lambda: ["imagenet", "lclipseg-mbv3s-everyday"],
        metadata={"help": "imagenet, imagenet-none, or folders in --checkpoints."},
    )
    images: list[int] = field(default_factory=lambda: [5, 20, 100], metadata={"help": "Labelled images."})
    seeds: int = field(default=3, metadata={"help": "Runs of each: seeds 0, 1, ..."})
    model: str = field(default="lclipseg-mbv3s", metadata={"help": "Preset of the starts from ImageNet."})
    backbone_weights: str | None = field(default=None, metadata={"help": "Its weights, where they are a file."})
    bank: str | None = field(default=None, metadata={"help": "Word bank for words that a checkpoint lacks."})
    checkpoints: str = field(default="checkpoints", metadata={"help": "Folder of the checkpoints."})
    options: list[str] = field(
        default_factory=list, metadata={"help": "FIELD=VALUE of lclipseg train, for every start from a checkpoint."}
    )
    label: str = field(default=DEFAULT, metadata={"help": "What these options are called in the results."})
    runs: str = field(default="runs/few_labels", metadata={"help": "Folder of the runs; each is removed when scored."})
    results: str = field(default="docs/results/few-labels.jsonl", metadata={"help": "Where results are added."})

    summary: str | None = field(
        default=None, metadata={"help": "Markdown file whose table is renewed from --results, without training."}
    )

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.images or min(self.images) < 1:
            raise InputError("allowed: --seeds and --images from 1.")


def main(data: list[str], args: FewLabelsArguments) -> None:
    """Train and score every start that has no result yet, and print the table; or renew the one of `args.summary`."""
    results = Path(args.results)
    lines = read_lines(results)
    names = [Path(source).name for source in data]
    if args.summary is not None:
        starts = [line for line in lines if line["start"] in args.starts and line["label"] == args.label]
        replace_between(Path(args.summary), SUMMARY_BEGIN, SUMMARY_END, table_of_starts(starts, names, args.images))
        return
    for source, images, seed, start in itertools.product(data, args.images, range(args.seeds), args.starts):
        key = {"data": Path(source).name, "start": start, "images": images, "seed": seed, "label": args.label}
        if any(key.items() <= line.items() for line in lines):
            continue
        line = {**key, **_run(source, start, images, seed, args)}
        lines.append(line)
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{key}: test mIoU {100 * line['mean_iou']:.1f}", flush=True)
    print(table_of_starts(lines, names, args.images))


def _run(data: str, start: str, images: int, seed: int, args: FewLabelsArguments) -> dict[str, Any]:
    folder = Path(args.runs)
    shutil.rmtree(folder, ignore_errors=True)
    options = [*SHORT, "--data", data, "--output_dir", str(folder), "--seed", str(seed), "--max_images", str(images)]
    if args.bank is not None and start != "imagenet-none":
        options += ["--bank", args.bank]
    if start in ("imagenet", "imagenet-none"):
        options += ["--model", args.model, *(["--guidance", "none"] if start == "imagenet-none" else [])]
        options += ["--backbone_weights", args.backbone_weights] if args.backbone_weights else []
    else:
        options += ["--start_from", str(Path(args.checkpoints) / start)]
        for option in args.options:
            name, _, value = option.partition("=")
            options += [f"--{name}", value]
    AcceleratorState._reset_state(reset_partial_state=True)
    groups = arguments.parse("", ModelArguments, DataArguments, RunArguments, argv=options)
    train(*groups)
    model, image_processor = load_model(folder / "last")
    scores = evaluate_model(model, image_processor, load_segmentation_data(data, "test"))
    record = {
        "mean_iou": scores.mean_iou,
        "per_class": scores.per_class,
        "steps": groups[2].steps,
        "options": {key: value for key, value in asdict(groups[2]).items() if key != "output_dir"},
        "machine": environment.machine(torch.device("cpu")),
        "versions": environment.versions(),
        "commit": environment.commit(),
        "date": environment.now(),
    }
    shutil.rmtree(folder)
    return record


def parse(argv: list[str] | None = None) -> tuple[list[str], FewLabelsArguments]:
    return arguments.parse_subject(__doc__, FewLabelsArguments, "data", "Prepared data sets.", nargs="+", argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))
