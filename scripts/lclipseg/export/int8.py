"""Static int8 quantisation by onnxruntime, with ranges from real images.

What is quantised, and how, was found by measurement (docs/lab-notes.md, docs/results/int8-profile.md): all that is
done to the maps of the image, so that these stay in int8, with the channels of a pixel side by side, from one
convolution to the next. Every crossing to float32 and back costs as much as a small convolution. In float remain the
first five convolutions, which hold few weights and much of the error, and take hardly longer in float32;
enlargements, for which onnxruntime has no fast integer kernel; and what is done to the classes. Weights have a scale
for every output channel, and biases make up for what rounding them adds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

from lclipseg.console.errors import InputError
from lclipseg.export.calibration import observe
from lclipseg.export.integers import integer_hard_swish, integer_similarity, means_by_pooling
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.export.rewriting import Rewriting
from lclipseg.export.rounding import correct_biases

FIRST_IN_FLOAT = 5  # convolutions; with two, a MobileNetV3-large kept 77 % of the classes instead of 97
POOLING = ("GlobalAveragePool",)
QUANTIZED = ("Conv", "Relu", "Clip", "Add", "Mul", *POOLING)
# Between maps of the image; what comes behind other operators is no such map. GELU and its like are several.
_GATES, _POOLS = ("HardSwish", "HardSigmoid", "Sigmoid", "Erf", "Tanh", "Div", "Sub"), ("MaxPool", "AveragePool")
ON_MAPS = (*QUANTIZED, *_GATES, *_POOLS, "Resize", "Concat", "Pad")
# Hard-swish and hard-sigmoid have the same value for everything below -3, so the range need not reach further down.
FLAT_BELOW, FLAT_ABOVE = -3.0, 3.0
LOWEST_HARD_SWISH = -0.375


@dataclass(frozen=True)
class Plan:
    """
    Which parts of a network are quantised.

    Args:
        nodes (`tuple[str, ...]`): Names of nodes whose inputs and outputs are.
        tensors (`tuple[str, ...]`): All maps of the image.
    """

    nodes: tuple[str, ...]
    tensors: tuple[str, ...]

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> "Plan":
        """That of a network: all but the first convolutions, and what stands before the first one quantised."""
        nodes, maps, pooled, in_float = [], {PIXEL_VALUES: None}, set(), {PIXEL_VALUES}
        first = 0
        constants = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            read = [name for name in node.input if name and name not in constants]
            if node.op_type == "Resize":
                read = read[:1]  # not the size
            if node.op_type not in ON_MAPS or not any(name in maps for name in read):
                continue
            maps.update(dict.fromkeys(node.output))
            if node.op_type in POOLING or all(name in pooled for name in read):
                pooled.update(node.output)
            counted = node.op_type == "Conv" and not pooled.issuperset(read)
            if all(name in in_float for name in read) and (not counted or first < FIRST_IN_FLOAT):
                first += counted
                in_float.update(node.output)
            elif node.op_type in QUANTIZED and all(name in maps for name in read):
                nodes.append(node.name)
        return cls(tuple(nodes), tuple(maps))


def quantize(network: onnx.ModelProto, feeds: Sequence[dict[str, np.ndarray]]) -> onnx.ModelProto:
    """
    The network with int8 weights and uint8 activations, in QDQ form.

    Args:
        network (`onnx.ModelProto`): in float32.
        feeds (sequence of `dict[str, numpy.ndarray]`): its inputs for some real images.

    Returns:
        `onnx.ModelProto`: the same inputs and outputs, float32 as before.

    Raises:
        InputError: there is nothing to quantise.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(network)
    means_by_pooling(prepared.graph)
    plan = Plan.of(prepared.graph)
    if not plan.nodes:  # onnxruntime would take that for all of them
        raise InputError("this network has no convolution that could be computed in int8; export it without --int8")
    seen = observe(prepared, feeds, plan.tensors)
    ranges = _useful({name: (one.low, one.high) for name, one in seen.items()}, prepared.graph)
    correct_biases(prepared.graph, plan.nodes, {name: one.means for name, one in seen.items()})
    quantizer = QDQQuantizer(
        prepared,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=_as_onnxruntime_has_them(ranges),
        nodes_to_quantize=list(plan.nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTIZED),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    integer_hard_swish(quantized.graph)
    integer_similarity(quantized.graph)
    return quantized


def _useful(ranges: Mapping[str, tuple[float, float]], graph: onnx.GraphProto) -> dict[str, tuple[float, float]]:
    """The ranges without values that make no difference to what reads them."""
    changes, useful = Rewriting(graph), {}
    for name, (low, high) in ranges.items():
        readers = {node.op_type for node in changes.users[name]}
        if readers and readers <= {"HardSwish", "HardSigmoid"}:
            low = max(low, FLAT_BELOW)
            high = min(high, FLAT_ABOVE) if readers == {"HardSigmoid"} else high
        if changes.maker(name, "HardSwish"):
            low = LOWEST_HARD_SWISH
        useful[name] = (min(low, high), high)
    return useful


def _as_onnxruntime_has_them(ranges: Mapping[str, tuple[float, float]]) -> TensorsData:
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.Percentile, data)


__all__ = ["Plan", "quantize"]
