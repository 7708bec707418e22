"""How much memory training from a stream takes: not a test, but where the figures in docs/lab-notes.md are from.

    python tests/data/measure_streaming.py SCRATCH --rows 50000

Writes parquet files with that many windows of the photograph in docs/demo (320x240, JPEG of quality 85, and a PNG mask
of brightness classes) into SCRATCH unless they are there, trains a small network for one epoch on them, and prints the
memory of the training process on the way. 50,000 rows take 0.9 GB.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[2]
SIZE = (320, 240)
ROWS_OF_A_FILE = 2000
VALIDATION_ROWS = 50
MODEL = ("--model", "lclipseg-mbv3s", "--guidance", "none", "--backbone_weights", "none")
SIZES = ("--batch_size", "32", "--crop_size", "64", "64", "--shortest_edge", "64")


def write_rows(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    files = {
        f"train-{first:06d}": range(first, min(first + ROWS_OF_A_FILE, rows))
        for first in range(0, rows, ROWS_OF_A_FILE)
    }
    files["validation"] = range(rows, rows + VALIDATION_ROWS)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_file, folder), files.keys(), files.values()))
    (folder / "classes.json").write_text('["dark", "middle", "bright"]')  # last: the set is complete


def _write_file(folder: Path, name: str, numbers: range) -> None:
    photograph = np.asarray(Image.open(ROOT / "docs" / "demo" / "street.jpg").convert("RGB"))
    columns: dict[str, list[bytes]] = {"image": [], "mask": []}
    for number in numbers:
        random = np.random.default_rng(number)
        top, left = random.integers(0, np.subtract(photograph.shape[:2], SIZE[::-1]))
        pixels = photograph[top : top + SIZE[1], left : left + SIZE[0]]
        columns["image"].append(_encoded((pixels * random.uniform(0.7, 1.0)).astype(np.uint8), "JPEG", quality=85))
        columns["mask"].append(_encoded((pixels.mean(-1) // 86).astype(np.uint8), "PNG"))
    parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet", row_group_size=100)


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def measure(folder: Path, output: Path, rows: int, options: list[str]) -> None:
    """Train one epoch in a process of its own and print its resident memory, in MB of 10^6 bytes."""
    command = [
        sys.executable,
        str(ROOT / "scripts" / "train.py"),
        *MODEL,
        *SIZES,
        "--epochs",
        "1",
        "--trackers",
        "none",
    ]
    command += [*options, "--data", str(folder), "--output_dir", str(output)]
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    seen: list[float] = []
    while process.poll() is None:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        seen += [int(found[1]) * 1024 / 1e6] if found and (output / "run.json").is_file() else []
        time.sleep(0.5)
    parts = [max(seen[len(seen) * tenth // 10 : len(seen) * (tenth + 1) // 10]) for tenth in range(10)]
    progress = json.loads((output / "last" / "progress.json").read_text())
    print(
        f"{' '.join(options)}, {rows} rows: {time.monotonic() - began:.0f} s, {progress['samples']} samples, status "
        f"{process.returncode}; largest memory in each tenth of the time, MB: {[round(part) for part in parts]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    given = parser.parse_args()
    folder = given.scratch / f"rows-{given.rows}"
    if not (folder / "classes.json").is_file():
        write_rows(folder, given.rows)
    measure(folder, given.scratch / f"run-{given.rows}", given.rows, ["--streaming", "true"])


if __name__ == "__main__":
    main()
