"""Exported graphs against the models that they were made from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_of_tiny import PROCESSOR, exported, same_network
from onnx import numpy_helper
from photos import photo
from PIL import Image
from tiny_model import NAMES

from lclipseg.commands import evaluate
from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.prepare import prepare
from lclipseg.export import export
from lclipseg.export import graph as exporting
from lclipseg.export.arguments import HIGHEST_OPSET, LOWEST_OPSET, ExportArguments
from lclipseg.export.export import export_model
from lclipseg.export.finish import finished
from lclipseg.export.int8 import FIRST_IN_FLOAT, quantize
from lclipseg.lab.timing import graph_profile
from lclipseg.networks.checkpoints import load_model, load_runnable
from lclipseg.networks.export_record import BANK_FILE, MODEL_FILE, ExportRecord
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.prediction.scoring import score
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import WordBank

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"

# ---------------------------------------------------------------------------------------------------------- the graphs


@torch.no_grad()
@pytest.mark.parametrize(
    ("batch", "height", "width", "num_classes"), [(1, 64, 64, 3), (3, 33, 101, 1), (2, 97, 128, 200)]
)
def test_logits_are_those_of_the_model_at_sizes_not_seen_in_the_export(
    checkpoint, open_graph, batch, height, width, num_classes
):
    generator = torch.Generator().manual_seed(height)
    inputs = {
        "pixel_values": torch.randn(batch, 3, height, width, generator=generator),
        "class_embeddings": torch.randn(num_classes, 32, generator=generator),
    }
    expected = load_model(checkpoint)[0](**inputs).logits
    torch.testing.assert_close(load_runnable(open_graph)[0](**inputs).logits, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_head_bakes_its_classes_in_and_takes_any_batch_height_and_width(baked):
    model, graph = (load(folder)[0] for load, folder in zip((load_model, load_runnable), baked, strict=True))
    for size in ((2, 64, 96), (1, 65, 96), (1, 64, 64), (3, 70, 101)):
        pixel_values = torch.randn(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(graph(pixel_values).logits, model(pixel_values).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(96, 64), (75, 50), (33, 160), (200, 131)])
def test_label_map_is_that_of_the_model(checkpoint, map_graph, size):
    image = photo(10, 8).resize(size, Image.Resampling.BICUBIC)
    (expected,) = segment_images(*load_model(checkpoint), [image])
    (found,) = segment_images(*load_runnable(map_graph), [image])
    assert found.shape == expected.shape
    assert (found == expected).float().mean() > 0.99  # a scaled value in some hundred is rounded the other way


@torch.no_grad()
def test_int8_graph_stays_near_the_model(checkpoint, int8_graph):
    pixel_values = PROCESSOR(images=photo(96, 64), return_tensors="pt")["pixel_values"]
    expected = load_model(checkpoint)[0](pixel_values).logits
    error = load_runnable(int8_graph)[0](pixel_values).logits - expected
    assert 0 < error.norm() / (expected - expected.mean()).norm() < 0.3


@torch.no_grad()
def test_every_head_can_be_quantised(baked):
    checkpoint, graph = baked
    values = PROCESSOR(images=[photo(96, 64, seed) for seed in range(2)], return_tensors="pt")["pixel_values"]
    network = quantize(onnx.load(graph / MODEL_FILE), [{"pixel_values": values.numpy()}])
    expected = load_model(checkpoint)[0](values).logits
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    error = torch.from_numpy(session.run(None, {"pixel_values": values.numpy()})[0]) - expected
    assert 0 < error.norm() / (expected - expected.mean()).norm() < 0.3


def test_all_but_the_first_convolutions_and_the_products_with_the_classes_run_with_integers(int8_graph, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    onnxruntime.InferenceSession(str(int8_graph / MODEL_FILE), options, providers=["CPUExecutionProvider"])
    run = [node.op_type for node in onnx.load(tmp_path / "as_run.onnx").graph.node]
    assert len([kind for kind in run if kind in ("Conv", "FusedConv")]) == FIRST_IN_FLOAT
    assert {"QLinearConv", "QLinearAdd", "MatMulIntegerToFloat"} <= set(run)


def test_profile_has_every_operator_of_every_export(open_graph, int8_graph, tmp_path):
    arguments = graph_profile.ProfileArguments(size=64, rounds=2, out=str(tmp_path / "profile.md"))
    graph_profile.main([str(open_graph), str(int8_graph)], arguments)
    table = (tmp_path / "profile.md").read_text()
    assert "| open | " in table and "| int8 | " in table and "| QLinearConv |  | " in table


@pytest.mark.parametrize(("arguments", "side_by_side"), [([], True), (["--label_map"], False)])
def test_scores_are_enlarged_with_the_channels_second_where_browsers_run_it(
    checkpoint, open_graph, tmp_path, monkeypatch, arguments, side_by_side
):
    """On WebGPU onnxruntime-web enlarges other maps wrongly, without an error."""
    changed = []
    monkeypatch.setattr(export, "enlarge_scores_side_by_side", changed.append)
    with same_network(open_graph):
        exported(checkpoint, tmp_path, *arguments)
    assert bool(changed) == side_by_side


def test_int8_graph_takes_less_room(open_graph, int8_graph):
    before, after = (
        sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(folder / MODEL_FILE).graph.initializer)
        for folder in (open_graph, int8_graph)
    )
    assert after < 0.6 * before


@pytest.mark.parametrize("graph", ["open_graph", "map_graph", "int8_graph"])
def test_record_says_what_the_graph_takes_and_gives(request, graph):
    folder = request.getfixturevalue(graph)
    session, record = load_runnable(folder)[0].session, ExportRecord.load(folder)
    assert {value.name: value.shape for value in session.get_inputs()} == {
        name: value["shape"] for name, value in record.inputs.items()
    }
    assert [value.name for value in session.get_outputs()] == list(record.outputs)


@pytest.mark.parametrize("graph", ["open_graph", "map_graph", "int8_graph"])
def test_graph_is_valid_and_imports_each_set_of_operators_once(request, graph):
    found = onnx.load(request.getfixturevalue(graph) / MODEL_FILE)
    onnx.checker.check_model(found, full_check=True)
    assert [(one.domain, one.version) for one in found.opset_import] == [("", LOWEST_OPSET)]
    assert found.ir_version <= 10  # as high as the lowest onnxruntime that setup.cfg promises reads


@pytest.mark.parametrize("graph", ["open_graph", "map_graph", "int8_graph"])
@pytest.mark.parametrize("opset", [LOWEST_OPSET + 1, HIGHEST_OPSET])
def test_graph_of_other_operators_gives_the_same(request, graph, opset, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(graph), tmp_path / "other")
    converted = finished(onnx.load(folder / MODEL_FILE), opset)
    onnx.save(converted, folder / MODEL_FILE)
    assert [one.version for one in converted.opset_import] == [opset]
    expected, found = (GraphSegmenter(one).segment(photo(80, 64)) for one in (request.getfixturevalue(graph), folder))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("graph", ["open_graph", "map_graph", "int8_graph"])
def test_graph_says_what_it_was_made_for(request, graph, checkpoint):
    notes = load_runnable(request.getfixturevalue(graph))[0].session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == NAMES and json.loads(notes["prompt_templates"]) == ["a photo of a {}"]
    assert json.loads(notes["image_mean"]) == list(PROCESSOR.image_mean)
    assert json.loads(notes["size"]) == {"shortest_edge": 64, "longest_edge": 160}
    assert (notes["model"], "license" in notes) == (checkpoint.name, False)


def test_licence_is_that_of_the_card_unless_another_is_given(checkpoint, open_graph, tmp_path):
    source = shutil.copytree(checkpoint, tmp_path / "carded")
    (source / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A card\n")
    with same_network(open_graph):
        for given, expected in (([], "cc-by-nc-4.0"), (["--licence", "mit"], "mit")):
            folder = exported(source, tmp_path / "out", *given)
            notes = {prop.key: prop.value for prop in onnx.load(folder / MODEL_FILE).metadata_props}
            assert notes["license"] == expected


def test_files_are_readable_by_whoever_reads_the_record(open_graph):
    assert len({file.stat().st_mode for file in open_graph.iterdir()}) == 1


@pytest.mark.parametrize("opset", [17, 22])
def test_operators_that_no_promised_runtime_has_are_refused(opset):
    with pytest.raises(InputError, match=f"--opset {opset}: give 18 to 21"):
        ExportArguments(opset=opset)


@pytest.mark.parametrize("graph", ["open_graph", "map_graph", "int8_graph"])
def test_no_file_names_a_folder_of_the_machine(request, shared, checkpoint, graph):
    files = list(request.getfixturevalue(graph).iterdir())
    assert ExportRecord.load(files[0].parent).model == checkpoint.name
    assert not [file.name for file in files if str(shared).encode() in file.read_bytes()]


def test_record_of_a_model_on_the_hub_keeps_its_name(checkpoint, open_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_model", lambda *_: load_model(checkpoint))
    with same_network(open_graph):
        record = export_model("owner/name", ExportArguments(out=str(tmp_path)))
    assert (record.model, record.weights_sha256) == ("owner/name", None)


def test_class_embeddings_beside_an_open_graph_are_a_word_bank(checkpoint, open_graph):
    expected = torch.nn.functional.normalize(load_model(checkpoint)[0].class_embeddings, dim=1)
    torch.testing.assert_close(WordBank.load(open_graph / BANK_FILE).lookup(NAMES), expected)


def test_baked_export_leaves_no_vectors_of_an_open_one(checkpoint, open_graph, tmp_path):
    (tmp_path / BANK_FILE).write_bytes(b"of an earlier export")
    record = replace(ExportRecord.load(open_graph), vocabulary="baked")
    exporting.write_export(tmp_path, onnx.load(open_graph / MODEL_FILE), *load_model(checkpoint), record)
    assert not (tmp_path / BANK_FILE).exists()


# ---------------------------------------------------------------------------------------------- the shipped checkpoint


@pytest.mark.slow
def test_label_map_of_a_photograph_agrees_in_all_but_a_thousandth(tmp_path):
    image = Image.open(ROOT / "docs" / "demo" / "street.jpg")
    (expected,) = segment_images(*load_model(SHIPPED), [image])
    (found,) = segment_images(*load_runnable(exported(SHIPPED, tmp_path, "--label_map")), [image])
    assert (found == expected).float().mean() >= 0.999


@pytest.mark.slow
def test_int8_loses_at_most_half_a_point_on_real_data_and_is_small(tmp_path, real_data):
    data = tmp_path / "camvid"
    prepare("camvid", PrepareArguments(source=str(real_data / "camvid"), out=str(data)))
    graph = exported(SHIPPED, tmp_path, "--int8", "--calibration", str(data))
    assert (graph / MODEL_FILE).stat().st_size < 5e6
    before, after = (
        score(*evaluate.parse([str(model), "--data", str(data)])).scores.mean_iou for model in (SHIPPED, graph)
    )
    assert 100 * (before - after) <= 0.5
