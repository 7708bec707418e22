"""What a run needs to go on exactly where it stopped, in safetensors and JSON: nothing is unpickled.

The rate and the samples follow from the step, so that besides the weights only the optimiser's moments, the loss scale
of fp16, the random generators and a stream of data have a state. Where the weights are averaged, the average is what a
checkpoint has, and the weights themselves are part of what is needed to go on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from transformers.utils import SAFE_WEIGHTS_NAME

from lclipseg.data.samples import Samples
from lclipseg.training.average import AveragedWeights

OPTIMIZER_FILE, SCALER_FILE, LATEST_FILE = "optimizer.safetensors", "scaler.json", "latest_weights.safetensors"
# Whole tensors under the names of their parameters, however the processes share them: for the first process to write,
# and for every process to compare and take its part of.
TO_WRITE, TO_READ = StateDictOptions(full_state_dict=True, cpu_offload=True), StateDictOptions(full_state_dict=True)


@dataclass(frozen=True)
class TrainingState:
    """
    All that changes while a run trains. Every method is for all processes to call.

    Args:
        accelerator ([`Accelerator`]): The processes and their loss scale.
        model (`nn.Module`): As prepared by the accelerator.
        optimizer (`torch.optim.Optimizer`): The one that the accelerator wrapped.
        samples ([`Samples`]): Where samples come from.
        average ([`AveragedWeights`], *optional*): What is validated and kept in place of the newest weights.
    """

    accelerator: Accelerator
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    samples: Samples
    average: AveragedWeights | None = None

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights as a checkpoint has them, in the first process at least."""
        return self._latest() if self.average is None else self.average.weights()

    def whole_model(self) -> torch.nn.Module:
        """
        The network that a checkpoint has, outside of the wrapping for training: with averaged weights where there are
        any, else itself, or, where processes share its weights, a copy.
        """
        if self.average is not None:
            return self.average.network
        network: Any = self.accelerator.unwrap_model(self.model)
        if not any(isinstance(parameter, DTensor) for parameter in network.parameters()):
            return network
        copy = type(network)(network.config)
        copy.load_state_dict(get_model_state_dict(self.model, options=TO_READ))
        return copy.to(self.accelerator.device)

    def save(self, folder: Path) -> None:
        """Write everything but the weights into `folder`; each process writes what is its own."""
        folder.mkdir(parents=True, exist_ok=True)
        state = get_optimizer_state_dict(self.model, self.optimizer, options=TO_WRITE)
        save_file(_random_states(self.accelerator.device), folder / self._own_file("random", "safetensors"))
        _write_json(folder / self._own_file("samples", "json"), self.samples.state())
        latest = None if self.average is None else self._latest()
        if self.accelerator.is_main_process:
            save_file(_moments(state), folder / OPTIMIZER_FILE)
            if latest is not None:
                save_file({name: value.contiguous() for name, value in latest.items()}, folder / LATEST_FILE)
            if self.accelerator.scaler is not None:
                _write_json(folder / SCALER_FILE, self.accelerator.scaler.state_dict())

    def load(self, folder: Path) -> None:
        """
        Restore the weights from `folder`'s parent, and the rest from `folder`.

        Raises:
            ValueError: weights or moments of other names or shapes than the model's.
            OSError, [`~safetensors.SafetensorError`]: a file is missing or damaged.
        """
        kept = load_file(folder.parent / SAFE_WEIGHTS_NAME)
        weights = kept if self.average is None else load_file(folder / LATEST_FILE)
        _check_same_tensors("weights", weights, get_model_state_dict(self.model, options=TO_READ))
        state: Any = get_optimizer_state_dict(self.model, self.optimizer, options=TO_READ)
        moments = load_file(folder / OPTIMIZER_FILE)
        _check_same_tensors("moments", moments, _moments(state))
        set_model_state_dict(self.model, cast(dict[str, Any], weights), options=TO_READ)
        if self.average is not None:
            self.average.load(kept)
        for name, value in moments.items():
            parameter, _, moment = name.rpartition("/")
            state["state"][parameter][moment] = value
        set_optimizer_state_dict(self.model, self.optimizer, state, options=TO_READ)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(_read_json(folder / SCALER_FILE))
        self.samples.load_state(_read_json(folder / self._own_file("samples", "json")))
        # Last, since what comes before may draw.
        generators = load_file(folder / self._own_file("random", "safetensors"))
        torch.set_rng_state(generators["cpu"])
        if "cuda" in generators:
            torch.cuda.set_rng_state(generators["cuda"], self.accelerator.device)

    def _latest(self) -> dict[str, torch.Tensor]:
        """The newest weights, in the first process; nothing in the others."""
        return cast(dict[str, torch.Tensor], get_model_state_dict(self.model, options=TO_WRITE))

    def _own_file(self, name: str, suffix: str) -> str:
        return f"{name}-{self.accelerator.process_index}.{suffix}"


def _moments(state: Any) -> dict[str, torch.Tensor]:
    """The tensors of an optimiser's state; the rest are settings, which the run's arguments give again."""
    return {
        f"{parameter}/{moment}": value.contiguous()
        for parameter, moments in state["state"].items()
        for moment, value in moments.items()
    }


def _check_same_tensors(what: str, stored: dict[str, torch.Tensor], own: Mapping[str, Any]) -> None:
    differing = [name for name in own if name not in stored or stored[name].shape != own[name].shape]
    differing += [name for name in stored if name not in own]
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        raise ValueError(f"it holds the {what} of another model: {shown} differ")


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
