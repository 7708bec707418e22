"""Score checkpoints on several data sets by words alone, and say word by word how well each is found.

    python scripts/everyday.py checkpoints/lclipseg-mbv3s-everyday checkpoints/lclipseg-mbv3s-camvid \\
        --data data/voc2012 data/camvid data/car_parts-everyday

Every checkpoint gets the classes of a data set by their words, and segments every image of the split at its own size.
--out gets a line of JSON for each pair of checkpoint and data set; pairs that it has, by the hash of the weights, are
not scored again. --page is written anew from all lines: a table of the pairs, and a table of the words. Without a
checkpoint, the documents alone are written.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.files import read_json
from lclipseg.console.frame import run_command
from lclipseg.console.markdown import replace_between
from lclipseg.console.paths import project
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.words.everyday_page import page, summary
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.networks.class_embeddings import take_classes
from lclipseg.prediction.evaluate import evaluate_model

logger = logging.getLogger("lclipseg")

SUMMARY_BEGIN = "<!-- everyday: begin (scripts/everyday.py --summary) -->"
SUMMARY_END = "<!-- everyday: end -->"
DIGITS = 4  # of an IoU: a hundredth of a percent


@dataclass
class EverydayArguments:
    data: list[str] = field(default_factory=list, metadata={"help": "Data sets: folders, parquet or zip files."})
    bank: str = field(
        default=str(Path("configuration", "words", "vitb16.safetensors")),
        metadata={"help": "Class embeddings of the words, FILE.safetensors or FILE#KEY."},
    )
    split: str = field(default="test", metadata={"help": "Split of the data to score."})
    limit: int | None = field(default=None, metadata={"help": "Score only the first so many images."})
    out: str = field(
        default=str(Path("docs", "results", "everyday.jsonl")), metadata={"help": "File of the scores, added to."}
    )
    page: str = field(
        default=str(Path("docs", "results", "everyday.md")), metadata={"help": "Markdown page of all scores."}
    )
    summary: str | None = field(
        default=None, metadata={"help": "Document whose table between `<!-- everyday: ... -->` is renewed: README.md."}
    )


def main(checkpoints: list[str], args: EverydayArguments) -> None:
    """Score what `args.out` lacks, and write the page.

    Raises:
        InputError: a checkpoint, a data set, the bank or an output cannot be used.
    """
    out, markdown = Path(args.out).expanduser(), Path(args.page).expanduser()
    for path in (out, markdown):
        if not path.parent.is_dir():
            raise InputError(f"the folder of {path} does not exist; make it first")
    lines = read_lines(out)
    done = {(line["weights_sha256"], line["data"], line["split"], line["limit"]) for line in lines}
    for checkpoint in checkpoints:
        for source in args.data:
            if (weights_sha256(checkpoint), Path(source).name, args.split, args.limit) in done:
                continue
            line = score(checkpoint, source, args)
            logger.info(f"{line['model']} on {line['data']}: mIoU {100 * line['mean_iou']:.1f}")
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            lines.append(line)
    markdown.write_text(page(lines), encoding="utf-8")
    logger.info(f"wrote {markdown} from {len(lines)} scores")
    if args.summary is not None:
        table = summary(lines, project("checkpoints"))
        replace_between(Path(args.summary), SUMMARY_BEGIN, SUMMARY_END, table)


def score(checkpoint: str, source: str, args: EverydayArguments) -> dict[str, Any]:
    """The scores of a checkpoint on a data set, as a line of the file has them."""
    data = load_segmentation_data(source, args.split)
    model, image_processor = load_model(checkpoint)
    take_classes(model, data.classes.names, data.classes.prompts, given=source, bank=args.bank)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = evaluate_model(model.to(device), image_processor, data, limit=args.limit)
    run = _run(checkpoint)
    # A run names one data set or a list of them, and a folder by its path at that time.
    learned = {Path(name).name for name in _listed(run.get("arguments", {}).get("data"))}
    name = Path(source).name
    seen = load_segmentation_data(source, "train") if name in learned else None
    pixels = [0] * len(data.classes.names) if seen is None else train_pixels(seen)
    rows = zip(data.classes.names, data.classes.prompts, pixels, strict=True)
    return {
        "model": Path(checkpoint).name,
        "preset": (run.get("preset") or {}).get("name"),
        "num_fusion_layers": model.config.num_fusion_layers,
        "weights_sha256": weights_sha256(checkpoint),
        "data": name,
        "split": args.split,
        "limit": args.limit,
        "num_images": len(data) if args.limit is None else min(args.limit, len(data)),
        "trained_on": name in learned,
        "mean_iou": _rounded(scores.mean_iou),
        "pixel_accuracy": _rounded(scores.pixel_accuracy),
        "num_classes": scores.num_classes,
        "num_classes_counted": scores.num_classes_counted,
        "classes": {
            word: {
                "words": list(prompts),
                "iou": _rounded(scores.per_class[word]),
                "pixels": scores.per_class_pixels[word],
                "train_pixels": seen_pixels,
            }
            for word, prompts, seen_pixels in rows
        },
        "bank": args.bank,
        "machine": environment.machine(device),
        "versions": environment.versions(),
        "commit": environment.commit(),
        "date": environment.now(),
    }


def train_pixels(data: SegmentationData) -> list[int]:
    """The number of labelled pixels of every class, in the order of the classes."""
    counts = torch.zeros(IGNORE_INDEX + 1, dtype=torch.int64)
    for index in range(len(data)):
        ids = torch.from_numpy(data[index].mask.astype("int64"))
        counts += torch.bincount(ids.flatten(), minlength=len(counts))
    return counts[: len(data.classes.names)].tolist()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of scores; none where there is no file.

    Raises:
        InputError: a line is not JSON.
    """
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path} has a line that is not JSON: {error}") from error


def _run(checkpoint: str) -> dict[str, Any]:
    """`run.json` of the training, beside the weights or in the folder `run`; empty where there is none."""
    folder = Path(checkpoint).expanduser()
    for path in (folder / "run.json", folder / "run" / "run.json"):
        if path.is_file():
            return read_json(path)
    return {}


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _rounded(ratio: float) -> float | None:
    return None if ratio != ratio else round(ratio, DIGITS)  # NaN, where nothing was to be counted


def parse(argv: list[str] | None = None) -> tuple[list[str], EverydayArguments]:
    description = "Folders of checkpoints. Put them first."
    return arguments.parse_subject(__doc__, EverydayArguments, "checkpoints", description, nargs="*", argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
