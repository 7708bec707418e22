"""Editing an ONNX graph: nodes in place of nodes, without disturbing the order in which they run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

NHWC, NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


class Rewriting:
    """
    Changes of a graph, which are made together by `finish`.

    Args:
        graph (`onnx.GraphProto`): Is changed.

    Attributes:
        makers (`dict[str, NodeProto]`): The node that makes a tensor.
        users (`dict[str, list[NodeProto]]`): The nodes that read it.
        constants (`dict[str, numpy.ndarray]`): The values that do not depend on an input.
    """

    def __init__(self, graph: onnx.GraphProto):
        self.graph = graph
        self.makers = {output: node for node in graph.node for output in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._instead: dict[int, list[onnx.NodeProto]] = {}

    def maker(self, tensor: str, *kinds: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, if its operator is one of `kinds`."""
        node = self.makers.get(tensor)
        return node if node is not None and node.op_type in kinds else None

    def width(self, tensor: str) -> int:
        """The last side of a tensor, which the exporter must have noted."""
        (side,) = (value.type.tensor_type.shape.dim[-1] for value in self.graph.value_info if value.name == tensor)
        return side.dim_value

    def constant(self, name: str, value: Any) -> str:
        """A constant of this name and value; the name."""
        if name not in self.constants:
            self.constants[name] = np.asarray(value)
            self.graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
        return name

    def replace(self, node: onnx.NodeProto, nodes: Sequence[onnx.NodeProto]) -> None:
        """Put other nodes in the place of one; they may include it."""
        self._instead[id(node)] = list(nodes)

    def finish(self) -> None:
        """Make the changes, and drop nodes and constants that nothing needs any more."""
        nodes = [new for node in self.graph.node for new in self._instead.get(id(node), [node])]
        needed = {output.name for output in self.graph.output}
        kept = []
        for node in reversed(nodes):
            if needed.intersection(node.output):
                needed.update(node.input, _read_inside(node))
                kept.append(_copy(node))
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        constants = [tensor for tensor in self.graph.initializer if tensor.name in needed]
        del self.graph.initializer[:]
        self.graph.initializer.extend(constants)


def make(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node with one output, whose name it bears."""
    return helper.make_node(kind, inputs, [output], name=output, **attributes)


def enlarge_scores_side_by_side(graph: onnx.GraphProto) -> None:
    """
    Have the coarse scores that are added to the logits enlarged with the classes of a pixel side by side in memory,
    which takes onnxruntime a quarter of the time; the logits before them lie like that. Nothing is changed where no
    enlarged map is added at the end.

    Not for what browsers run: on WebGPU, onnxruntime-web 1.30 takes the second of four dimensions for the channels
    whatever it is, and gives wrong numbers without an error.
    """
    changes = Rewriting(graph)
    last = changes.maker(graph.output[0].name, "Add")
    enlargements = [node for name in (last.input if last else ()) if (node := changes.maker(name, "Resize"))]
    for resize in enlargements:
        name = resize.output[0]
        inside = _copy(resize)
        inside.input[0], inside.input[3] = f"{name}_rows", f"{name}_sizes"
        inside.name = inside.output[0] = f"{name}_enlarged"
        changes.replace(
            resize,
            [
                make("Transpose", [resize.input[0]], inside.input[0], perm=NHWC),
                make("Gather", [resize.input[3], changes.constant("nhwc", NHWC)], inside.input[3], axis=0),
                inside,
                make("Transpose", [inside.output[0]], name, perm=NCHW),
            ],
        )
    changes.finish()


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _read_inside(node: onnx.NodeProto) -> set[str]:
    """What the graphs inside of a node read of the graph around them."""
    graphs = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return {name for graph in graphs for inner in graph.node for name in (*inner.input, *_read_inside(inner))}


__all__ = ["NCHW", "NHWC", "Rewriting", "enlarge_scores_side_by_side", "make"]
