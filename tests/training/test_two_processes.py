"""Two CPU processes, launched as a user does it, do what one does: scores, training, resuming, streams. The processes
that read for a run end with it."""

import json
import os
import signal
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from data_folders import write_classes, write_pairs
from numbered_tables import write_numbered
from safetensors.torch import load_file
from survival import fail, in_a_process
from tiny_model import NAMES, tiny_model
from tiny_run import make_workspace, run
from two_processes import TRAINING, launch

from lclipseg.data.open import load_segmentation_data
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.training.arguments import RunArguments
from lclipseg.training.steps import Schedule
from modeling_lclipseg import LClipSegImageProcessor


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What two_processes.py works on, and what it found."""
    root = make_workspace(tmp_path_factory.mktemp("two"))
    write_numbered(root / "even", files=4, rows=5)
    write_numbered(root / "uneven", files=3, rows=5)
    write_classes(root / "seven", NAMES)
    write_pairs(root / "seven" / "train", list("abcdefg"))
    tiny_model().save_pretrained(root / "model")
    with in_a_process(root / "log.txt", launch, root, root) as process:
        process.join(300)
        assert process.exitcode == 0, (root / "log.txt").read_text()[-3000:]
    return root


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    """What each process reports."""
    return [json.loads((folder / f"found-{process}.json").read_text()) for process in range(2)]


def test_two_processes_run(found):
    assert [one["processes"] for one in found] == [2, 2]


def test_scores_are_those_of_one_process(folder, found):
    data = load_segmentation_data(folder / "seven", "train")
    expected = evaluate_model(tiny_model(), LClipSegImageProcessor(), data).to_dict()
    assert found[0]["scores"] == found[1]["scores"] == json.loads(json.dumps(expected))


def test_training_is_that_of_one_process_with_the_same_batches(folder, tmp_path):
    run(folder, tmp_path / "one", *TRAINING, "--batch_size", "2")
    one, two = (load_file(path / "last" / "model.safetensors") for path in (tmp_path / "one", folder / "trained"))
    assert one.keys() == two.keys()
    # A step of AdamW is its rate times mean/sqrt(variance) of the gradients, which is of the order of 1 however large
    # they are. Sums in another order give gradients other by some 1e-5 of themselves where terms cancel, and thus a
    # parameter other by as large a share of the way that it could go: of the sum of the rates. A hundredth is allowed.
    # The gradient of the presence bias is zero, see below, and what rounding leaves of it may lead either way.
    way = sum(rates(folder / "trained"))
    for name, value in one.items():
        apart = (two[name] - value).abs().max().item()
        assert apart <= (2 if name == "head.presence.bias" else 0.01) * way, name
    lines = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (tmp_path / "one", folder / "trained")
    ]
    assert len(lines[0]) == len(lines[1]) == 3
    for alone, together in zip(*lines, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["mean_iou"] == pytest.approx(alone["mean_iou"], abs=1e-3)


def rates(run_folder: Path) -> list[float]:
    """The head's learning rate in every step."""
    record = json.loads((run_folder / "run.json").read_text())
    arguments = RunArguments(**{field.name: record["arguments"][field.name] for field in fields(RunArguments)})
    schedule = Schedule.of(arguments, record["steps"])
    return [schedule.learning_rate * schedule.rate(step) for step in range(schedule.steps)]


def test_bias_that_all_classes_share_has_no_gradient():
    """It changes no softmax: a pixel adds the sum of its probabilities less 1, the rounding of K + 1 numbers."""
    model = tiny_model()
    pixels = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    model(pixel_values=pixels, labels=torch.arange(3).repeat(2, 64, 32)).loss.backward()
    assert model.head.presence.bias.grad.abs().item() <= (len(NAMES) + 1) * torch.finfo(torch.float32).eps


def test_killed_run_of_two_goes_on_bit_for_bit(folder):
    one, two = (load_file(folder / name / "last" / "model.safetensors") for name in ("trained", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (folder / "trained" / "metrics.jsonl").read_text() == (folder / "killed" / "metrics.jsonl").read_text()


def test_fewer_processes_than_asked_for_are_an_error(found):
    assert all("3 processes were asked for but 2 run" in one["too_few"] for one in found)


def test_fault_that_one_process_meets_ends_both_with_the_run_saved(folder, found):
    said = sorted(one["wrong_image"] for one in found)
    assert "2.tif: this image holds NaN" in said[0]
    assert said[1].startswith("another process was given data")
    assert (folder / "faulty" / "last" / "progress.json").is_file()


@pytest.mark.parametrize(("name", "rows"), [("even", 20), ("uneven", 15)])
def test_every_row_of_a_stream_goes_to_one_process_in_every_epoch(found, name, rows):
    for number in range(2):
        assert sorted(found[0][name][number] + found[1][name][number]) == list(range(rows))


def test_weights_that_processes_share_are_saved_and_restored_whole(found):
    for one in found:
        assert one["shared"]["same_before"]
        assert one["shared"]["changed"]
        assert one["shared"]["restored"]
        assert one["shared"]["norms"][0] == pytest.approx(one["shared"]["norms"][1], rel=1e-6)


def test_network_with_shared_weights_is_scored_on_every_image_once(found, folder):
    data = load_segmentation_data(folder / "seven", "train")
    assert all(one["shared"]["pixels"] == sum(sample.mask.size for sample in data) for one in found)


def test_signal_to_the_readers_of_data_too_saves_and_stops(workspace, tmp_path):
    """As schedulers send it: to the whole process group."""
    options = ("--epochs", "3000", "--eval_every", "3000", "--num_workers", "2", "--save_every", "1")
    with in_a_process(tmp_path / "log.txt", run, workspace, tmp_path / "run", *options) as process:
        while process.is_alive() and not (tmp_path / "run" / "last").is_dir():
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGTERM)
        process.join(120)
        assert process.exitcode == 128 + signal.SIGTERM
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_unforeseen_error_ends_the_readers_too(workspace, tmp_path):
    """They ignore SIGTERM, with which Python ends its processes before it waits for them."""
    options = ("--num_workers", "2")
    with in_a_process(tmp_path / "log.txt", run, workspace, tmp_path / "run", *options, on_step=fail) as process:
        process.join(120)
        assert process.exitcode == 1
    assert (tmp_path / "log.txt").read_text().rstrip().endswith("RuntimeError: unforeseen")
