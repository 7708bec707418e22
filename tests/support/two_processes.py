"""What test_two_processes.py looks at: run under `accelerate launch`, in both of two CPU processes."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.commands.launch import launch_command, launch_command_parser
from PIL import Image
from survival import Killed, kill_at
from tiny_model import RESNET, tiny_model
from tiny_run import run
from torch.distributed import run as torchrun
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.utils import clip_grad_norm_

from lclipseg.console.errors import InputError
from lclipseg.data.open import load_segmentation_data, stream_segmentation_data
from lclipseg.data.samples import TrainingSamples
from lclipseg.data.streams import StreamedSamples
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.training.folder import Progress, RunFolder
from lclipseg.training.state import TrainingState
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor

CONFIGURATION = Path(__file__).resolve().parents[2] / "configuration" / "accelerate" / "multi_gpu.yaml"
# One image a process: what one process with two takes. Normalisation would tell them apart, so it is frozen.
TRAINING = ("--epochs", "3", "--batch_norm", "frozen", "--eval_every", "1.5", "--ema", "0.5")


def train(workspace: Path, output: Path) -> None:
    run(workspace, output / "trained", *TRAINING, "--batch_size", "1", "--expected_processes", "2")


def train_with_a_kill(workspace: Path, output: Path) -> None:
    options = (*TRAINING, "--batch_size", "1", "--save_every", "0.7")
    with suppress(Killed):
        run(workspace, output / "killed", *options, on_step=kill_at(7))
    run(workspace, output / "killed", *options, "--resume", "true")


def too_few_processes(workspace: Path, output: Path) -> str:
    try:
        run(workspace, output / "more", "--expected_processes", "3")
    except InputError as error:
        return str(error)
    return ""


def wrong_image(workspace: Path, output: Path) -> str:
    """One image holds no colours, which its header does not show, so that one of the processes meets it."""
    if Accelerator().is_main_process:
        data = shutil.copytree(workspace / "data", workspace / "wrong")
        (data / "train" / "images" / "2.png").unlink()
        Image.fromarray(np.full((48, 64), np.nan, dtype=np.float32)).save(data / "train" / "images" / "2.tif")
    Accelerator().wait_for_everyone()
    try:
        run(workspace, output / "faulty", *TRAINING, "--batch_size", "1", "--data", str(workspace / "wrong"))
    except InputError as error:
        return str(error)
    return ""


def score(workspace: Path) -> dict[str, Any]:
    """Seven images: one process gets four, the other three."""
    model = LClipSegForSemanticSegmentation.from_pretrained(workspace / "model")
    data = load_segmentation_data(workspace / "seven", "train")
    return evaluate_model(model, LClipSegImageProcessor(), data, accelerator=Accelerator()).to_dict()


def streamed(workspace: Path, folder: str) -> list[list[int]]:
    """The numbers of the rows that this process takes in each of two epochs."""
    accelerator = Accelerator()
    data = stream_segmentation_data(workspace / folder, "train")
    samples = StreamedSamples(data, None, seed=0)
    numbers = []
    rank, count = accelerator.process_index, accelerator.num_processes
    batches = samples.batches(1, 0, rank, count)
    while len(samples.epoch_lengths) < 2:
        ((_, row),) = next(batches)
        numbers.append(int(data.read(row, "row").mask[0, 0]))
    first = samples.epoch_lengths[0]
    return [numbers[:first], numbers[first : first + samples.epoch_lengths[1]]]


def shared_weights(workspace: Path, output: Path) -> dict[str, Any]:
    """A network whose weights the processes share: saved, changed, restored, and scored as a whole copy."""
    accelerator = Accelerator()
    model = tiny_model(backbone_config=RESNET)  # the time goes by the number of parameters
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = load_segmentation_data(workspace / "seven", "train")
    state = TrainingState(accelerator, model, optimizer, TrainingSamples(data, None, 0))
    same_before = all(torch.equal(value, plain[name]) for name, value in state.whole_model().state_dict().items())

    def step() -> float:
        model.train()
        pixels = torch.ones(2, 3, 64, 64) * torch.linspace(0, 1, 64)
        model(pixel_values=pixels, labels=torch.zeros(2, 64, 64, dtype=torch.long)).loss.backward()
        norm = clip_grad_norm_(model.parameters(), 1.0).full_tensor()
        optimizer.step()
        optimizer.zero_grad()
        return float(norm)

    step()
    folder = RunFolder(output / "shared")
    if accelerator.is_main_process:
        folder.path.mkdir()
    accelerator.wait_for_everyone()
    folder.save("last", state, LClipSegImageProcessor(), Progress(step=1), resumable=True)
    kept = {name: value.clone() for name, value in state.whole_model().state_dict().items()}
    next_norm = step()
    changed = any(not torch.equal(value, kept[name]) for name, value in state.whole_model().state_dict().items())
    folder.load(state)
    restored = all(torch.equal(value, kept[name]) for name, value in state.whole_model().state_dict().items())
    again = step()
    scores = evaluate_model(state.whole_model(), LClipSegImageProcessor(), data, accelerator=accelerator)
    return {
        "same_before": same_before,
        "changed": changed,
        "restored": restored,
        "norms": [next_norm, again],
        "pixels": sum(scores.per_class_pixels.values()),
    }


def launch(workspace: Path, output: Path) -> None:
    """`accelerate launch` of `main`, to whose processes it forks: a program's would import everything again."""

    def forks(config: LaunchConfig, entrypoint: str):
        return lambda *_: elastic_launch(replace(config, start_method="fork"), main)(workspace, output)

    os.environ["ACCELERATE_USE_CPU"] = "true"
    argv = ["--config_file", str(CONFIGURATION), "--main_process_port", "0", __file__]
    with mock.patch.object(torchrun, "elastic_launch", forks):
        launch_command(launch_command_parser().parse_args(argv))


def main(workspace: Path, output: Path) -> None:
    """Writes OUTPUT/found-0.json and OUTPUT/found-1.json."""
    # The end of a run would part the processes, which cannot find each other twice in one launch.
    Accelerator.end_training = lambda self: None
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # of streams that are left in the middle
    accelerator = Accelerator()
    found = {
        "processes": accelerator.num_processes,
        "scores": score(workspace),
        "even": streamed(workspace, "even"),
        "uneven": streamed(workspace, "uneven"),
        "shared": shared_weights(workspace, output),
        "too_few": too_few_processes(workspace, output),
        "wrong_image": wrong_image(workspace, output),
    }
    train(workspace, output)
    train_with_a_kill(workspace, output)
    (output / f"found-{accelerator.process_index}.json").write_text(json.dumps(found))
