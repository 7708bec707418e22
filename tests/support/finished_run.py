"""A tiny run of train.py with measured results, and what publish.py builds from it; made once for all tests."""

import json
import shutil
from pathlib import Path

import tiny_run
import torch
from made_once import made_once
from tiny_model import NAMES
from written_data import write_data

from lclipseg.prediction.arguments import EvaluateArguments
from lclipseg.prediction.scoring import score
from lclipseg.publishing.arguments import PublishArguments
from lclipseg.publishing.publish import publish
from modeling_lclipseg import WordBank

REPO = "some-org/tiny-street"
SPLITS = ("train", "val")


def finished_run(root: Path) -> Path:
    """The run's folder, `root/run`. Tests that change it take a copy."""
    return made_once(root, make_run) / "run"


def make_run(root: Path) -> None:
    root.mkdir()
    write_data(root / "data")
    for split in SPLITS:
        shutil.copytree(root / "data" / "test", root / "data" / split)
    (root / "tiny.yaml").write_text(tiny_run.PRESET)
    vectors = torch.randn(len(NAMES), 32, generator=torch.Generator().manual_seed(0))
    WordBank(tuple(NAMES), vectors, "some/tower").save(root / "bank.safetensors")
    tiny_run.run(root, root / "run")
    record = json.loads((root / "run" / "run.json").read_text())
    (root / "run" / "run.json").write_text(json.dumps({**record, "commit": "0123456789"}))  # wherever the tests run
    measure(root / "run")


def measure(run: Path, **options) -> None:
    """Score the run's best checkpoint, as its user would."""
    arguments = {"data": str(run.parent / "data"), "split": "test", "out": str(run), **options}
    score(str(run / "best"), EvaluateArguments(**arguments))


def published_folder(root: Path) -> Path:
    """The folder that a dry run of publish.py writes."""
    run = str(finished_run(root))
    return made_once(
        root / "published", lambda out: publish(run, PublishArguments(repo=REPO, out=str(out), dry_run=True))
    )
