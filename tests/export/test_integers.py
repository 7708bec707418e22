"""Parts of a quantised graph that are written in another way: the same values, up to rounding."""

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from lclipseg.console.errors import InputError
from lclipseg.export.int8 import FIRST_IN_FLOAT, Plan, quantize
from lclipseg.export.integers import integer_hard_swish, integer_similarity, means_by_pooling
from lclipseg.export.rewriting import NHWC, enlarge_scores_side_by_side, make

FLOAT = onnx.TensorProto.FLOAT
STEP, ZERO = np.float32(0.05), np.uint8(100)


def graph_of(nodes, constants=None, inner=None, **inputs) -> onnx.GraphProto:
    """From inputs of the given shapes to the tensor `y`; `inner` are shapes that the exporter would have noted."""
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    noted = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in (inner or {}).items()]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    output = helper.make_tensor_value_info("y", FLOAT, None)
    return helper.make_graph(nodes, "test", values, [output], tensors, value_info=noted)


def run(graph: onnx.GraphProto, **feeds: np.ndarray) -> np.ndarray:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def rewritten(graph: onnx.GraphProto, change) -> onnx.GraphProto:
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    change(copy)
    assert [node.op_type for node in copy.node] != [node.op_type for node in graph.node]
    return copy


def rounded(name: str) -> list[onnx.NodeProto]:
    """The two nodes that round the tensor NAME to uint8, into NAME_rounded."""
    return [
        make("QuantizeLinear", [name, "step", "zero"], f"{name}_integers"),
        make("DequantizeLinear", [f"{name}_integers", "step", "zero"], f"{name}_rounded"),
    ]


def test_hard_swish_of_integers_is_hard_swish_up_to_rounding():
    nodes = [*rounded("x"), make("HardSwish", ["x_rounded"], "h"), *rounded("h")]
    graph = graph_of([*nodes, make("Identity", ["h_rounded"], "y")], {"step": STEP, "zero": ZERO}, x=[256])
    x = (np.arange(256, dtype=np.float32) - ZERO) * STEP
    error = run(rewritten(graph, integer_hard_swish), x=x) - run(graph, x=x)
    # The gate is rounded to 255 steps, and one half of these lies between two; the result is rounded once more.
    assert (np.abs(error) <= np.abs(x) / 255 + STEP).all()


def test_hard_swish_between_floats_stays():
    graph = graph_of([make("HardSwish", ["x"], "y")], x=[4])
    integer_hard_swish(graph)
    assert [node.op_type for node in graph.node] == ["HardSwish"]


def similarity(output: str) -> onnx.GraphProto:
    """Pixels (1, 8, 4, 6) and tokens (1, 8, 5) give products (1, 24, 5) or squared lengths (1, 24, 1)."""
    nodes = [
        *rounded("x"),
        make("Transpose", ["x_rounded"], "apart", perm=NHWC),
        make("Reshape", ["apart", "shape"], "rows"),
        make("MatMul", ["rows", "tokens"], "product"),
        make("Mul", ["rows", "rows"], "squares"),
        make("ReduceSum", ["squares", "last"], "lengths", keepdims=1),
        make("Identity", [output], "y"),
    ]
    constants = {"step": STEP, "zero": ZERO, "shape": [1, 24, 8], "last": [-1]}
    return graph_of(nodes, constants, {"squares": [1, 24, 8]}, x=[1, 8, 4, 6], tokens=[1, 8, 5])


@pytest.mark.parametrize("output", ["product", "lengths"])
def test_similarity_of_integers_is_the_similarity_up_to_rounding(output):
    draw = np.random.default_rng(0)
    x, tokens = draw.normal(size=(1, 8, 4, 6)).astype("f"), draw.normal(size=(1, 8, 5)).astype("f")
    graph = similarity(output)
    expected = run(graph, x=x, tokens=tokens)
    error = run(rewritten(graph, integer_similarity), x=x, tokens=tokens) - expected
    # Eight products with half a step of the tokens each, or eight squares with half a step of the squares each.
    of_tokens = np.abs(tokens).max() / 127 / 2 * 8 * np.abs(x).max()
    of_squares = (155 * STEP) ** 2 / 255 / 2 * 8
    assert np.abs(error).max() <= {"product": of_tokens, "lengths": of_squares}[output] + 1e-4


def test_pixel_whose_squares_are_all_rounded_to_zero_has_a_length():
    graph = rewritten(similarity("lengths"), integer_similarity)
    assert run(graph, x=np.zeros((1, 8, 4, 6), "f"), tokens=np.ones((1, 8, 5), "f")).min() > 0


@pytest.mark.parametrize(
    ("axes", "kind"), [([2, 3], "GlobalAveragePool"), ([-1, -2], "GlobalAveragePool"), ([1], "ReduceMean")]
)
def test_means_over_the_whole_map_are_pooled(axes, kind):
    graph = graph_of([make("ReduceMean", ["x", "axes"], "y", keepdims=1)], {"axes": axes}, x=[1, 3, 4, 4])
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype("f")
    expected = run(graph, x=x)
    means_by_pooling(graph)
    assert [node.op_type for node in graph.node] == [kind]
    np.testing.assert_allclose(run(graph, x=x), expected, atol=1e-6)


def test_first_convolutions_and_what_stands_between_are_not_planned_to_be_quantised():
    gate = [make("GlobalAveragePool", ["first1"], "mean"), make("Conv", ["mean", "w"], "gate")]
    nodes = [
        make("Conv", ["pixel_values", "w"], "first0"),
        make("HardSwish", ["first0"], "swish"),
        make("Conv", ["swish", "w"], "first1"),
        *gate,
        make("Mul", ["first1", "gate"], "gated"),
        *(make("Conv", [before, "w"], after) for before, after in pairwise(["gated", "first2", "first3", "first4"])),
        make("Conv", ["first4", "w"], "sixth"),
        make("Add", ["sixth", "first4"], "sum"),
        make("Add", ["sum", "of_text"], "y"),
    ]
    plan = Plan.of(
        graph_of(nodes, {"w": np.zeros((3, 3, 1, 1), "f")}, pixel_values=[1, 3, 8, 8], of_text=[1, 3, 8, 8])
    )
    assert FIRST_IN_FLOAT == 5
    assert plan.nodes == ("sixth", "sum")
    assert "y" in plan.tensors  # still a map of the image, though text was added


def test_enlarged_scores_are_the_same_with_the_classes_of_a_pixel_side_by_side():
    nodes = [make("Resize", ["x", "", "", "sizes"], "enlarged", mode="linear"), make("Add", ["enlarged", "x2"], "y")]
    graph = graph_of(nodes, {"sizes": [1, 3, 8, 10]}, x=[1, 3, 4, 5], x2=[1, 3, 8, 10])
    draw = np.random.default_rng(0)
    feeds = {"x": draw.normal(size=(1, 3, 4, 5)).astype("f"), "x2": draw.normal(size=(1, 3, 8, 10)).astype("f")}
    changed = rewritten(graph, enlarge_scores_side_by_side)
    np.testing.assert_allclose(run(changed, **feeds), run(graph, **feeds), atol=1e-6)


def test_network_without_anything_to_quantise_is_refused():
    graph = graph_of([make("Conv", ["pixel_values", "w"], "y")], {"w": np.ones((1, 3, 1, 1), np.float32)},
                     pixel_values=[1, 3, 8, 8])  # fmt: skip
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    with pytest.raises(InputError, match="without --int8"):
        quantize(network, [])
