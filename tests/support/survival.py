"""How tests stop a run, let it go on, and compare it with one that was left in peace."""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

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


def _begin(log: Path, work: Callable, arguments: tuple, settings: dict) -> None:
    os.setsid()
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    work(*arguments, **settings)


def fail(progress: Progress) -> None:
    """A callback for the end of a step."""
    raise RuntimeError("unforeseen")


@contextmanager
def in_a_process(log: Path, work: Callable, *arguments, **settings) -> Iterator[multiprocessing.Process]:
    """`work(...)` in a new process, the first of a group of its own, of which nothing is left afterwards; what is said
    there goes to the end of `log`."""
    # Not a fork of this process, which may have used autograd, whose threads a fork does not take along, but of one
    # that has imported the same.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["two_processes"])
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    process = context.Process(target=_begin, args=(log, work, arguments, settings))
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
