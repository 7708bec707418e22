"""What a training step costs, forward and backward, by number of classes and batch: with the loss of all pixels, and
with that of one in sixteen, which training takes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from lclipseg.lab.timing.peak_memory import STATUS, PeakMemory, largest
from lclipseg.lab.timing.stopwatch import Ratio, Stopwatch, Timing, in_turns
from lclipseg.networks.presets import load_preset
from modeling_lclipseg import LClipSegForSemanticSegmentation

EXACT, SAMPLED = LOSSES = ("exact", "sampled")


@dataclass(frozen=True)
class StepRow:
    """
    One kind of step.

    Args:
        num_classes, batch_size (`int`): Classes, and images a step.
        loss (`str`): `"exact"` or `"sampled"`.
        step_ms (`Timing`): Forward and backward.
        ratio (`Ratio`): To the step of the fewest classes with the same loss and batch.
        memory_mb (`PeakMemory`, *optional*): Of a process that takes two steps of this kind, on a CPU.
    """

    num_classes: int
    batch_size: int
    loss: str
    step_ms: Timing
    ratio: Ratio
    memory_mb: PeakMemory | None


def step_rows(
    preset: str,
    classes: Sequence[int],
    batch_sizes: Sequence[int],
    size: int,
    rounds: int,
    warm_up: int,
    patience: float,
    device: torch.device,
    show: Callable[[str], None] = lambda name: None,
) -> list[StepRow]:
    """Time the steps of a preset with random weights, on random crops of `size` pixels; steps of a batch in turns."""
    rows: list[StepRow] = []
    for batch_size in batch_sizes:
        kinds = [(loss, num_classes) for loss in LOSSES for num_classes in sorted(classes)]
        steps = {
            f"{batch_size} images, {num_classes} classes, {loss}": TimedStep(
                device, preset, num_classes, batch_size, loss, size
            )
            for loss, num_classes in kinds
        }
        times = in_turns(steps, rounds, warm_up, patience, show)
        del steps
        for (loss, num_classes), name in zip(kinds, times, strict=True):
            fewest = times[f"{batch_size} images, {min(classes)} classes, {loss}"]
            memory = _peak_memory(preset, num_classes, batch_size, loss, size) if device.type == "cpu" else None
            timing, ratio = Timing.of(times[name]), Ratio.of(times[name], fewest)
            rows.append(StepRow(num_classes, batch_size, loss, timing, ratio, memory))
    return rows


class TimedStep:
    """A training step that can be taken again and again: called, it gives its milliseconds."""

    def __init__(self, device: torch.device, preset: str, num_classes: int, batch_size: int, loss: str, size: int):
        names = {index: f"class {index}" for index in range(num_classes)}
        # No class is left out by its number, as the one with 255 would be.
        config = load_preset(preset).build_config(id2label=names, semantic_loss_ignore_index=-100)
        self.model = _on(device, LClipSegForSemanticSegmentation(config)).train()
        self.model.set_classes(list(names.values()), torch.randn(num_classes, config.class_embed_dim))
        self.model.samples_loss = loss == SAMPLED
        self.images = torch.randn(batch_size, 3, size, size, device=device)
        self.labels = torch.randint(num_classes, (batch_size, size, size), device=device)

    def __call__(self) -> float:
        self.model.zero_grad()
        with Stopwatch(self.images.device) as watch:
            self.model(self.images, labels=self.labels).loss.backward()
        return watch.milliseconds


def _on(device: torch.device, model: Any) -> Any:
    return model.to(device)


def _peak_memory(*kind: str | int) -> PeakMemory | None:
    if not STATUS.is_file():
        return None
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_step_alone, kind, torch.get_num_threads()).result()


def _step_alone(kind: tuple, threads: int) -> PeakMemory:
    libraries = largest()
    torch.set_num_threads(threads)
    step = TimedStep(torch.device("cpu"), *kind)
    for _ in range(2):
        step()
    return PeakMemory(libraries, largest())
