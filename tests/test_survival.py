"""A run that is stopped, killed or starved goes on as if nothing had happened, or says what is wrong."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import command_line, run
from transformers import AutoModelForSemanticSegmentation

from modeling_lclipseg import LClipSegForSemanticSegmentation
from scripts.toolkit import run_folder
from scripts.toolkit.cli import InputError
from scripts.toolkit.run_folder import RunFolder, checksums
from scripts.toolkit.training_run import TrainingRun

ROOT = Path(__file__).resolve().parents[1]
# Twelve steps; validations in the middle of a pass, and checkpoints besides.
OPTIONS = ("--epochs", "4", "--eval_every", "1.7", "--save_every", "0.7", "--vector_noise", "0.1")
WAYS = {
    "alone": (),
    "workers": ("--num_workers", "2"),
    "accumulated": ("--accumulation_steps", "2", "--epochs", "8"),
    "bf16": ("--mixed_precision", "bf16"),
}


class Killed(BaseException):
    """In place of SIGKILL: nothing but `finally` stands between it and the end."""


@pytest.fixture(scope="session")
def whole_runs(workspace, tmp_path_factory) -> dict[str, Path]:
    """Uninterrupted runs, made when they are first asked for."""
    folder = tmp_path_factory.mktemp("whole")

    class Runs(dict):
        def __missing__(self, way: str) -> Path:
            run(workspace, folder / way, *OPTIONS, *WAYS[way])
            self[way] = folder / way
            return self[way]

    return Runs()


def resume(workspace: Path, output: Path, *options: str) -> None:
    """Go on, or begin where no checkpoint was reached, as a user would."""
    begun = (output / "last").is_dir() or (output / "last.old").is_dir()
    run(workspace, output, *OPTIONS, *options, *(("--resume", "true") if begun else ()))


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, moments, random states, progress and logs, bit for bit."""
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for name in ("best", "last"):
        assert checksums(one / name) == checksums(other / name)
    assert {path.name for path in other.iterdir()} == {"best", "last", "metrics.jsonl", "run.json"}


def kill_at_step(monkeypatch, step: int) -> None:
    original = TrainingRun._show

    def show(self, *args):
        if self.progress.step == step:
            raise Killed
        original(self, *args)

    monkeypatch.setattr(TrainingRun, "_show", show)


@pytest.mark.parametrize("way", WAYS)
def test_killed_run_goes_on_bit_for_bit(workspace, tmp_path, monkeypatch, whole_runs, way):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 8)
        run(workspace, tmp_path / "run", *OPTIONS, *WAYS[way])
    resume(workspace, tmp_path / "run", *WAYS[way])
    assert_same_run(whole_runs[way], tmp_path / "run")


def test_number_of_workers_may_change_between(workspace, tmp_path, monkeypatch, whole_runs):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 5)
        run(workspace, tmp_path / "run", *OPTIONS, *WAYS["workers"])
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def file_operations(monkeypatch, kill_at: int | None) -> list[str]:
    """Note every change that a run makes to its folder; let the run die in place of the one of number `kill_at`."""
    done: list[str] = []

    def watched(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def operation(*args, **kwargs):
            if len(done) == kill_at:
                raise Killed
            done.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, operation)

    watched(os, "replace")
    watched(shutil, "rmtree")
    watched(run_folder, "_sync")
    watched(RunFolder, "log")
    watched(LClipSegForSemanticSegmentation, "save_pretrained")
    watched(run_folder.TrainingState, "save")
    return done


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
def test_run_killed_while_it_writes_goes_on_bit_for_bit(workspace, tmp_path, monkeypatch, whole_runs, share):
    kill_and_resume(workspace, tmp_path, monkeypatch, whole_runs["alone"], share)


@pytest.mark.slow
@pytest.mark.parametrize("share", [index / 120 for index in range(120)])
def test_run_killed_at_any_write_goes_on_bit_for_bit(workspace, tmp_path, monkeypatch, whole_runs, share):
    kill_and_resume(workspace, tmp_path, monkeypatch, whole_runs["alone"], share)


def kill_and_resume(workspace: Path, folder: Path, monkeypatch, whole: Path, share: float) -> None:
    with monkeypatch.context() as patch:
        total = len(count_operations(workspace, folder / "counted", patch))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        file_operations(patch, int(share * total))
        run(workspace, folder / "run", *OPTIONS)
    for place in (folder / "run" / "last", folder / "run" / "last.old"):
        if place.is_dir():  # whatever the moment, what is there is whole
            assert json.loads((place / "sha256.json").read_text()) == checksums(place)
            AutoModelForSemanticSegmentation.from_pretrained(place)
    resume(workspace, folder / "run")
    assert_same_run(whole, folder / "run")


COUNTED: list[str] = []


