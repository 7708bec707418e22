"""A data folder, a preset and a word bank so small that train.py takes a second, and a way to run it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from lclipseg.console import arguments
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments
from lclipseg.training.folder import Progress
from lclipseg.training.session import train
from modeling_lclipseg import WordBank

PRESET = """
backbone_weights: none
licence: apache-2.0
config:
  backbone_config: {model_type: timm_backbone, backbone: test_efficientnet, out_indices: [1, 2, 3, 4]}
  hidden_size: 16
  num_attention_heads: 2
  decoder_hidden_size: 16
"""


# Of a second data set; "street" is the first one's "road" by another name, and has another id.
OTHER_CLASSES = {"classes": ["street", "tree"], "prompts": {"street": "road"}}


def make_workspace(root: Path) -> Path:
    """Write `data/`, `other/`, `tiny.yaml` and `bank.safetensors` into `root`."""
    random = np.random.default_rng(0)
    write_halves(root / "data", ["sky", "road"], {"train": 6, "val": 2}, random)
    write_halves(root / "other", OTHER_CLASSES, {"train": 4, "val": 2}, random)
    (root / "tiny.yaml").write_text(PRESET)
    words = ("sky", "road", "tree", "car")
    WordBank(words, torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), "some/tower").save(
        root / "bank.safetensors"
    )
    return root


def write_halves(folder: Path, classes: object, counts: dict[str, int], random: np.random.Generator) -> None:
    """Images of class 0 above and class 1 below, each in a colour of its own."""
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((48, 64), dtype=np.uint8)
            mask[random.integers(10, 38) :] = 1
            pixels = np.stack([60 + 120 * mask, 90 + 0 * mask, 200 - 150 * mask], -1) + random.integers(
                0, 20, (48, 64, 3)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{index}.png")
    (folder / "classes.json").write_text(json.dumps(classes))


def command_line(workspace: Path, output: Path, *options: str) -> list[str]:
    """Arguments of `lclipseg train` for a run of six steps; later options win, and --start_from brings its network."""
    fixed = {
        "model": workspace / "tiny.yaml", "data": workspace / "data", "bank": workspace / "bank.safetensors",
        "output_dir": output, "crop_size": "32 32", "batch_size": 2, "epochs": 2, "eval_every": 1,
        "warmup_steps": 2, "trackers": "none", "shortest_edge": 48,
    }  # fmt: skip
    if "--start_from" in options:
        del fixed["model"], fixed["bank"]
    argv = [token for name, value in fixed.items() for token in (f"--{name}", *str(value).split())]
    return [*argv, *options]


def run(workspace: Path, output: Path, *options: str, on_step: Callable[[Progress], None] | None = None) -> dict:
    """Run a training; the last line of its metrics."""
    argv = command_line(workspace, output, *options)
    if "WORLD_SIZE" not in os.environ:  # accelerate takes one precision a process, and one group of processes a launch
        AcceleratorState._reset_state(reset_partial_state=True)
    train(*arguments.parse("", ModelArguments, DataArguments, RunArguments, argv=argv), on_step)
    return json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
