"""TensorFlow's "same" padding in a form that `torch.compile` and `torch.export` follow for images of any size.

timm's networks from TensorFlow (`tf_...`) pad each strided convolution by as much as the size of its input needs, now
more and now less. In a graph for any size that is a formula with remainders and maxima, inside the next layer's and so
on, which takes torch minutes or for ever to simplify. Here the sides are written by the index of their last pixel:
after strides of 2 and 2 it is `(side - 1) // 4`, one quotient as behind any other convolution, where sides themselves
stay quotients of quotients, `((side + 1) // 2 + 1) // 2`.
"""

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import nn


class LClipSegConv2dSame(Conv2dSame):
    """timm's convolution; while it is traced, one that computes the same from a fixed padding that is cut to size."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """`maps` (B, C, H, W) give (B, C', H / stride, W / stride), rounded up."""
        if not torch.compiler.is_compiling():
            return self._without_copy(maps) if self._pads_by_its_kernel(maps) else super().forward(maps)
        spans = [step * (side - 1) + 1 for side, step in zip(self.kernel_size, self.dilation, strict=True)]
        # Before and after as much as there may ever be, and one more: where now something and now nothing is cut off,
        # torch.export asks which, and its graph takes one of both.
        edges = [((span - 1) // 2, span // 2 + 1) for span in spans]
        padded = F.pad(maps, (*edges[1], *edges[0]))
        for axis, span, stride in zip((2, 3), spans, self.stride, strict=True):
            last = maps.shape[axis] - 1
            surplus = (last % stride + span % 2) // 2
            padded = padded.narrow(axis, surplus, last // stride * stride + span)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _pads_by_its_kernel(self, maps: torch.Tensor) -> bool:
        """Whether a prediction on a CPU gains by the way below: sides are even, so that "same" is one line more below
        and at the right, and channels stay apart, so that padding a copy costs more than a larger kernel."""
        return (
            not torch.is_grad_enabled()
            and maps.device.type == "cpu"
            and self.groups == self.in_channels
            and self.stride == (2, 2)
            and self.dilation == (1, 1)
            and all(side % 2 == 1 for side in self.kernel_size)
            and all(side % 2 == 0 for side in maps.shape[-2:])
        )

    def _without_copy(self, maps: torch.Tensor) -> torch.Tensor:
        """A first row and column of zeros in the kernel, and as much padding on all sides."""
        padding = [side // 2 for side in self.kernel_size]
        return F.conv2d(maps, F.pad(self.weight, (1, 0, 1, 0)), self.bias, self.stride, padding, 1, self.groups)


def make_padding_traceable(network: nn.Module) -> None:
    """Let timm's convolutions with TensorFlow's padding be traced; what they compute and are named stays. One whose
    kernel is smaller than its stride, which no network of ours has, is left alone: it may have nothing to pad."""
    for module in network.modules():
        if type(module) is Conv2dSame and all(
            dilation * (side - 1) + 1 >= stride
            for side, stride, dilation in zip(module.kernel_size, module.stride, module.dilation, strict=True)
        ):
            module.__class__ = LClipSegConv2dSame


__all__ = ["LClipSegConv2dSame", "make_padding_traceable"]