def count_operations(workspace: Path, folder: Path, monkeypatch) -> list[str]:
    if not COUNTED:
        done = file_operations(monkeypatch, None)
        run(workspace, folder, *OPTIONS)
        COUNTED.extend(done)
    return COUNTED


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_run_that_is_really_killed_again_and_again_ends_the_same(workspace, tmp_path, whole_runs, seed):
    """SIGKILL to the process and its workers at random times, ten times, then in peace to the end."""
    options = ("--num_workers", "2")
    draw, output = random.Random(seed), tmp_path / "run"
    for _ in range(10):
        begun = (output / "last").is_dir() or (output / "last.old").is_dir()
        argv = command_line(workspace, output, *OPTIONS, *options, *(("--resume", "true") if begun else ()))
        process = subprocess.Popen(
            [sys.executable, "scripts/train.py", *argv], cwd=ROOT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None and not (output / "run.json").is_file():
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 12))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    resume(workspace, output, *options)
    assert_same_run(whole_runs["workers"], output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_step_saves_and_stops(workspace, tmp_path, monkeypatch, whole_runs, number):
    original = TrainingRun._show

    def show(self, *args):
        original(self, *args)
        if self.progress.step == 7:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(TrainingRun, "_show", show)
        run(workspace, tmp_path / "run", *OPTIONS)
    assert ended.value.code == 128 + number
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"] == 7
    assert signal.getsignal(number) is before
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def test_second_signal_ends_the_run_at_once(workspace, tmp_path, monkeypatch):
    def show(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(TrainingRun, "_show", show)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, tmp_path / "run")


def test_tracked_values_stand_once_after_a_kill(workspace, tmp_path, monkeypatch):
    options = (*OPTIONS, "--trackers", "tensorboard")
    run(workspace, tmp_path / "whole", *options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 12)  # after step 10 was logged, before its successor was saved
        run(workspace, tmp_path / "run", *options)
    run(workspace, tmp_path / "run", *options, "--resume", "true")
    whole, resumed = (tracked_values(tmp_path / name / "lclipseg") for name in ("whole", "run"))
    assert whole == resumed
    assert [step for step, _ in resumed["val_mean_iou"]] == [5, 10, 12]


def tracked_values(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


# ------------------------------------------------------------------------------------------------------ full disks


@pytest.mark.parametrize("place", ["/proc/run", "{file}/run"])
def test_folder_that_cannot_be_written_to_is_named_before_any_work(workspace, tmp_path, place):
    (tmp_path / "file").write_text("")
    place = place.format(file=tmp_path / "file")
    with pytest.raises(InputError, match=rf"--output_dir {place} cannot be written to"):
        run(workspace, Path(place))


def test_disk_too_small_is_noticed_before_any_work(workspace, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(InputError, match=r"has 2 MB left, but the checkpoints of this run need \d+ MB"):
        run(workspace, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("limit", [1_000, 100_000, 2_000_000])
def test_disk_that_fills_up_leaves_the_checkpoint_before(workspace, tmp_path, monkeypatch, whole_runs, limit):
    """No file may become longer than the limit from step 6 on: as on a full disk, writing fails half way through."""
    original, unlimited = TrainingRun._show, resource.getrlimit(resource.RLIMIT_FSIZE)

    def show(self, *args):
        original(self, *args)
        if self.progress.step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_show", show)
        try:
            with pytest.raises(InputError, match=r"could not be written: .*last is as it was.*--resume true"):
                run(workspace, tmp_path / "run", *OPTIONS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"] == 5
    assert not (tmp_path / "run" / "last.new").exists()
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


# --------------------------------------------------------------------------------------------- what is not the same


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (halve, "model.safetensors"),
        (change_a_bit, "training_state/optimizer.safetensors"),
        (Path.unlink, "training_state/random-0.safetensors"),
        (change_a_bit, "progress.json"),
        (Path.unlink, "sha256.json"),
    ],
)
def test_damaged_checkpoint_is_named_and_left_alone(workspace, tmp_path, whole_runs, damage, name):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    damage(copied / "last" / name)
    before = checksums(copied)
    with pytest.raises(InputError, match=rf"cannot be resumed from .*last: .*{name}.*Nothing was changed"):
        resume(workspace, copied)
    assert checksums(copied) == before


@pytest.mark.parametrize("change", ["shape", "names", "moments"])
def test_checkpoint_of_another_model_is_refused(workspace, tmp_path, whole_runs, change):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    path = copied / "last" / ("training_state/optimizer.safetensors" if change == "moments" else "model.safetensors")
    tensors = load_file(path)
    name = next(iter(tensors))
    if change == "names":
        tensors["another"] = tensors.pop(name)
    else:
        tensors[name] = torch.zeros(3, 5)
    save_file(tensors, path)
    (copied / "last" / "sha256.json").write_text(json.dumps(checksums(copied / "last")))
    with pytest.raises(InputError, match=rf"of another model: .*{name}"):
        resume(workspace, copied)


def test_pickle_in_place_of_a_state_is_not_opened(workspace, tmp_path, whole_runs):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    for path in (copied / "last").rglob("*.safetensors"):
        torch.save(Harm(), path)
    (copied / "last" / "sha256.json").write_text(json.dumps(checksums(copied / "last")))
    with pytest.raises(InputError, match="cannot be resumed"):
        resume(workspace, copied)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("change", ["picture", "mask", "more", "classes"])
def test_run_is_not_resumed_on_other_data(workspace, tmp_path, whole_runs, change):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    if change == "classes":
        (data / "classes.json").write_text('["sky", "tree"]')
    elif change == "more":
        for name in ("images", "masks"):
            shutil.copy(data / "train" / name / "0.png", data / "train" / name / "new.png")
    else:
        folder = data / "train" / ("masks" if change == "mask" else "images")
        shutil.copy(folder / "0.png", folder / "1.png")
    with pytest.raises(InputError, match="class_names was" if change == "classes" else "data_fingerprint was"):
        resume(workspace, copied, "--data", str(data))


def test_data_may_have_moved(workspace, tmp_path, whole_runs):
    copied = shutil.copytree(whole_runs["alone"], tmp_path / "run")
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    resume(workspace, copied, "--data", str(data))
    assert_same_run(whole_runs["alone"], copied)


@pytest.mark.parametrize(
    ("option", "value"), [("--guidance", "none"), ("--epochs", "3"), ("--seed", "1"), ("--crop_size", "48 48")]
)
def test_run_is_not_resumed_as_another_one(workspace, whole_runs, option, value):
    with pytest.raises(InputError, match=option.removeprefix("--")):
        run(workspace, whole_runs["alone"], *OPTIONS, option, *value.split(), "--resume", "true")


def test_finished_run_says_so_and_changes_nothing(workspace, whole_runs, caplog):
    before = checksums(whole_runs["alone"])
    with caplog.at_level("INFO", logger="lclipseg"):
        resume(workspace, whole_runs["alone"])
    assert "finished: 12 steps" in caplog.text
    assert checksums(whole_runs["alone"]) == before


def test_run_that_stopped_before_its_first_checkpoint_can_begin_again(workspace, tmp_path, monkeypatch, whole_runs):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at_step(patch, 1)
        run(workspace, tmp_path / "run", *OPTIONS)
    run(workspace, tmp_path / "run", *OPTIONS)
    assert_same_run(whole_runs["alone"], tmp_path / "run")


# ------------------------------------------------------------------------------------------------------- bad steps


def test_step_that_is_not_finite_is_left_out_and_counted(workspace, tmp_path, monkeypatch):
    original, calls = LClipSegForSemanticSegmentation._loss, []

    def loss(self, *args):
        calls.append(None)
        return original(self, *args) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(LClipSegForSemanticSegmentation, "_loss", loss)
    assert run(workspace, tmp_path / "run", *OPTIONS)["skipped_steps"] == 1
    weights = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_run_that_diverges_keeps_its_last_good_checkpoint(workspace, tmp_path, monkeypatch):
    original, calls = LClipSegForSemanticSegmentation._loss, []

    def loss(self, *args):
        calls.append(None)
        return original(self, *args) * (float("nan") if len(calls) > 12 else 1)

    monkeypatch.setattr(LClipSegForSemanticSegmentation, "_loss", loss)
    with pytest.raises(InputError, match="diverged"):
        run(workspace, tmp_path / "run", *OPTIONS, "--epochs", "20")
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["skipped_in_a_row"] < 20
    weights = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def damaged_data(workspace: Path, folder: Path) -> Path:
    """The data with one of the six training pictures cut short."""
    data = shutil.copytree(workspace / "data", folder)
    halve(data / "train" / "images" / "3.png")
    return data


@pytest.mark.parametrize("workers", ["0", "2"])
def test_damaged_picture_is_named_left_out_and_counted(workspace, tmp_path, caplog, workers):
    data = damaged_data(workspace, tmp_path / "data")
    options = ("--data", str(data), "--max_unreadable", "0.2", "--num_workers", workers)
    with caplog.at_level("WARNING", logger="lclipseg"):
        assert run(workspace, tmp_path / "run", *options)["unreadable_samples"] == 2  # once in each of two passes
    assert caplog.text.count("3.png: damaged or cut short") == 1


def test_too_many_damaged_pictures_end_the_run_with_its_state_saved(workspace, tmp_path):
    data = damaged_data(workspace, tmp_path / "data")
    with pytest.raises(InputError, match=r"--max_unreadable\): .*3\.png: damaged"):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert (
        run(workspace, tmp_path / "run", "--data", str(data), "--max_unreadable", "1", "--resume", "true")["step"] == 6
    )


def test_damaged_validation_picture_costs_no_step(workspace, tmp_path):
    data = shutil.copytree(workspace / "data", tmp_path / "data")
    whole = (data / "val" / "images" / "1.png").read_bytes()
    halve(data / "val" / "images" / "1.png")
    with pytest.raises(InputError, match=r"1\.png: damaged"):
        run(workspace, tmp_path / "run", "--data", str(data))
    assert json.loads((tmp_path / "run" / "last" / "progress.json").read_text())["step"] == 3
    (data / "val" / "images" / "1.png").write_bytes(whole)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    del described["data_fingerprint"]  # the data did change
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    assert run(workspace, tmp_path / "run", "--data", str(data), "--resume", "true")["step"] == 6
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
