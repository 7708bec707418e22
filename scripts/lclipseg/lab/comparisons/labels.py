"""What the results of scripts/few_labels.py say: scores by start, and what a start gains by the number of labels."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lclipseg.lab.comparisons.spread import PairedDifference
from lclipseg.lab.comparisons.tables import markdown_table, show_difference

DEFAULT = "default"  # label of runs by the defaults of `lclipseg train`
IMAGENET = "imagenet"
Line = Mapping[str, Any]
Gains = Mapping[str, Mapping[int, PairedDifference]]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """None where there is no file yet."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def table_of_starts(lines: Sequence[Line], data: Sequence[str], images: Sequence[int]) -> str:
    """Mean and standard deviation over the seeds, in points: a row for each set and number, a column a start."""
    starts = list(dict.fromkeys((line["start"], line["label"]) for line in lines if line["data"] in data))
    rows = []
    for wanted in itertools.product(data, images):
        cells = []
        for start in starts:
            found = [
                100 * line["mean_iou"]
                for line in lines
                if ((line["data"], line["images"]), (line["start"], line["label"])) == (wanted, start)
            ]
            spread = f" ± {stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{mean(found):.1f}{spread} ({len(found)})" if found else "–")
        rows.append([f"{wanted[0]}, {wanted[1]} images", *cells])
    names = [start if label == DEFAULT else f"{start}, {label}" for start, label in starts]
    return markdown_table(["test mIoU", *names], rows)


def gains_over_imagenet(lines: Sequence[Line]) -> Gains:
    """What starts by the defaults gain in mIoU, 0 to 1, over ImageNet weights with the same data, labels and seed, by
    `"DATA, START"` and number of labelled images. Starts without a pair are left out."""
    values: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for line in lines:
        if line["label"] == DEFAULT:
            by_images = values.setdefault((line["data"], line["start"]), {})
            by_images.setdefault(line["images"], {})[line["seed"]] = line["mean_iou"]
    gains: dict[str, dict[int, PairedDifference]] = {}
    for (data, start), by_images in values.items():
        for images, by_seed in sorted(by_images.items()):
            reference = values.get((data, IMAGENET), {}).get(images, {})
            difference = PairedDifference.between(by_seed, reference)
            if difference is not None and start not in (IMAGENET, f"{IMAGENET}-none"):
                gains.setdefault(f"{data}, {start}", {})[images] = difference
    return gains


def table_of_gains(gains: Gains) -> str:
    """A row for each set and start, a column for each number of images."""
    numbers = sorted({images for by_images in gains.values() for images in by_images})
    rows = [
        [name, *(show_difference(by_images.get(number)) for number in numbers)] for name, by_images in gains.items()
    ]
    return markdown_table(["minus imagenet", *(f"{number} images" for number in numbers)], rows)
