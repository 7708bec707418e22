"""Transformers' own example scripts for semantic segmentation, not a letter changed, on checkpoints that ship here.

They are given a data set with classes of its own. It, its label file and the metric come from a Hub on the loopback
interface; the model's code is what the checkpoint's folder leads to. Without the scripts, these tests are skipped.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image
from fetch import EXAMPLES, examples_folder
from loopback_hub import running_hub
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import modeling_lclipseg  # noqa: F401  registers the Auto classes

ROOT = Path(__file__).resolve().parents[2]
METRIC = Path(__file__).parent / "stand_ins" / "mean_iou.py"
DATA = "some-org/halves"
SIZE = (368, 384)  # larger than the crops, which are as large as the image processor says; else padded with class 0
NAMES = ["nothing", "sky", "mown grass"]  # of 0 the script of the Trainer counts no pixels
TRAINER, OWN_LOOP = EXAMPLES
OPTIONS = {
    TRAINER: [
        "--do_train", "--do_eval", "--remove_unused_columns", "false", "--report_to", "none", "--use_cpu",
        "--max_steps", "12", "--per_device_train_batch_size", "2", "--per_device_eval_batch_size", "2",
        "--learning_rate", "1e-3",
    ],
    OWN_LOOP: [
        "--max_train_steps", "12", "--per_device_train_batch_size", "2", "--per_device_eval_batch_size", "2",
        "--learning_rate", "1e-3", "--checkpointing_steps", "epoch", "--seed", "0",
    ],
}  # fmt: skip
RUNS = [(TRAINER, "lclipseg-mbv3s-camvid"), (OWN_LOOP, "lclipseg-mbv3s-everyday")]


def encoded(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def parquet(count: int) -> bytes:
    """A table of images that are blue above and green below, and their label maps."""
    random, rows = np.random.default_rng(count), []
    for _ in range(count):
        label = np.ones(SIZE, dtype=np.uint8)
        label[random.integers(100, 260) :], label[:10] = 2, 255
        image = np.where(label[..., None] == 2, (60, 160, 60), (120, 170, 230)) + random.integers(0, 20, (*SIZE, 3))
        rows.append({"image": encoded(image), "label": encoded(label)})
    table = io.BytesIO()
    Dataset.from_list(rows, Features({"image": Image(), "label": Image()})).to_parquet(table)
    return table.getvalue()


@pytest.fixture(scope="module")
def hub():
    files = {f"data/{split}-0.parquet": parquet(count) for split, count in (("train", 6), ("validation", 3))}
    with running_hub() as hub:
        hub.put(f"datasets/{DATA}", {**files, "id2label.json": json.dumps(dict(enumerate(NAMES))).encode()})
        hub.put("spaces/evaluate-metric/mean_iou", {"mean_iou.py": METRIC.read_bytes()})
        yield hub


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def written(request, hub, tmp_path_factory) -> tuple[Path, Path]:
    """The checkpoint that a script was given, and the folder that it wrote."""
    script, name = request.param
    if not (examples_folder() / script).is_file():
        pytest.skip(f"{examples_folder() / script} is not there; tests/hf/fetch.py fetches it from GitHub")
    pytest.importorskip("albumentations", reason="the scripts need albumentations, which `make test-hf` installs")
    folder, checkpoint = tmp_path_factory.mktemp("example"), ROOT / "checkpoints" / name
    given = ["--model_name_or_path", checkpoint, "--dataset_name", DATA, "--output_dir", folder / "out"]
    command = [sys.executable, "-I", examples_folder() / script, *given, "--trust_remote_code", *OPTIONS[script]]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    environment |= hub.environment(str(folder / "home")) | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkpoint, folder / "out"


def test_script_trains_the_data_s_own_classes(written):
    scores = json.loads((written[1] / "all_results.json").read_text())
    assert scores["eval_overall_accuracy"] > 0.8


def test_what_the_script_saves_is_the_fine_tuned_checkpoint(written):
    checkpoint, out = written
    before, after = map(AutoModelForSemanticSegmentation.from_pretrained, written)
    assert after.config.class_names == NAMES
    assert not torch.equal(after.head.decoder.output.weight, before.head.decoder.output.weight)
    sky = [model.class_embeddings[model.config.label2id["sky"]].detach() for model in (before, after)]
    torch.testing.assert_close(*[torch.nn.functional.normalize(vector, dim=0) for vector in sky])
    assert AutoImageProcessor.from_pretrained(out).size == AutoImageProcessor.from_pretrained(checkpoint).size
