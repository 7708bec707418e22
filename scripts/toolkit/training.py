"""The training loop: optimiser, schedule, checkpoints and exact resume, around one accelerate `Accelerator`."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import BatchSampler, DataLoader
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from scripts.toolkit.augmentation import PositionSampler, TrainingSamples
from scripts.toolkit.cli import InputError

logger = logging.getLogger("lclipseg")

# What a resumed run may be told differently: paths, machine and reporting.
MAY_CHANGE = frozenset(
    {
        "arguments",
        "versions",
        "machine",
        "commit",
        "date",
        "output_dir",
        "resume",
        "data",
        "bank",
        "text_model",
        "backbone_weights",
    }
    | {"cache", "cache_on_device", "num_workers", "trackers", "eval_every", "expected_processes"}
)


@dataclass(frozen=True)
class Schedule:
    """
    How a run is optimised.

    Args:
        steps (`int`): Optimiser steps in all.
        batch_size (`int`): Images a process takes in one forward pass.
        accumulation_steps (`int`): Forward passes a step.
        learning_rate (`float`): Peak rate of everything but the backbone.
        backbone_lr_scale (`float`): The backbone's rate as a share of that.
        weight_decay (`float`): AdamW's decay of matrices and kernels; vectors and scalars have none.
        warmup_steps (`int`): Steps over which the rate rises linearly from 0.
        power (`float`): Exponent of the polynomial decay to 0 after that.
        max_grad_norm (`float`): Gradients are scaled down to this norm.
    """

    steps: int
    batch_size: int
    accumulation_steps: int
    learning_rate: float
    backbone_lr_scale: float
    weight_decay: float
    warmup_steps: int
    power: float
    max_grad_norm: float

    def __post_init__(self):
        if self.warmup_steps >= self.steps > 1:
            raise InputError(f"{self.warmup_steps} steps of warm-up leave nothing of a run of {self.steps} steps.")

    def rate(self, step: int) -> float:
        """Share of the peak rate at `step`, 0 to 1."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return (1 - (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)) ** self.power


def build_optimizer(model: PreTrainedModel, schedule: Schedule) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW over the trainable parameters, the backbone's slower, and its schedule."""
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": schedule.learning_rate * (schedule.backbone_lr_scale if in_backbone else 1),
                "weight_decay": schedule.weight_decay if decayed else 0.0,
            }
            for (in_backbone, decayed), parameters in groups.items()
        ]
    )
    return optimizer, LambdaLR(optimizer, schedule.rate)


@dataclass
class Progress:
    """Where a run stands. Written beside every checkpoint."""

    step: int = 0
    best_mean_iou: float = float("-inf")
    best_step: int = -1


@dataclass(frozen=True)
class StepReport:
    """
    What one optimiser step tells: loss (mean over its forward passes), rate, seconds spent on waiting for data, and
    their share of its time.
    """

    step: int
    loss: torch.Tensor
    learning_rate: float
    data_seconds: float
    data_share: float


