"""A moving average of the weights, which forgets the noise of single steps and is what a run then keeps."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from timm.utils import ModelEmaV3
from torch import nn

from lclipseg.console.errors import InputError


class AveragedWeights:
    """
    The exponential moving average of a network's weights, by timm's `ModelEmaV3`.

    After step n the average moves to the weights by 1 - d, d being the least of `decay` and 1 - n^(-2/3): it begins as
    the weights after the first step and reaches back over some n^(2/3) steps, so that short runs forget their
    beginning as well. Statistics of batch normalisations are averaged like the weights that they belong to; their
    counters are copied. A class embedding that is not learned stays as it is, bit for bit.

    Every process keeps a whole average: their weights are the same after every step.

    Args:
        network (`nn.Module`): Before it is prepared.
        decay (`float`): Between 0 and 1.
        accelerator ([`Accelerator`]): The processes, their device and precision.

    Raises:
        [`InputError`]: the processes share the weights (FSDP), so that none has them whole.
    """

    def __init__(self, network: nn.Module, decay: float, accelerator: Accelerator):
        if accelerator.distributed_type == DistributedType.FSDP:
            raise InputError(
                f"--ema {decay} keeps the whole network in every process, which FSDP is there to avoid; leave it out, "
                "or take another of configuration/accelerate/."
            )
        self._average = ModelEmaV3(network, decay, use_warmup=True)
        # Validated in the precision of the training; not wrapped, since it takes no gradient.
        self._average.module = accelerator.prepare_model(self._average.module, evaluation_mode=True)

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights, in eval mode."""
        return self._average.module

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights of a network as they are after `step`, counted from 1."""
        self._average.update(network, step=step)

    def weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights as a checkpoint has them, on the CPU."""
        return {name: value.cpu() for name, value in self.network.state_dict().items()}

    def load(self, weights: dict[str, Any]) -> None:
        """Go on from [`weights`]."""
        self.network.load_state_dict(weights)
