"""The training loop: optimiser, schedule and what makes a step count, around one accelerate `Accelerator`."""

import inspect
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.samples import Samples
from lclipseg.training.arguments import RunArguments
from lclipseg.training.average import AveragedWeights
from lclipseg.training.batch_norm import BatchNormStatistics
from lclipseg.training.folder import Progress
from lclipseg.training.signals import WorkerSignals
from lclipseg.training.state import TrainingState
from modeling_lclipseg.loss_lclipseg import PHASES

logger = logging.getLogger("lclipseg")

MAX_SKIPPED_IN_A_ROW = 20


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
        max_loss (`float`, *optional*): A step with a higher loss is left out.
        batch_norm (`str`, *optional*, defaults to `"synced"`): see [`BatchNormStatistics`].
        ema (`float`, *optional*, defaults to 0): Decay of the moving average of the weights; see [`AveragedWeights`].
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
    max_loss: float = math.inf
    batch_norm: str = "synced"
    ema: float = 0.0

    def __post_init__(self):
        if self.warmup_steps >= self.steps > 1:
            raise InputError(f"{self.warmup_steps} steps of warm-up leave nothing of a run of {self.steps} steps.")

    @classmethod
    def of(cls, arguments: RunArguments, steps: int) -> "Schedule":
        """The schedule of a run of so many optimiser steps; its arguments have been through `check_together`."""
        assert arguments.learning_rate is not None and arguments.batch_norm is not None
        return cls(
            steps=steps,
            batch_size=arguments.batch_size,
            accumulation_steps=arguments.accumulation_steps,
            learning_rate=arguments.learning_rate,
            backbone_lr_scale=arguments.backbone_lr_scale,
            weight_decay=arguments.weight_decay,
            warmup_steps=min(1500, steps // 20) if arguments.warmup_steps is None else arguments.warmup_steps,
            power=arguments.power,
            max_grad_norm=arguments.max_grad_norm,
            max_loss=arguments.max_loss,
            batch_norm=arguments.batch_norm,
            ema=arguments.ema,
        )

    def rate(self, step: int) -> float:
        """Share of the peak rate at `step`, 0 to 1."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        return (1 - (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)) ** self.power


def build_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, the backbone's slower. `initial_lr` of a group is its peak rate."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # Learned class embeddings count by their direction alone: decay would move those that stay as well.
            decayed = parameter.ndim > 1 and name != "class_embeddings"
            groups.setdefault((name.startswith("backbone."), decayed), []).append(parameter)
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
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


class Step(NamedTuple):
    """
    What one optimiser step tells.

    Args:
        loss (`float`): Mean over its labelled pixels, on all processes.
        gradient_norm (`float`): Norm of the gradient before clipping; not finite, or 0, where the step was left out.
        learning_rate (`float`): The peak group's.
        data_seconds, data_share (`float`): Time waited for data, and its share of the step's.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    data_seconds: float
    data_share: float


class Training:
    """
    One run: a prepared model and optimiser, and an iterator over its optimiser steps.

    A step is the mean over the labelled pixels of all its batches and processes, so that it does not matter how they
    are shared out (but for Dice, see [`TrainingLoss`]); a network that takes one pixel of every 4x4 cell takes the
    same in all of them. A step without a labelled pixel is left out, and so is one whose gradient is not finite:
    weights, moments, statistics and average stay as they were.

    Args:
        accelerator ([`Accelerator`]): The processes and their devices.
        model ([`PreTrainedModel`]): Not yet prepared.
        samples ([`Samples`]): Augmented samples.
        schedule ([`Schedule`]): How to optimise.
        num_workers (`int`): Processes that read and augment; 0 does it between the steps.
        max_unreadable (`float`, *optional*, defaults to 0): Share of images that may be impossible to decode, of
            those drawn so far or, at the beginning, of an epoch (1,000 images of one that is longer).
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        samples: Samples,
        schedule: Schedule,
        num_workers: int,
        max_unreadable: float = 0.0,
    ):
        self.accelerator = accelerator
        self.samples = samples
        self.schedule = schedule
        self.num_workers = num_workers
        self.max_unreadable = max_unreadable
        self.statistics = BatchNormStatistics(model, schedule.batch_norm, accelerator)
        network = self.statistics.network
        self._takes_phase = "loss_phase" in inspect.signature(network.forward).parameters  # other networks do not
        self.average = AveragedWeights(network, schedule.ema, accelerator) if schedule.ema else None
        self.model, self.optimizer = accelerator.prepare(network, build_optimizer(network, schedule))
        _begin_moments(self.optimizer.optimizer)
        self.state = TrainingState(accelerator, self.model, self.optimizer.optimizer, samples, self.average)
        self._named: set[str] = set()  # images that a message has named

    @property
    def samples_per_step(self) -> int:
        return self.schedule.batch_size * self.schedule.accumulation_steps * self.accelerator.num_processes

    def steps(self, progress: Progress) -> Iterator[Step]:
        """
        Train from `progress.step` to the end, yielding after every step, when `progress` counts it.

        Raises:
            InputError: an image or mask is not what it has to be, too large a share of the images could not be
                decoded, or 20 steps in a row were left out. All processes raise it, after the same step.
        """
        loader = iter(self._loader(progress.step))
        while progress.step < self.schedule.steps:
            began = time.perf_counter()
            batches, fault = self._read(loader)
            waited = time.perf_counter() - began
            labelled = self._count(batches, fault, progress)
            rate = self._set_rate(progress.step)
            loss, norm = 0.0, 0.0
            if labelled:
                loss = self._backward(batches, labelled, progress.step)
                norm = self._update(progress, loss)
            else:
                self._leave_out(progress, "had no labelled pixel. `lclipseg check-data` says what the masks hold")
            progress.step += 1
            progress.loss = loss if math.isfinite(loss) else None
            yield Step(loss, norm, rate, waited, waited / (time.perf_counter() - began))

    def _read(self, loader: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], InputError | None]:
        """The batches of a step, or what is wrong with one of them: the other processes have to hear of it first."""
        try:
            return list(islice(loader, self.schedule.accumulation_steps)), None
        except InputError as error:
            return [], error

    def _count(self, batches: list[dict[str, Any]], fault: InputError | None, progress: Progress) -> int:
        """Labelled pixels of a step on all processes. Images that could not be decoded are named and counted."""
        failed = [message for batch in batches for message in batch.pop("unreadable") if message]
        for message in failed:
            if message not in self._named:
                logger.warning(f"left out: {message}")
                self._named.add(message)
        own = sum(int(_labelled(batch)) for batch in batches)
        counts = torch.tensor([own, len(failed), fault is not None], device=self.accelerator.device)
        labelled, unreadable, faults = self.accelerator.reduce(counts, "sum").tolist()
        if faults:
            raise fault or InputError("another process was given data that cannot be trained on, and says which")
        samples, unreadable = progress.samples + self.samples_per_step, progress.unreadable_samples + unreadable
        window = min(self.samples.images_per_epoch or 1000, 1000)
        if unreadable > self.max_unreadable * max(samples, window):
            raise InputError(
                f"{unreadable} of the {samples} images drawn so far could not be decoded, more than a share of "
                f"{self.max_unreadable} (--max_unreadable): {'; '.join(failed[:3]) or 'see the messages above'}. "
                "`lclipseg check-data` finds all of them."
            )
        progress.samples, progress.unreadable_samples = samples, unreadable
        return labelled

    def _set_rate(self, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.schedule.rate(step)
        return float(group["lr"])

    def _backward(self, batches: list[dict[str, Any]], labelled: int, step: int) -> float:
        """Gradients of the step; its loss."""
        self.statistics.train()  # whoever looked at the last step may have evaluated
        self.statistics.keep()
        processes, device = self.accelerator.num_processes, self.accelerator.device
        loss_sum = torch.zeros((), device=device)
        phase = {"loss_phase": loss_phase(self.samples.seed, step)} if self._takes_phase else {}
        for index, batch in enumerate(batches):
            # Processes are averaged over, and a batch counts by its labelled pixels.
            share = _labelled(batch).to(device) * processes / labelled
            more_to_come = index + 1 < len(batches)
            with self.accelerator.no_sync(self.model) if more_to_come else nullcontext():
                loss = self.model(**send_to_device(batch, device, non_blocking=True), **phase).loss
                sound = torch.where(loss.detach() <= self.schedule.max_loss, 1.0, float("nan"))
                self.accelerator.backward(loss * share * sound)  # a loss too high spoils the gradient on purpose
            loss_sum += loss.detach() * share
        return float(self.accelerator.reduce(loss_sum, "mean"))

    def _update(self, progress: Progress, loss: float) -> float:
        """Take the step if its gradient is finite, which all processes see alike. Returns the gradient's norm."""
        total = self.accelerator.clip_grad_norm_(self.model.parameters(), self.schedule.max_grad_norm)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        if math.isfinite(norm):
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update(self.accelerator.unwrap_model(self.model), progress.step + 1)
            progress.skipped_in_a_row = 0
            return norm
        if self.accelerator.scaler is not None:
            self.optimizer.step()  # the scaler leaves it out by itself, and lowers its scale
        self.optimizer.zero_grad()
        self.statistics.restore()
        self._leave_out(
            progress,
            f"diverged: a loss above {self.schedule.max_loss:g} or a gradient that is not finite (the last loss: "
            f"{loss:g}). Try a lower --learning_rate, a longer --warmup_steps, or --mixed_precision no",
        )
        return norm

    def _leave_out(self, progress: Progress, why: str) -> None:
        progress.skipped_steps += 1
        progress.skipped_in_a_row += 1
        if progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise InputError(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row, up to step {progress.step + 1}, were left out. The last one "
                f"{why}. The checkpoints hold the network as it was before."
            )

    def _loader(self, step: int) -> DataLoader:
        accelerator, size = self.accelerator, self.schedule.batch_size
        start = step * self.schedule.accumulation_steps
        batches = self.samples.batches(size, start, accelerator.process_index, accelerator.num_processes)
        return DataLoader(
            self.samples,
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            pin_memory=accelerator.device.type == "cuda" and self.samples.device is None,
            worker_init_fn=WorkerSignals() if self.num_workers else None,
            # Its own generator: the workers' base seed must not advance the global one, or a resumed run would differ.
            generator=torch.Generator().manual_seed(self.samples.seed),
        )


def loss_phase(seed: int, step: int) -> int:
    """Which pixels of the 4x4 cells a step's loss is of, 0 to 15: in every 16 steps each once, in random order."""
    order = np.random.default_rng((seed, step // PHASES)).permutation(PHASES)
    return int(order[step % PHASES])


def _begin_moments(optimizer: torch.optim.Optimizer) -> None:
    """AdamW's state before its first step. Without one, a checkpoint would have torch take a step to get one."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.tensor(0.0, dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }


def _labelled(batch: dict[str, Any]) -> torch.Tensor:
    return (batch["labels"] != IGNORE_INDEX).sum()
