"""What rounding a convolution's weights to int8 adds to its output on average, taken off its bias."""

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from lclipseg.export.integers import LARGEST_INT8
from lclipseg.export.rewriting import Rewriting


def correct_biases(graph: onnx.GraphProto, nodes: Collection[str], means: Mapping[str, np.ndarray]) -> None:
    """
    Change the biases of convolutions so that each channel keeps its mean when the weights are rounded (Nagel et al.,
    *Data-Free Quantization through Weight Equalization and Bias Correction*, ICCV 2019). The margins, where a
    convolution reads zeros from outside of the map, count like the rest.

    Args:
        graph (`onnx.GraphProto`): In float32; is changed.
        nodes (collection of `str`): Names of the nodes that will be quantised.
        means (`dict[str, numpy.ndarray]`): Mean of each channel of the maps that the convolutions read.
    """
    changes = Rewriting(graph)
    for node in graph.node:
        if node.op_type != "Conv" or node.name not in nodes:
            continue
        if not all(name in changes.constants for name in node.input[1:]):
            continue
        weights = changes.constants[node.input[1]]
        bias = changes.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights), np.float32)
        added = _added_by_rounding(weights.astype(np.float64), means[node.input[0]])
        corrected = onnx.NodeProto()
        corrected.CopyFrom(node)
        del corrected.input[2:]
        corrected.input.append(changes.constant(f"{node.output[0]}_bias", (bias - added).astype(np.float32)))
        changes.replace(node, [corrected])
    changes.finish()


def rounded(weights: np.ndarray) -> np.ndarray:
    """Weights (outputs, inputs, height, width) as int8 has them, with a scale for every output channel."""
    step = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / LARGEST_INT8
    return np.round(weights / np.where(step == 0, 1, step)) * step


def _added_by_rounding(weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Shape (outputs,). A group of outputs reads its own part of the inputs."""
    error = (rounded(weights) - weights).sum(axis=(2, 3))
    groups = len(means) // error.shape[1]
    read = np.repeat(means.reshape(groups, -1), len(error) // groups, axis=0)
    return (error * read).sum(axis=1)


__all__ = ["correct_biases", "rounded"]
