"""What is traced for ONNX and other runtimes otherwise than torch computes it: the same values, by operators that are
fast there, and that converters read rightly."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from unittest import mock

import torch
from torch import nn

from lclipseg.export.arguments import LOWEST_OPSET
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.padding_lclipseg import LClipSegConv2dSame
from modeling_lclipseg.similarity_lclipseg import SMALLEST_LENGTH, LClipSegSimilarity


class ConvertibleNetwork(nn.Module):
    """
    A model as converters of other makers take it: one tensor in, one out, its own classes fixed inside.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): In eval mode; it is not changed.
    """

    def __init__(self, model: LClipSegForSemanticSegmentation):
        super().__init__()
        self.model = model.fold()
        for module in self.model.modules():
            if type(module) is LClipSegSimilarity:
                module.forward = MethodType(_similarity_of_rows, module)  # type: ignore[method-assign]
        self.eval()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`pixel_values` (B, 3, H, W) give logits (B, K, H/4, W/4), rounded up."""
        return self.model(pixel_values).logits


@contextmanager
def traced_for_onnx() -> Iterator[None]:
    """Inside, the network's forward pass is the one to be traced."""
    with ExitStack() as stack:
        for kind, forward in ((LClipSegConv2dSame, _same_padding), (LClipSegSimilarity, _similarity_of_rows)):
            stack.enter_context(mock.patch.object(kind, "forward", forward))
        yield


def _same_padding(self: LClipSegConv2dSame, maps: torch.Tensor) -> torch.Tensor:
    """Convolutions with TensorFlow's padding become what ONNX has for them: as they are traced otherwise there would
    be arithmetic on shapes before each of them."""
    height, width = ((side + step - 1) // step for side, step in zip(maps.shape[-2:], self.stride, strict=True))
    return torch.onnx.ops.symbolic(
        "Conv",
        [maps, self.weight, *([] if self.bias is None else [self.bias])],
        attrs={
            "auto_pad": "SAME_UPPER",
            "dilations": list(self.dilation),
            "group": self.groups,
            "kernel_shape": list(self.kernel_size),
            "strides": list(self.stride),
        },
        dtype=maps.dtype,
        shape=(maps.shape[0], self.out_channels, height, width),
        version=LOWEST_OPSET,
    )


def _similarity_of_rows(
    self: LClipSegSimilarity, pixels: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """
    As `LClipSegSimilarity.forward`. A norm over the second of four dimensions takes onnxruntime longer than any of the
    convolutions; over the last one it does not. And dividing K scores of a pixel by its length is less work than
    dividing its c values, where there are few classes. The product of two transposed maps that `forward` has comes out
    of LiteRT's converter with one of them not transposed, and ncnn's knows no norm of what has two sides.
    """
    rows = pixels.permute(0, 2, 3, 1).flatten(1, 2)  # (B, n, c)
    tokens = (tokens * _inverse_lengths(tokens) * self.scale()).transpose(1, 2)
    scores = (rows @ tokens) * _inverse_lengths(rows)  # (B, n, K)
    logits = scores.unflatten(1, pixels.shape[-2:]).permute(0, 3, 1, 2)
    return logits if bias is None else logits + bias


def _inverse_lengths(rows: torch.Tensor) -> torch.Tensor:
    return (rows * rows).sum(-1, keepdim=True).clamp(min=SMALLEST_LENGTH**2).rsqrt()  # (B, n, 1)


__all__ = ["ConvertibleNetwork", "traced_for_onnx"]
