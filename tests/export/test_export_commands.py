"""Commands that run exported graphs, and what cannot be exported or run."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from export_of_tiny import PROCESSOR, exported, same_network, save_exportable, vectors
from photos import photo
from PIL import Image
from tiny_model import NAMES
from torchvision.transforms.v2 import InterpolationMode
from written_data import write_data

from lclipseg.commands import evaluate, segment
from lclipseg.console.errors import InputError
from lclipseg.export import export
from lclipseg.export import label_map as label_map_graph
from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.words import attention_maps
from lclipseg.networks import exported as onnx_model
from lclipseg.networks.checkpoints import load_model, load_runnable, weights_sha256
from lclipseg.networks.export_record import MODEL_FILE
from lclipseg.prediction.scoring import score
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor, WordBank

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


def test_export_at_another_size_prepares_images_at_it(checkpoint, open_graph, tmp_path):
    with same_network(open_graph):
        small, kept = (exported(checkpoint, tmp_path / edge, "--shortest_edge", edge) for edge in ("32", "0"))
    sizes = [load_runnable(folder)[1].sizing.resized(64, 96) for folder in (small, kept)]
    assert sizes == [(32, 48), (64, 96)]


def test_size_below_zero_is_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="--shortest_edge -1: give 0 or more"):
        exported(checkpoint, tmp_path / "out", "--shortest_edge", "-1")


def test_export_over_an_earlier_one_is_allowed(checkpoint, open_graph, tmp_path):
    folder = shutil.copytree(open_graph, tmp_path / "export")
    (folder / MODEL_FILE).write_bytes(b"an earlier graph")
    with same_network(open_graph):
        exported(checkpoint, folder)
    assert (folder / MODEL_FILE).read_bytes() == (open_graph / MODEL_FILE).read_bytes()


def test_label_maps_cannot_be_averaged(map_graph):
    with pytest.raises(InputError, match="without --label_map"):
        segment_images(*load_runnable(map_graph), [photo(64, 64)], flip=True)


def test_baked_graph_takes_no_classes(checkpoint, open_graph, tmp_path):
    photo(64, 64).save(tmp_path / "a.png")
    with same_network(open_graph):
        baked = exported(checkpoint, tmp_path / "baked", "--vocabulary", "baked")
    with pytest.raises(InputError, match="3 classes baked in"):
        segment.main(*segment.parse([str(tmp_path / "a.png"), "--model", str(baked), "--classes", "sky"]))


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
