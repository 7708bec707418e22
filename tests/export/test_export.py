"""Exported graphs against the models that they were made from, and the commands that run them."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_of_tiny import PROCESSOR, exported, exported_once, same_network, save_exportable, vectors
from onnx import numpy_helper
from photos import photo
from PIL import Image
from tiny_model import NAMES, RESNET
from torchvision.transforms.v2 import InterpolationMode
from written_data import write_data

from lclipseg.commands import evaluate, segment
from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.prepare import prepare
from lclipseg.export import export
from lclipseg.export import graph as exporting
from lclipseg.export import label_map as label_map_graph
from lclipseg.export.arguments import HIGHEST_OPSET, LOWEST_OPSET, ExportArguments
from lclipseg.export.export import export_model
from lclipseg.export.finish import finished
from lclipseg.export.int8 import FIRST_IN_FLOAT, quantize
from lclipseg.lab.timing import graph_profile
from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.words import attention_maps
from lclipseg.networks import exported as onnx_model
from lclipseg.networks.checkpoints import load_model, load_runnable, weights_sha256
from lclipseg.networks.export_record import BANK_FILE, MODEL_FILE, ExportRecord
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.prediction.scoring import score
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor, WordBank, denseclip_lclipseg
from modeling_lclipseg.heads_lclipseg import HEADS

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def checkpoint(shared) -> Path:
    return exported_once(shared) / "checkpoint"


@pytest.fixture(scope="module")
def open_graph(shared) -> Path:
    return exported_once(shared) / "open"


@pytest.fixture(scope="module")
def map_graph(checkpoint, open_graph, folder) -> Path:
    with same_network(open_graph):
        return exported(checkpoint, folder / "map", "--label_map")


@pytest.fixture(scope="module")
def int8_graph(checkpoint, open_graph, folder) -> Path:
    (folder / "photos").mkdir()
    for seed in range(2):
        photo(96, 64, seed).save(folder / "photos" / f"{seed}.png")
    with same_network(open_graph):
        return exported(checkpoint, folder / "int8", "--int8", "--calibration", str(folder / "photos"))


BAKED = {name: {"guidance": name} for name in HEADS} | {"fusion without blocks": {"num_fusion_layers": 0}}


@pytest.fixture(scope="module", params=BAKED)
def baked(request, folder) -> Iterator[tuple[Path, Path]]:
    """A checkpoint of every head, DenseCLIP's less deep than any, and its graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denseclip_lclipseg, "DEPTH", 1)
        checkpoint = save_exportable(folder / request.param, backbone_config=RESNET, **BAKED[request.param])
        yield checkpoint, exported(checkpoint, folder / f"{request.param}-baked", "--vocabulary", "baked")


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


# -------------------------------------------------------------------------------------------------------- the commands


@pytest.mark.parametrize("graph", ["open_graph", "map_graph"])
def test_segment_takes_an_exported_model_and_other_classes(request, checkpoint, graph, tmp_path):
    WordBank(("tree",), vectors(1, seed=3)).save(tmp_path / "b.safetensors")
    photo(10, 8).resize((96, 64), Image.Resampling.BICUBIC).save(tmp_path / "a.png")
    maps = []
    for model in (checkpoint, request.getfixturevalue(graph)):
        arguments = ["--classes", "tree, Sky", "--bank", str(tmp_path / "b.safetensors"), "--out", str(tmp_path / "o")]
        assert segment.main(*segment.parse([str(tmp_path / "a.png"), "--model", str(model), *arguments])) == 0
        assert json.loads((tmp_path / "o" / "a.json").read_text())["id2label"] == {"0": "tree", "1": "Sky"}
        maps.append(np.array(Image.open(tmp_path / "o" / "a_mask.png")))
    assert (maps[0] == maps[1]).mean() > 0.99


@pytest.mark.parametrize("graph", ["open_graph", "map_graph"])
def test_evaluate_scores_an_exported_model_like_its_checkpoint(request, checkpoint, graph, tmp_path):
    data = write_data(tmp_path / "data")
    expected, found = (
        score(*evaluate.parse([str(model), "--data", str(data)]))
        for model in (checkpoint, request.getfixturevalue(graph))
    )
    assert found.scores.pixel_accuracy == pytest.approx(expected.scores.pixel_accuracy, abs=0.01)
    assert found.weights_sha256 != expected.weights_sha256


def test_results_know_an_export_by_its_graph_whatever_lies_beside_it(open_graph, tmp_path):
    folder = shutil.copytree(open_graph, tmp_path / "export")
    (folder / "model.safetensors").write_bytes(b"weights that do not run")
    graph = hashlib.sha256((open_graph / MODEL_FILE).read_bytes()).hexdigest()
    assert weights_sha256(folder) == graph


def test_windows_and_flipped_images_go_through_a_graph_with_logits(checkpoint, open_graph):
    image, settings = photo(100, 70), {"mode": "slide", "window": 64, "flip": True}
    (expected,) = segment_images(*load_model(checkpoint), [image], **settings)
    (found,) = segment_images(*load_runnable(open_graph), [image], **settings)
    assert (found == expected).float().mean() > 0.99


# --------------------------------------------------------------------------------------------------------- what fails


