"""Batch normalisation in training: whose statistics, and how a step that went wrong leaves no trace in them."""

import logging

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lclipseg.console.errors import InputError

logger = logging.getLogger("lclipseg")

MODES = ("synced", "frozen")


class BatchNormStatistics:
    """
    The running statistics of a network's batch normalisations.

    With `"synced"` a batch is normalised by the mean and variance of the batches of all processes together, as one
    process would do it; torch can do so on GPUs only, and on CPUs each process uses its own. With `"frozen"` the
    network keeps the statistics that it begins with: those of a pretrained backbone, and in a new head a mean of 0 and
    a variance of 1, so that its layers scale and shift but do not normalise.

    Args:
        model (`nn.Module`): The network, before it is prepared; [`network`] is the one to train.
        mode (`str`): `"synced"` or `"frozen"`.
        accelerator ([`Accelerator`]): The processes.
    """

    def __init__(self, model: nn.Module, mode: str, accelerator: Accelerator):
        if mode not in MODES:
            raise InputError(f"--batch_norm is {mode!r}; allowed: {', '.join(MODES)}.")
        self.network = model
        self.frozen = mode == "frozen"
        if not self.frozen and accelerator.num_processes > 1:
            if accelerator.device.type == "cuda":
                self.network = convert_sync_batchnorm(model)
            else:
                logger.warning("on CPUs each process normalises by the statistics of its own batches")
        self.layers = [layer for layer in self.network.modules() if isinstance(layer, _BatchNorm)]
        self._kept: list[torch.Tensor] = []

    def train(self) -> None:
        """Put the network into training mode, frozen layers aside."""
        self.network.train()
        if self.frozen:
            for layer in self.layers:
                layer.eval()

    def keep(self) -> None:
        """Remember the statistics as they are."""
        self._kept = [buffer.clone() for buffer in self._buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Bring back what was kept."""
        for buffer, kept in zip(self._buffers(), self._kept, strict=True):
            buffer.copy_(kept)

    def _buffers(self) -> list[torch.Tensor]:
        # Looked up each time: a network that moves to another device gets new ones.
        return [buffer for layer in self.layers for buffer in layer.buffers()]
