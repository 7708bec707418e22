"""How tests stop a run, let it go on, and compare it with one that was left in peace."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiny_run import run
from torch.nn.modules.module import register_module_forward_hook

from lclipseg.training.folder import Progress, checksums
from modeling_lclipseg import LClipSegForSemanticSegmentation

# Twelve steps; validations in the middle of an epoch, and checkpoints besides.
OPTIONS = ("--epochs", "4", "--eval_every", "1.7", "--save_every", "0.7", "--vector_noise", "0.1")
WAYS = {
    "alone": (),
    "workers": ("--num_workers", "2"),
    "accumulated": ("--accumulation_steps", "2", "--epochs", "8"),
    "bf16": ("--mixed_precision", "bf16"),
    "averaged": ("--ema", "0.9", "--vectors", "learned"),
    "weighted": ("--dice", "1", "--class_weights", "inverse_sqrt", "--repeat_rare", "0.9"),
}


class Killed(BaseException):
    """In place of SIGKILL: nothing but `finally` stands between it and the end."""


def resume(workspace: Path, output: Path, *options: str) -> None:
    """Go on, or begin where no checkpoint was reached, as a user would."""
    begun = (output / "last").is_dir() or (output / "last.old").is_dir()
    run(workspace, output, *OPTIONS, *options, *(("--resume", "true") if begun else ()))


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, moments, random states, progress and logs, bit for bit."""
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for name in ("best", "last"):
        assert checksums(one / name) == checksums(other / name)
    files = {"best", "first_batch.jpg", "last", "metrics.jsonl", "predictions.jpg", "run.json"}
    assert {path.name for path in other.iterdir()} == files


def progress_of(run_folder: Path) -> dict:
    """Where the checkpoint `last` stands."""
    return json.loads((run_folder / "last" / "progress.json").read_text())


def _begin(workspace: Path, output: Path, options: tuple[str, ...], settings: dict) -> None:
    os.setsid()
    run(workspace, output, *options, **settings)


def fail(progress: Progress) -> None:
    """A callback for the end of a step."""
    raise RuntimeError("unforeseen")


@contextmanager
def in_a_process(workspace: Path, output: Path, *options: str, **settings) -> Iterator[multiprocessing.Process]:
    """A run in a new process, the first of a group of its own, of which nothing is left afterwards."""
    # Not forked: this process may have used autograd, whose threads a fork does not take along.
    process = multiprocessing.get_context("spawn").Process(target=_begin, args=(workspace, output, options, settings))
    process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


def kill_at(step: int) -> Callable[[Progress], None]:
    """For `run(..., on_step=...)`."""

    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return on_step


@contextmanager
def lost_losses(is_lost: Callable[[int], bool]) -> Iterator[None]:
    """Let the losses that `is_lost` says, counted from 1, be no numbers."""
    calls: list[None] = []

    def spoil(module, _, output) -> None:
        if isinstance(module, LClipSegForSemanticSegmentation) and output.loss is not None:
            calls.append(None)
            if is_lost(len(calls)):
                output.loss = output.loss * float("nan")

    hook = register_module_forward_hook(spoil)
    try:
        yield
    finally:
        hook.remove()
