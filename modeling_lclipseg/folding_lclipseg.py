"""A network for inference alone: batch normalisations folded into the convolutions before them, and branches that only
training needed merged (RepVGG, Ding et al., CVPR 2021, and its kin)."""

import copy
from typing import Any

import torch
from timm.utils import reparameterize_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

PROBE_SIDE = 64
# Of the largest logit. Folding changes the order of rounding, some 1e-6; a wrong fold changes everything.
TOLERANCE = 1e-3


class LClipSegFoldable:
    """What a model needs to give a copy of itself for inference, and that copy to say what it is not for."""

    is_folded = False

    def fold(self: Any) -> Any:
        """
        A copy for inference that computes the same in less time. This model stays as it is, and remains the one to
        train and to save; what changes it later, as `set_classes` does, leaves the copy alone.

        Returns:
            The copy, of the same class, in eval mode, and where and as precise as this model; it refuses
            `save_pretrained` and training.

        Raises:
            ValueError: the model is in training mode or has no class embeddings yet, or the copy would compute
                something else, which a backbone with unusual wiring could bring about.
        """
        if self.training:
            raise ValueError("Only a model in eval mode can be folded: call `model.eval()` first.")
        # In single precision and on the CPU, where rounding is too small to hide a wrong fold.
        with torch.inference_mode(False), torch.no_grad():
            original = copy.deepcopy(self).to("cpu", torch.float32)
            folded = copy.deepcopy(original)
            folded.is_folded = True
            probe = _probe(self.config)
            reparameterize_model(folded.backbone, inplace=True)
            for norm, convolution in _folding_pairs(folded, probe).items():
                folded.set_submodule(norm, _fold(folded.get_submodule(convolution), folded.get_submodule(norm)))
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
        return super().save_pretrained(*args, **kwargs)  # type: ignore[misc]

    def train(self, mode: bool = True) -> Any:
        if mode and self.is_folded:
            raise ValueError("A folded model has no normalisations left to train: train the model it was made from.")
        return super().train(mode)  # type: ignore[misc]


def _probe(config: Any) -> torch.Tensor:
    """An image (1, 3, H, W) in which no two values are alike, small unless the backbone is built for one size."""
    side = (config.backbone_kwargs or {}).get("img_size", PROBE_SIDE)
    height, width = side if isinstance(side, (list, tuple)) else (side, side)
    return torch.linspace(-2, 2, 3 * height * width).view(1, height, width, 3).permute(0, 3, 1, 2)


def _folding_pairs(model: nn.Module, probe: torch.Tensor) -> dict[str, str]:
    """The names of all batch normalisations that read what a convolution has just written, and of that convolution."""
    # The tensors are kept beside their names, since the id of a freed one is used again.
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
    """Give `convolution` the weights of both; returns what is left of the normalisation: timm's have an activation."""
    assert norm.running_mean is not None and norm.running_var is not None  # it keeps statistics, or it were no pair
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return getattr(norm, "act", nn.Identity())


__all__ = ["LClipSegFoldable"]
