"""How tests stop a run, let it go on, and compare it with one that was left in peace."""

from pathlib import Path

from tiny_run import run

from lclipseg.training.folder import checksums
from lclipseg.training.loop import TrainingRun

# Twelve steps; validations in the middle of an epoch, and checkpoints besides.
OPTIONS = ("--epochs", "4", "--eval_every", "1.7", "--save_every", "0.7", "--vector_noise", "0.1")
WAYS = {
    "alone": (),
    "workers": ("--num_workers", "2"),
    "accumulated": ("--accumulation_steps", "2", "--epochs", "8"),
    "bf16": ("--mixed_precision", "bf16"),
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
    assert {path.name for path in other.iterdir()} == {"best", "first_batch.jpg", "last", "metrics.jsonl", "run.json"}


def kill_at_step(monkeypatch, step: int) -> None:
    original = TrainingRun._show

    def show(self, *args):
        if self.progress.step == step:
            raise Killed
        original(self, *args)

    monkeypatch.setattr(TrainingRun, "_show", show)
