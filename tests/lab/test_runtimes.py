"""Exports in other runtimes than onnxruntime, and what is converted for them. What is not installed is skipped."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_of_tiny import exported, exported_once, same_network
from tiny_model import NAMES

from lclipseg.export.tracing import ConvertibleNetwork
from lclipseg.lab.timing.foreign import CONVERTED, OPENVINO
from lclipseg.lab.timing.runtimes import PHOTOGRAPHS, RuntimesArguments, main
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.export_record import MODEL_FILE
from lclipseg.networks.onnx_graph import OnnxGraph

IMAGE = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def checkpoint(shared) -> Path:
    return exported_once(shared) / "checkpoint"


@pytest.fixture(scope="module")
def graph(shared) -> Path:
    return exported_once(shared) / "open"


@torch.no_grad()
def test_what_is_converted_computes_the_models_logits_and_leaves_the_model_as_it_is(checkpoint):
    model, _ = load_model(checkpoint)
    expected = model(IMAGE).logits
    torch.testing.assert_close(ConvertibleNetwork(model)(IMAGE), expected, atol=1e-4, rtol=0)
    assert torch.equal(model(IMAGE).logits, expected)


def test_table_has_what_is_installed_and_names_what_is_not(graph, tmp_path):
    out = tmp_path / "runtimes.md"
    main([str(graph)], RuntimesArguments(size=64, rounds=2, out=str(out)))
    text, same = out.read_text(), ", ".join(["100.00"] * len(PHOTOGRAPHS))
    assert "| ONNX Runtime, open | onnxruntime " in text and f" | {same} | 0 | " in text
    assert "- OpenVINO, open: not installed: pip install openvino" in text or "| OpenVINO, open | openvino " in text


def test_logits_graph_has_nothing_that_tensorrt_is_known_to_refuse(graph):
    network = onnx.load(graph / MODEL_FILE).graph
    assert {value.type.tensor_type.elem_type for value in network.input} == {onnx.TensorProto.FLOAT}
    assert not {node.op_type for node in network.node} & {"Scan", "Loop", "If"}
    scaled = [node for node in network.node if node.op_type == "Resize"]
    attributes = [one for node in scaled for one in node.attribute if one.name == "antialias"]
    assert scaled and not any(one.i for one in attributes)


def test_openvino_computes_what_onnxruntime_does(graph):
    pytest.importorskip("openvino")
    export = OnnxGraph(graph)
    feed = {"pixel_values": IMAGE.numpy(), "class_embeddings": export.words.class_embeddings}
    found = OPENVINO.open(graph / MODEL_FILE)(feed)
    np.testing.assert_allclose(found, export.run(IMAGE.numpy()), atol=1e-4)


def test_openvino_refuses_a_label_map_in_the_graph_rather_than_scaling_otherwise(checkpoint, graph, tmp_path):
    pytest.importorskip("openvino")
    with same_network(graph):
        label_map = exported(checkpoint, tmp_path / "label_map", "--label_map")
    with pytest.raises(RuntimeError, match="Scan"):
        OPENVINO.open(label_map / MODEL_FILE)


@torch.no_grad()
def test_ncnn_computes_the_models_logits(checkpoint, tmp_path):
    runtime = CONVERTED["ncnn"]
    for package in runtime.packages:
        pytest.importorskip(package)
    network, file = ConvertibleNetwork(load_model(checkpoint)[0]), tmp_path / runtime.file
    runtime.convert(network, IMAGE, file)
    found = runtime.open(file)({"pixel_values": IMAGE.numpy()})
    assert found.shape[1] == len(NAMES)
    np.testing.assert_allclose(found, network(IMAGE).numpy(), atol=1e-3)
