"""A network for inference alone. Its batch normalisations are folded into the convolutions before them, and branches
that only training needs are merged (as in RepVGG, Ding et al., CVPR 2021)."""

import copy
from typing import Any, Self

import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers import PreTrainedModel

from .configuration_lclipseg import LClipSegConfig

PROBE_SIDE = 64
# Relative to the largest logit. Folding changes rounding by some 1e-6; a wrong fold changes everything.
TOLERANCE = 1e-3


class LClipSegFoldable(PreTrainedModel):
    """A model that can make a copy of itself for inference. The copy refuses training and saving."""

    config: LClipSegConfig
    backbone: Any  # what `AutoBackbone` gives
    is_folded = False

    def fold(self) -> Self:
        """
        Make a copy for inference that computes the same in less time. This model does not change, and remains the one
        to train and to save. Later changes of it, such as `set_classes`, do not reach the copy.

        Returns:
            The copy: of the same class, in eval mode, on the device and in the dtype of this model. It refuses
            `save_pretrained` and training.

        Raises:
            ValueError: the model is in training mode or has no class embeddings yet, or the copy would compute
                something else, as it could with an unusual backbone.
        """
        if self.training:
            raise ValueError("Only a model in eval mode can be folded: call `model.eval()` first.")
        # Rounding is too small to hide a wrong fold in single precision on the CPU.
        with torch.inference_mode(False), torch.no_grad():
            original: Any = copy.deepcopy(self)
            original.to("cpu", torch.float32)
            folded = copy.deepcopy(original)
            folded.is_folded = True
            probe = _probe(self.config)
            reparameterize_model(folded.backbone, inplace=True)
            fold_norms(folded, probe)
            expected, found = (network(probe).logits for network in (original, folded))
        error = (found - expected).abs().max() / expected.abs().max()
        if not error < TOLERANCE:
            raise ValueError(
                f"This model cannot be folded: its logits would change by up to {error:.2%}. Use it as it is, and "
                "please report its backbone."
            )
        return folded.to(self.device, self.dtype)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_folded:
            raise ValueError("A folded model's weights fit no checkpoint: save the model that it was made from.")
        return super().save_pretrained(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        if mode and self.is_folded:
            raise ValueError("A folded model has no normalisations left to train: train the model it was made from.")
        return super().train(mode)


def fold_norms(network: Any, probe: torch.Tensor) -> None:
    """
    Fold, in place, all batch normalisations that read what a convolution has just written. The network computes the
    same, up to rounding; whether it does is for the caller to see, as [`LClipSegFoldable.fold`] does.

    Args:
        network (`nn.Module`): In eval mode.
        probe (`torch.Tensor`): What it is run on, to see which layer reads what.
    """
    with torch.no_grad():
        for norm, convolution in _folding_pairs(network, probe).items():
            network.set_submodule(norm, _fold(network.get_submodule(convolution), network.get_submodule(norm)))


def _probe(config: LClipSegConfig) -> torch.Tensor:
    """An image (1, 3, H, W) of different values: of the size that the backbone is built for, else small."""
    side = (config.backbone_kwargs or {}).get("img_size", PROBE_SIDE)
    height, width = side if isinstance(side, (list, tuple)) else (side, side)
    return torch.linspace(-2, 2, 3 * height * width).view(1, height, width, 3).permute(0, 3, 1, 2)


def _folding_pairs(model: nn.Module, probe: torch.Tensor) -> dict[str, str]:
    """The names of all batch normalisations that read what a convolution has just written, and of that convolution."""
    # The tensors are kept, because Python gives the id of a freed object to another one.
    written: dict[int, tuple[str, torch.Tensor]] = {}
    pairs: dict[str, str] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):

            def note_output(module, inputs, output, name=name):
                written[id(output)] = (name, output)

            hooks.append(module.register_forward_hook(note_output))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:

            def note_input(module, inputs, name=name):
                if id(inputs[0]) in written:
                    pairs[name] = written[id(inputs[0])][0]

            hooks.append(module.register_forward_pre_hook(note_input))
    try:
        model(probe)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Give `convolution` the weights of both. Returns what remains of `norm`: its activation, which timm's have."""
    assert norm.running_mean is not None and norm.running_var is not None  # `_folding_pairs` takes no others
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return getattr(norm, "act", nn.Identity())


__all__ = ["LClipSegFoldable", "fold_norms"]
