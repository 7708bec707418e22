"""How long scripts/check_data.py takes, and how much memory: not a test, but where the figure in README.md is from.

    python tests/data/measure_check_data.py SCRATCH --pairs 100000

Writes that many pairs of 320x240 pixels (JPEG of quality 85, PNG mask) into the folder SCRATCH/data unless they are
there: windows of the photograph in docs/demo, each darkened by another amount, and of its label map by the shipped
checkpoint. Then it checks them, in full and quickly. 100,000 pairs take 2.3 GB; just written, they may still be in
memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import modeling_lclipseg  # noqa: F401  registers the model with the Auto classes

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"
SIZE = (320, 240)


def write_data(folder: Path, pairs: int) -> None:
    """Nine tenths in the split "train", the rest in "val"."""
    photograph = Image.open(ROOT / "docs" / "demo" / "street.jpg").convert("RGB")
    processor = AutoImageProcessor.from_pretrained(CHECKPOINT)
    model = AutoModelForSemanticSegmentation.from_pretrained(CHECKPOINT).eval()
    with torch.inference_mode():
        outputs = model(**processor(photograph, return_tensors="pt"))
    size = (photograph.height, photograph.width)
    label_map = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])[0].numpy().astype(np.uint8)
    for split in ("train", "val"):
        for name in ("images", "masks"):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_pair, folder, np.asarray(photograph), label_map), range(pairs), chunksize=500))
    (folder / "classes.json").write_text(json.dumps(list(model.config.id2label.values())))  # last: the set is complete


def _write_pair(folder: Path, photograph: np.ndarray, label_map: np.ndarray, index: int) -> None:
    random = np.random.default_rng(index)
    width, height = SIZE
    top, left = random.integers(0, np.subtract(label_map.shape, (height, width)))
    window = np.s_[top : top + height, left : left + width]
    gain, noise = random.uniform(0.7, 1.0), random.integers(0, 3, (height, width, 1))
    pixels = (photograph[window] * gain + noise).astype(np.uint8)
    split = "val" if index % 10 == 0 else "train"
    Image.fromarray(pixels).save(folder / split / "images" / f"{index:07d}.jpg", quality=85)
    Image.fromarray(label_map[window]).save(folder / split / "masks" / f"{index:07d}.png")


def measure(folder: Path, pairs: int, *arguments: str) -> None:
    """Check once in a process of its own and print the time and the largest memory of any of its processes."""
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "scripts" / "check_data.py"), str(folder), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    busy, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6
    print(
        f"{' '.join(arguments) or 'full'}: {seconds:.1f} s, {pairs / seconds:.0f} pairs/s, processors busy for "
        f"{busy:.1f} s, largest process {memory:.0f} MB, exit status {os.waitstatus_to_exitcode(status)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--pairs", type=int, default=100_000)
    given = parser.parse_args()
    folder = given.scratch / "data"
    if not (folder / "classes.json").is_file():
        write_data(folder, given.pairs)
    measure(folder, given.pairs)
    measure(folder, given.pairs, "--quick")


if __name__ == "__main__":
    main()