def draw_attention(model: Path, out: Path) -> None:
    attention_maps.main([], attention_maps.AttentionArguments(model=str(model), out=str(out / "a.png")))


def logits_of_a_photo(model: Path, out: Path) -> None:
    RealisticLogits.of(str(model), photo(64, 64))


@pytest.mark.parametrize("use", [exported, draw_attention, logits_of_a_photo])
@pytest.mark.parametrize("graph", ["open_graph", "map_graph"])
def test_what_needs_a_checkpoint_refuses_an_export_and_names_its_own(request, graph, use, tmp_path):
    with pytest.raises(InputError, match=r"holds an exported model, .* made from \(checkpoint\)"):
        use(request.getfixturevalue(graph), tmp_path)


def test_export_into_a_checkpoint_is_refused_and_changes_nothing(checkpoint):
    before = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    with pytest.raises(InputError, match=r"holds weights \(model\.safetensors\)"):
        exported(checkpoint, checkpoint)
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == before


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "pytorch_model.bin"])
def test_export_beside_weights_of_any_kind_or_into_a_file_is_refused(checkpoint, tmp_path, name):
    (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(InputError, match=name):
        exported(checkpoint, tmp_path)
    with pytest.raises(InputError, match="is a file; give a folder"):
        exported(checkpoint, tmp_path / name)


def test_export_over_an_earlier_one_is_allowed(checkpoint, open_graph, tmp_path):
    folder = shutil.copytree(open_graph, tmp_path / "export")
    (folder / MODEL_FILE).write_bytes(b"an earlier graph")
    with same_network(open_graph):
        exported(checkpoint, folder)
    assert (folder / MODEL_FILE).read_bytes() == (open_graph / MODEL_FILE).read_bytes()


def test_label_maps_cannot_be_averaged(map_graph):
    with pytest.raises(InputError, match="without --label_map"):
        segment_images(*load_runnable(map_graph), [photo(64, 64)], flip=True)


def test_baked_graph_takes_no_classes(baked, tmp_path):
    photo(64, 64).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="3 classes baked in"):
        segment.main(*segment.parse([str(tmp_path / "a.png"), "--model", str(baked[1]), "--classes", "sky"]))


def test_exported_model_knows_the_vectors_of_another_tower(open_graph):
    with pytest.raises(ValueError, match="do not come from this"):
        load_runnable(open_graph)[0].set_classes(["tree"], torch.eye(32)[1:2])


def test_exported_model_knows_what_was_trained(checkpoint, open_graph, tmp_path):
    source = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    model = LClipSegForSemanticSegmentation.from_pretrained(source)
    model.set_classes(["tree"], vectors(4)[3:]).save_pretrained(source)
    with same_network(open_graph):
        found = load_runnable(exported(source, tmp_path / "out"))[0].trained_classes()
    assert found[0] == NAMES
    assert torch.equal(found[1], model.trained_classes()[1])


@pytest.mark.parametrize("guidance", ["denseclip", "none"])
def test_closed_guidance_has_no_open_vocabulary(tmp_path, guidance):
    with pytest.raises(InputError, match="--vocabulary baked"):
        exported(save_exportable(tmp_path / "checkpoint", guidance=guidance), tmp_path / "out")


def test_checkpoint_without_class_embeddings_is_refused(checkpoint, tmp_path, monkeypatch):
    model = load_model(checkpoint)[0]
    model.class_embeddings.zero_()
    monkeypatch.setattr(export, "load_model", lambda *_: (model, PROCESSOR))
    with pytest.raises(InputError, match="has no class embeddings"):
        exported(checkpoint, tmp_path)


@pytest.mark.parametrize("arguments", [["--int8"], ["--calibration", "photos"]])
def test_int8_and_its_images_come_together(checkpoint, tmp_path, arguments):
    with pytest.raises(InputError, match="belong together"):
        exported(checkpoint, tmp_path, *arguments)


@pytest.mark.parametrize("resample", [2, "bilinear", InterpolationMode.BILINEAR])
def test_bilinear_is_known_in_every_form_that_the_processor_takes(resample):
    label_map_graph.check_settings(LClipSegImageProcessor(resample=resample))


@pytest.mark.parametrize(
    "settings",
    [
        {"pad_size": {"height": 64, "width": 64}},
        *({"resample": resample} for resample in (3, "bicubic", InterpolationMode.BICUBIC, None)),
    ],
)
def test_processor_that_has_no_place_in_the_graph_is_refused(tmp_path, checkpoint, monkeypatch, settings):
    processor = LClipSegImageProcessor(size={"shortest_edge": 32}, **settings)
    monkeypatch.setattr(export, "load_model", lambda *_: (load_model(checkpoint)[0], processor))
    with pytest.raises(InputError, match=next(iter(settings))):
        exported(checkpoint, tmp_path, "--label_map")


def test_damaged_graph_is_named(open_graph, tmp_path):
    shutil.copytree(open_graph, tmp_path, dirs_exist_ok=True)
    (tmp_path / MODEL_FILE).write_bytes((open_graph / MODEL_FILE).read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{MODEL_FILE} cannot be read"):
        onnx_model.load_exported(tmp_path)


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
