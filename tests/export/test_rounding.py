"""Biases that make up for rounded weights."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from lclipseg.export import int8
from lclipseg.export.rewriting import make
from lclipseg.export.rounding import correct_biases, rounded

FLOAT = onnx.TensorProto.FLOAT


def outputs(graph: onnx.GraphProto, x: np.ndarray) -> np.ndarray:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (6, True), (3, False)])
def test_a_channel_keeps_its_mean_when_weights_are_rounded(groups, bias):
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(12, 6 // groups, 3, 3)).astype(np.float32)
    constants = {"weights": weights} | ({"bias": draw.normal(size=12).astype(np.float32)} if bias else {})
    node = make("Conv", ["x", *constants], "y", group=groups)
    node.name = "conv"
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", FLOAT, [1, 6, 5, 5])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    means = draw.uniform(1, 3, size=6).astype(np.float32)
    x = np.broadcast_to(means[None, :, None, None], (1, 6, 5, 5)).copy()
    expected = outputs(graph, x)

    correct_biases(graph, ["conv"], {"x": means})
    (tensor,) = [tensor for tensor in graph.initializer if tensor.name == "weights"]
    tensor.CopyFrom(numpy_helper.from_array(rounded(weights.astype(np.float64)).astype(np.float32), "weights"))
    # Sums of 54 products of numbers up to about 10 in float32.
    assert outputs(graph, x) == pytest.approx(expected, abs=54 * 10 * 2**-23 * 4)
    assert len(graph.initializer) == 2  # the old bias is gone


def test_a_convolution_that_stays_in_float_keeps_its_bias():
    weights = np.ones((2, 1, 1, 1), np.float32) / 3
    node = make("Conv", ["x", "weights"], "y")
    node.name = "first"
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", FLOAT, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(weights, "weights")],
    )
    correct_biases(graph, ["another"], {"x": np.ones(1, np.float32)})
    assert list(graph.node[0].input) == ["x", "weights"]


def test_quantised_network_has_rounded_weights_and_corrected_biases(monkeypatch):
    monkeypatch.setattr(int8, "FIRST_IN_FLOAT", 0)
    draw = np.random.default_rng(0)
    weights = draw.normal(size=(4, 3, 1, 1)).astype(np.float32)
    x = draw.uniform(0, 2, size=(1, 3, 8, 8)).astype(np.float32)
    first, second = make("Conv", ["pixel_values", "w"], "x"), make("Conv", ["x", "weights"], "y")
    first.name, second.name = "first", "second"
    tensors = {"w": np.eye(3, dtype=np.float32)[:, :, None, None], "weights": weights}
    graph = helper.make_graph(
        [first, second],
        "test",
        [helper.make_tensor_value_info("pixel_values", FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = int8.quantize(model, [{"pixel_values": x}]).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.initializer}
    scale = values["weights_scale"][:, None, None, None]
    assert values["weights_quantized"] * scale == pytest.approx(rounded(weights), abs=1e-6)
    added = ((rounded(weights) - weights)[:, :, 0, 0] * x.mean(axis=(0, 2, 3))).sum(axis=1)
    bias = values["y_bias_quantized"] * values["y_bias_quantized_scale"]
    # int32 has steps of the two scales' product, which is far below what rounding adds.
    assert np.abs(added).max() > 1e-4 and bias == pytest.approx(-added, abs=1e-4)
