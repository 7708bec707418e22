"""A run that is stopped or killed, at any moment, goes on as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from survival import OPTIONS, WAYS, Killed, assert_same_run, in_a_process, kill_at, lost_losses, progress_of, resume
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.training import folder as run_folder
from lclipseg.training.folder import Progress, RunFolder, checksums
from modeling_lclipseg import LClipSegForSemanticSegmentation


@pytest.mark.parametrize("way", WAYS)
def test_killed_run_goes_on_bit_for_bit(workspace, tmp_path, whole_runs, way):
    with pytest.raises(Killed):
        run(workspace, tmp_path / "run", *OPTIONS, *WAYS[way], on_step=kill_at(8))
    resume(workspace, tmp_path / "run", *WAYS[way])
    assert_same_run(whole_runs[way], tmp_path / "run")


def test_number_of_workers_may_change_between(workspace, tmp_path, whole_runs):
    with pytest.raises(Killed):
        run(workspace, tmp_path / "run", *OPTIONS, *WAYS["workers"], on_step=kill_at(5))
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def file_operations(monkeypatch, end_at: int | None) -> list[str]:
    """Note every change that a run makes to its folder; let the run die in place of the one of number `end_at`."""
    done: list[str] = []

    def watched(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def operation(*args, **kwargs):
            if len(done) == end_at:
                raise Killed
            done.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, operation)

    watched(os, "replace")
    watched(shutil, "rmtree")
    watched(os, "fsync")
    watched(RunFolder, "log")
    watched(LClipSegForSemanticSegmentation, "save_pretrained")
    watched(run_folder.TrainingState, "save")
    return done


def test_saving_before_the_first_step_that_counts_changes_nothing(workspace, tmp_path):
    for name, save_every in (("seldom", "0"), ("often", "0.34")):
        with lost_losses(lambda number: number <= 2):
            run(workspace, tmp_path / name, "--save_every", save_every)
    assert_same_run(tmp_path / "seldom", tmp_path / "often")


@pytest.fixture(scope="module")
def operations(workspace, tmp_path_factory) -> int:
    """How many changes a whole run makes to its folder."""
    with pytest.MonkeyPatch.context() as patch:
        done = file_operations(patch, None)
        run(workspace, tmp_path_factory.mktemp("counted") / "run", *OPTIONS)
    return len(done)


# Of all the moments two on every run of the tests, and the rest where there is time.
MOMENTS = [0.35, 0.85, *(pytest.param(index / 120, marks=pytest.mark.slow) for index in range(120))]


@pytest.mark.parametrize("share", MOMENTS)
def test_run_killed_while_it_writes_goes_on_bit_for_bit(
    workspace, tmp_path, monkeypatch, whole_runs, operations, share
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        file_operations(patch, int(share * operations))
        run(workspace, tmp_path / "run", *OPTIONS)
    for place in (tmp_path / "run" / "last", tmp_path / "run" / "last.old"):
        if place.is_dir():  # whatever the moment, what is there is whole
            assert json.loads((place / "sha256.json").read_text()) == checksums(place)
            AutoModelForSemanticSegmentation.from_pretrained(place)
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_run_that_is_really_killed_again_and_again_ends_the_same(workspace, tmp_path, whole_runs, seed):
    """SIGKILL to the process and its workers at random times, ten times, then in peace to the end."""
    options = ("--num_workers", "2")
    draw, output = random.Random(seed), tmp_path / "run"
    for _ in range(10):
        begun = (output / "last").is_dir() or (output / "last.old").is_dir()
        again = ("--resume", "true") if begun else ()
        with in_a_process(tmp_path / "log.txt", run, workspace, output, *OPTIONS, *options, *again) as process:
            while process.is_alive() and not (output / "run.json").is_file():
                time.sleep(0.05)
            time.sleep(draw.uniform(0, 4))
    resume(workspace, output, *options)
    assert_same_run(whole_runs["workers"], output)


def raise_signals(*numbers: int, step: int | None = None) -> Callable[[Progress], None]:
    """After one step, or after every one."""

    def on_step(progress: Progress) -> None:
        for number in numbers if step in (None, progress.step) else ():
            signal.raise_signal(number)

    return on_step


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)],
    ids=["Ctrl-C", "kill", "launcher"],
)
def test_signal_ends_the_step_saves_and_stops(workspace, tmp_path, whole_runs, numbers):
    before = signal.getsignal(numbers[0])
    with pytest.raises(SystemExit) as ended:
        run(workspace, tmp_path / "run", *OPTIONS, on_step=raise_signals(*numbers, step=7))
    assert ended.value.code == 128 + numbers[-1]
    assert progress_of(tmp_path / "run")["step"] == 7
    assert signal.getsignal(numbers[0]) is before
    resume(workspace, tmp_path / "run")
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def test_signal_in_the_last_step_finds_the_run_finished(workspace, tmp_path, whole_runs):
    run(workspace, tmp_path / "run", *OPTIONS, on_step=raise_signals(signal.SIGTERM, step=12))
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def test_second_signal_ends_the_run_at_once(workspace, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(workspace, tmp_path / "run", on_step=raise_signals(signal.SIGINT, signal.SIGINT))


def test_signal_that_is_ignored_from_the_start_stays_so(workspace, tmp_path, whole_runs):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(workspace, tmp_path / "run", *OPTIONS, on_step=raise_signals(signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_run(whole_runs["alone"], tmp_path / "run")


def test_tracked_values_stand_once_after_a_kill(workspace, tmp_path):
    options = (*OPTIONS, "--trackers", "tensorboard")
    run(workspace, tmp_path / "whole", *options)
    with pytest.raises(Killed):
        # step 10, and the last one, are logged, but no later step than 10 is saved
        run(workspace, tmp_path / "run", *options, on_step=kill_at(12))
    run(workspace, tmp_path / "run", *options, "--resume", "true")
    whole, resumed = (tracked_values(tmp_path / name / "lclipseg") for name in ("whole", "run"))
    assert whole == resumed
    assert [step for step, _ in resumed["val_mean_iou"]] == [5, 10, 12]


def tracked_values(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