class RunFolder:
    """
    Everything of a run in one folder: `run.json`, `metrics.jsonl`, `last/` (with `training_state/`, for resuming) and
    `best/`. Both hold a loadable model and image processor.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The newest complete checkpoint: `last`, or, where a stop fell between two renames, the one before."""
        old = self.path / "last.old"
        return old if old.is_dir() and not (self.path / "last").is_dir() else self.path / "last"

    def start(self, resume: bool) -> None:
        """Make the folder; refuse to write over a run unless it is resumed."""
        if resume and not self.last.is_dir():
            raise InputError(f"nothing to resume: {self.path} holds no checkpoint `last`. Leave --resume out.")
        if not resume and self.last.is_dir():
            raise InputError(f"{self.path} holds a run already. Give --resume true to go on, or another --output_dir.")
        self.path.mkdir(parents=True, exist_ok=True)

    def describe(self, description: dict[str, Any]) -> None:
        """Write what the run is; everything that its result depends on, and when and where it began."""
        (self.path / "run.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    def check_same(self, description: dict[str, Any]) -> None:
        """Refuse to resume a run under another description; where it runs, and how often it reports, may change."""
        begun = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        now = json.loads(json.dumps(description))
        before, after = ({**part, **part["arguments"]} for part in (begun, now))
        changed = [
            f"{name} was {before[name]!r} and is {after[name]!r}"
            for name in after
            if name in before and name not in MAY_CHANGE and before[name] != after[name]
        ]
        if changed:
            raise InputError(
                f"the run in {self.path} cannot be resumed as another one: {'; '.join(changed)}. Give the arguments "
                "it was begun with, or another --output_dir."
            )

    def log(self, line: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(
        self,
        name: str,
        accelerator: Accelerator,
        model: PreTrainedModel,
        image_processor: BaseImageProcessor,
        progress: Progress,
        training_state: bool,
    ) -> None:
        """Write a checkpoint beside the old one, then put it in its place: a stop at any time leaves a whole one."""
        new, old, place = (self.path / f"{name}{suffix}" for suffix in (".new", ".old", ""))
        if accelerator.is_main_process:
            shutil.rmtree(new, ignore_errors=True)
            accelerator.unwrap_model(model).save_pretrained(new)
            image_processor.save_pretrained(new)
            (new / "progress.json").write_text(json.dumps(asdict(progress)) + "\n", encoding="utf-8")
        accelerator.wait_for_everyone()
        if training_state:
            accelerator.save_state(str(new / "training_state"))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if place.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(place, old)
            os.replace(new, place)
            shutil.rmtree(old, ignore_errors=True)
        accelerator.wait_for_everyone()

    def load(self, accelerator: Accelerator) -> Progress:
        """Restore weights, optimiser, schedule, scaler and random states from the newest checkpoint."""
        accelerator.load_state(str(self.last / "training_state"))
        return Progress(**json.loads((self.last / "progress.json").read_text(encoding="utf-8")))


class Training:
    """
    One run: a prepared model and optimiser, and an iterator over its optimiser steps.

    Args:
        accelerator ([`Accelerator`]): Made with `schedule.accumulation_steps`.
        model ([`PreTrainedModel`]): Not yet prepared.
        samples ([`TrainingSamples`]): Augmented samples, indexed by position in the run.
        schedule ([`Schedule`]): How to optimise.
        seed (`int`): Seed of the sample order.
        num_workers (`int`): Processes that read and augment; 0 does it between the steps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        samples: TrainingSamples,
        schedule: Schedule,
        seed: int,
        num_workers: int,
    ):
        if samples.device is not None and num_workers:
            raise InputError(
                f"--cache_on_device keeps the pictures in the training process, so --num_workers {num_workers} could "
                "not help; leave it at 0."
            )
        self.accelerator = accelerator
        self.samples = samples
        self.schedule = schedule
        self.seed = seed
        self.num_workers = num_workers
        optimizer, self.scheduler = build_optimizer(model, schedule)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        # Not prepared: accelerate would advance it once per process, and the schedule counts optimiser steps.
        accelerator.register_for_checkpointing(self.scheduler)

    @property
    def samples_per_step(self) -> int:
        return self.schedule.batch_size * self.schedule.accumulation_steps * self.accelerator.num_processes

    def steps(self, start: int) -> Iterator[StepReport]:
        """Train from optimiser step `start` to the end, yielding after every step."""
        self.model.train()
        loader = self._loader(start)
        step, loss_sum, waited, began = (
            start,
            torch.zeros((), device=self.accelerator.device),
            0.0,
            time.perf_counter(),
        )
        asked = began
        for batch in loader:
            waited += time.perf_counter() - asked
            with self.accelerator.accumulate(self.model):
                loss = self.model(**batch).loss
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.schedule.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            loss_sum += loss.detach() / self.schedule.accumulation_steps
            if self.accelerator.sync_gradients:
                rate = float(self.scheduler.get_last_lr()[-1])
                self.scheduler.step()
                step += 1
                yield StepReport(step, loss_sum, rate, waited, waited / (time.perf_counter() - began))
                self.model.train()  # whoever looked at the report may have evaluated
                loss_sum, waited, began = torch.zeros_like(loss_sum), 0.0, time.perf_counter()
            asked = time.perf_counter()

    def _loader(self, start: int) -> DataLoader:
        sampler = PositionSampler(
            num_images=len(self.samples.data),
            num_samples=self.schedule.steps * self.samples_per_step,
            seed=self.seed,
            start=start * self.samples_per_step,
        )
        loader = DataLoader(
            self.samples,
            batch_sampler=BatchSampler(sampler, self.schedule.batch_size, drop_last=True),
            num_workers=self.num_workers,
            pin_memory=self.accelerator.device.type == "cuda" and self.samples.device is None,
            # Its own generator: the workers' base seed must not advance the global one, or a resumed run would differ.
            generator=torch.Generator().manual_seed(self.seed),
        )
        return self.accelerator.prepare(loader)
