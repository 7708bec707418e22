"""The moving average of the weights: its values, what leaves it alone, and that it is what a run keeps."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from test_training_steps import IGNORED, quadratic
from tiny_run import run
from torch import nn

from lclipseg.console.errors import InputError
from lclipseg.training.average import AveragedWeights
from lclipseg.training.folder import Progress


def averages(values, steps: int, decay: float):
    """The average after every step, beside what it should be by the weights and the statistics of every step."""
    training = quadratic(values, 2, steps=steps, ema=decay)
    found, expected = [], []
    for number, _ in enumerate(training.steps(Progress()), start=1):
        now = {name: value.clone() for name, value in training.model.state_dict().items()}
        share = 1 - min(decay, 1 - number ** (-2 / 3))
        before = expected[-1] if expected else now
        expected.append({name: before[name] + share * (now[name] - before[name]) for name in now})
        found.append({name: value.clone() for name, value in training.average.network.state_dict().items()})
    return found, expected


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_average_reaches_back_over_more_steps_as_the_run_goes_on(decay):
    found, expected = averages((1.0, 2.0, 3.0, 6.0), steps=8, decay=decay)
    for name in ("weight", "normalisation.running_mean", "normalisation.running_var"):
        torch.testing.assert_close([one[name] for one in found], [one[name] for one in expected])
    assert found[-1]["normalisation.num_batches_tracked"] == 8


def test_step_that_is_left_out_leaves_the_average_as_it_was():
    training = quadratic((1.0, 2.0, IGNORED, IGNORED, float("nan"), 1.0), 2, steps=3, ema=0.9)
    steps = training.steps(Progress())
    next(steps)
    before = {name: value.clone() for name, value in training.average.weights().items()}
    assert list(steps)
    torch.testing.assert_close(training.average.weights(), before, rtol=0, atol=0)


def kept_and_latest(folder: Path) -> list[dict[str, torch.Tensor]]:
    names = ("model.safetensors", "training_state/latest_weights.safetensors")
    return [load_file(folder / "last" / name) for name in names]


def test_average_is_validated_and_kept_while_training_goes_on_as_without(workspace, tmp_path):
    options = ("--vectors", "learned", "--learning_rate", "0.05")
    of_average = run(workspace, tmp_path / "averaged", "--ema", "0.9", *options)
    plain = run(workspace, tmp_path / "plain", *options)
    kept, latest = kept_and_latest(tmp_path / "averaged")
    assert all(
        torch.equal(value, latest[name])
        for name, value in load_file(tmp_path / "plain" / "last" / "model.safetensors").items()
    )
    assert of_average["loss"] == plain["loss"] and of_average["mean_iou"] != plain["mean_iou"]
    assert not torch.equal(kept["class_embeddings"], latest["class_embeddings"])


def test_vectors_that_are_not_learned_stay_bit_for_bit(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--ema", "0.9")
    kept, latest = kept_and_latest(tmp_path / "run")
    assert torch.equal(kept["class_embeddings"], latest["class_embeddings"])


def test_run_is_not_resumed_with_another_decay(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--ema", "0.9", "--epochs", "0.4")
    with pytest.raises(InputError, match=r"ema was 0\.9 and is 0\.5"):
        run(workspace, tmp_path / "run", "--ema", "0.5", "--epochs", "0.4", "--resume", "true")


def test_processes_that_share_the_weights_are_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(InputError, match=r"--ema 0\.9 keeps the whole network in every process"):
        AveragedWeights(nn.Linear(1, 1), 0.9, accelerator)
