"""Parts of a quantised network that onnxruntime computes with integers when they are written in another way."""

import numpy as np
import onnx

from lclipseg.export.rewriting import NHWC, Rewriting, make

LEVELS = 255  # of uint8, but for zero
LARGEST_INT8 = 127


def means_by_pooling(graph: onnx.GraphProto) -> None:
    """Write means over the whole map as global pooling, of which there is a quantised one."""
    changes = Rewriting(graph)
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in changes.constants:
            continue
        keeps = all(attribute.i for attribute in node.attribute if attribute.name == "keepdims")
        if keeps and sorted(axis % 4 for axis in changes.constants[node.input[1]].tolist()) == [2, 3]:
            pooling = make("GlobalAveragePool", [node.input[0]], node.output[0])
            changes.replace(node, [pooling])
    changes.finish()


def integer_hard_swish(graph: onnx.GraphProto) -> None:
    """
    Write hard-swish, x * clip(x / 6 + 1/2, 0, 1), between a DequantizeLinear and a QuantizeLinear as two quantised
    products. The clipping is that of uint8 at its ends: x / 6 is quantised in steps of 1 / 255 with zero in the
    middle, and read as if zero were at the lower end.
    """
    changes = Rewriting(graph)
    sixth, one = changes.constant("gate_sixth", np.float32(1 / 6)), changes.constant("gate_one", np.uint8(1))
    step = changes.constant("gate_step", np.float32(1 / LEVELS))
    middle, lowest = changes.constant("gate_middle", np.uint8(128)), changes.constant("gate_lowest", np.uint8(0))
    for node in graph.node:
        (value, *_), (output, *_) = node.input or [""], node.output
        if node.op_type != "HardSwish" or not changes.maker(value, "DequantizeLinear"):
            continue
        if not all(user.op_type == "QuantizeLinear" for user in changes.users[output]):
            continue
        factor, scaled, gate = f"{output}_sixth", f"{output}_scaled", f"{output}_gate"
        changes.replace(
            node,
            [
                make("DequantizeLinear", [one, sixth, lowest], factor),
                make("Mul", [value, factor], scaled),
                make("QuantizeLinear", [scaled, step, middle], f"{gate}_quantized"),
                make("DequantizeLinear", [f"{gate}_quantized", step, lowest], gate),
                make("Mul", [value, gate], output),
            ],
        )
    changes.finish()


def integer_similarity(graph: onnx.GraphProto) -> None:
    """
    Have products of quantised pixels with class tokens, and the squared lengths of these pixels, computed with
    integers. The tokens are quantised as the graph runs, since the classes may be an input of it.
    """
    changes = Rewriting(graph)
    for product in [node for node in graph.node if node.op_type == "MatMul"]:
        rows = changes.maker(product.input[0], "Reshape")
        turned = changes.maker(rows.input[0], "Transpose") if rows else None
        pixels = changes.maker(turned.input[0], "DequantizeLinear") if turned else None
        if rows is None or turned is None or pixels is None or list(turned.attribute[0].ints) != NHWC:
            continue
        values, step, zero = pixels.input
        integers = f"{rows.output[0]}_integers"
        changes.replace(turned, [make("Transpose", [values], f"{integers}_apart", perm=NHWC)])
        changes.replace(
            rows,
            [
                make("Reshape", [f"{integers}_apart", rows.input[1]], integers),
                make("DequantizeLinear", [integers, step, zero], rows.output[0]),
            ],
        )
        changes.replace(product, _integer_product(changes, product, integers, step, zero))
        for square in changes.users[rows.output[0]]:
            sums = changes.users[square.output[0]]
            if (
                square.op_type == "Mul"
                and len(set(square.input)) == 1
                and [one.op_type for one in sums] == ["ReduceSum"]
            ):
                changes.replace(sums[0], _integer_sum_of_squares(changes, square, sums[0], step, zero))
    changes.finish()


def _integer_product(
    changes: Rewriting, product: onnx.NodeProto, integers: str, step: str, zero: str
) -> list[onnx.NodeProto]:
    tokens, output = product.input[1], product.output[0]
    of_tokens = f"{output}_tokens"
    largest = changes.constant("largest_int8", np.float32(LARGEST_INT8))
    return [
        make("Abs", [tokens], f"{of_tokens}_absolute"),
        make("ReduceMax", [f"{of_tokens}_absolute"], f"{of_tokens}_largest", keepdims=0),
        make("Div", [f"{of_tokens}_largest", largest], f"{of_tokens}_step"),
        make(
            "QuantizeLinear",
            [tokens, f"{of_tokens}_step", changes.constant("middle_int8", np.int8(0))],
            f"{of_tokens}_integers",
        ),
        make("MatMulInteger", [integers, f"{of_tokens}_integers", zero], f"{output}_integers"),
        make("Cast", [f"{output}_integers"], f"{output}_unscaled", to=onnx.TensorProto.FLOAT),
        make("Mul", [f"{of_tokens}_step", step], f"{output}_step"),
        make("Mul", [f"{output}_unscaled", f"{output}_step"], output),
    ]


def _integer_sum_of_squares(
    changes: Rewriting, square: onnx.NodeProto, total: onnx.NodeProto, step: str, zero: str
) -> list[onnx.NodeProto]:
    """The squares of one pixel are many, so that rounding each to one of 256 hardly changes their sum. It is one step
    at least: a pixel whose squares are all rounded to zero would have endless scores."""
    name, output, middle = square.output[0], total.output[0], int(changes.constants[zero])
    largest = (max(middle, LEVELS - middle) * float(changes.constants[step])) ** 2
    own_step = changes.constant(f"{name}_step", np.float32(largest / LEVELS))
    lowest, least = changes.constant("lowest_uint8", np.uint8(0)), changes.constant("least_sum", np.float32(1))
    ones = changes.constant("ones", np.ones((changes.width(name), 1), np.int8))
    return [
        make("QuantizeLinear", [name, own_step, lowest], f"{name}_integers"),
        make("MatMulInteger", [f"{name}_integers", ones], f"{output}_integers"),
        make("Cast", [f"{output}_integers"], f"{output}_unscaled", to=onnx.TensorProto.FLOAT),
        make("Clip", [f"{output}_unscaled", least], f"{output}_positive"),
        make("Mul", [f"{output}_positive", own_step], output),
    ]


__all__ = ["integer_hard_swish", "integer_similarity", "means_by_pooling"]
