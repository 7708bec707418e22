"""How fast a contestant trains: images a second in our own loop, and how much of that is waiting for data."""

import time
from statistics import median

import torch
from accelerate import Accelerator

from lclipseg.data.augmentation import training_transform
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.samples import TrainingSamples
from lclipseg.lab.timing.contestant import Setting
from lclipseg.lab.timing.contestants import build_contestant
from lclipseg.lab.timing.report import TrainRow
from lclipseg.lab.timing.stopwatch import Timing
from lclipseg.networks.presets import IMAGENET_MEAN, IMAGENET_STD
from lclipseg.training.folder import Progress
from lclipseg.training.steps import Schedule, Training


def train_speed(
    name: str,
    data: str,
    *,
    size: int,
    batch_size: int,
    num_workers: int,
    cache: bool,
    cache_on_device: bool,
    steps: int,
    warm_up: int,
    device: torch.device,
    dtype: torch.dtype,
) -> TrainRow:
    """
    Train contestant `name`, from random weights, for `warm_up` and then `steps` timed steps on crops of `size` pixels.
    In bfloat16 the weights stay float32, as in any mixed-precision training.
    """
    train_data = load_segmentation_data(data, "train", cache=cache)
    setting = Setting(len(train_data.classes.names), size, device, torch.float32, for_training=True)
    contestant = build_contestant(name, setting)
    transform = training_transform((size, size), size, (0.5, 2.0), 0.75, IMAGENET_MEAN, IMAGENET_STD)
    schedule = Schedule(warm_up + steps, batch_size, 1, 1e-4, 1.0, 0.01, 0, 0.9, 1.0)
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if dtype == torch.bfloat16 else "no")
    training = Training(
        accelerator,
        contestant.model,
        TrainingSamples(train_data, transform, 0, device if cache_on_device else None),
        schedule,
        num_workers,
    )
    progress = Progress()
    seconds, shares = [], []
    began = time.perf_counter()
    for step in training.steps(progress):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        if progress.step > warm_up:
            seconds.append(now - began)
            shares.append(step.data_seconds / (now - began))
        began = now
    return TrainRow(
        model=name,
        step_ms=Timing.of([1000 * one for one in seconds]),
        images_per_second=round(batch_size / median(seconds), 2),
        data_share=round(median(shares), 4),
    )
