"""Exported models without torch: their label maps, scores and errors are those of the checkpoint that they came from.

What torch and transformers take time and memory for is not loaded: test_command_line.py in tests/house/.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from export_of_tiny import CENTER, exported, exported_once, same_network, vectors
from photos import photo, save_photo_on_its_side
from PIL import Image
from tiny_model import NAMES
from written_export import write_export

from lclipseg.commands import segment
from lclipseg.console.errors import InputError
from lclipseg.networks.checkpoints import load_runnable
from lclipseg.networks.onnx_graph import OnnxGraph
from lclipseg.networks.onnx_words import EVERYDAY_WORDS, load_bank
from lclipseg.prediction.arrays import ArrayImageProcessor
from lclipseg.prediction.checkpoint_segmenter import CheckpointSegmenter
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.prediction.open import open_segmenter
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import LClipSegImageProcessor, WordBank
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image
from modeling_lclipseg.outputs_lclipseg import LClipSegSemanticSegmenterOutput

SETTINGS = [
    {},
    {"size": {"shortest_edge": 48, "longest_edge": 64}},
    {"size": {"longest_edge": 50}, "resample": 3},
    {"size": {"height": 48, "width": 80}},
    {"do_resize": False, "pad_size_divisor": 1},
    {"size": {"shortest_edge": 40}, "do_pad": False, "do_normalize": False},
    {"size": {"shortest_edge": 40}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": False},
]
SIZES = [(96, 64), (75, 50), (33, 160), (1, 7)]


def both(settings, folder) -> tuple[LClipSegImageProcessor, ArrayImageProcessor]:
    """The image processor, and what reads its file."""
    processor = LClipSegImageProcessor(**{"size": {"shortest_edge": 64}, **settings})
    processor.save_pretrained(folder)
    return processor, ArrayImageProcessor(json.loads((folder / "preprocessor_config.json").read_text()))


# ----------------------------------------------------------------------------------------- against the image processor


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", SIZES)
def test_pixel_values_are_the_image_processors_but_for_one_level_of_rounding(settings, size, tmp_path):
    processor, arrays = both(settings, tmp_path)
    image = photo(10, 8).resize(size, Image.Resampling.BICUBIC)
    expected = processor(images=image, return_tensors="np")["pixel_values"]
    found = arrays(image)
    factor = processor.rescale_factor if processor.do_rescale else 1
    level = factor / (min(processor.image_std) if processor.do_normalize else 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1.01 * level, rtol=0)


@pytest.mark.parametrize("num_classes", [1, 5, 150])
@pytest.mark.parametrize("size", [(96, 64), (33, 160), (200, 131)])
def test_label_maps_and_confidence_are_the_image_processors(num_classes, size, tmp_path):
    processor, arrays = both({}, tmp_path)
    width, height = size
    padded = arrays(Image.new("RGB", size)).shape[2:]
    shape = (1, num_classes, padded[0] // 4, padded[1] // 4)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    outputs, target = LClipSegSemanticSegmenterOutput(logits=logits), [(height, width)]
    for least_score in (None, 0.5):
        (expected,) = processor.post_process_semantic_segmentation(outputs, target, least_score=least_score)
        found = arrays.label_map(logits[0].numpy(), (height, width), least_score)
        assert (found == expected.numpy()).mean() >= 0.999
    ((ids, sure),) = processor.post_process_confidence(outputs, target)
    found_ids, found_sure = arrays.confidence(logits[0].numpy(), (height, width))
    assert (found_ids == ids.numpy()).mean() >= 0.999
    np.testing.assert_allclose(found_sure, sure.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"size": {"height": 3, "shortest_edge": 3}}, {"resample": "best"}, {"resample": 99}]
)
def test_settings_that_cannot_be_met_are_told_when_a_model_is_opened(settings, graphs, tmp_path):
    folder = shutil.copytree(graphs["logits"], tmp_path / "export")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(InputError, match=r"preprocessor_config\.json cannot be used"):
        GraphSegmenter(folder)


# --------------------------------------------------------------------------------------------------- against the model


@pytest.fixture(scope="module")
def graphs(shared, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    checkpoint, logits = (exported_once(shared) / name for name in ("checkpoint", "open"))
    with same_network(logits):
        baked = exported(checkpoint, folder / "baked", "--vocabulary", "baked")
        label_map = exported(checkpoint, folder / "label_map", "--label_map")
    return {"checkpoint": checkpoint, "logits": logits, "baked": baked, "label_map": label_map}


def smooth(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    return photo(12, 8).resize(size, Image.Resampling.BICUBIC).convert(mode)


def saved(folder: Path, kind: str) -> Path:
    path = folder / f"image.{'jpg' if kind == 'on its side' else 'png'}"
    if kind == "on its side":
        save_photo_on_its_side(path)
    elif kind == "16 bits":
        Image.fromarray(np.asarray(smooth((96, 64), "L")).astype(np.uint16) * 257).save(path)
    else:
        smooth((96, 64), kind).save(path)
    return path


@pytest.mark.parametrize("kind", ["RGB", "L", "LA", "P", "RGBA", "1", "16 bits", "on its side"])
@pytest.mark.parametrize("graph", ["logits", "baked", "label_map"])
def test_image_of_every_kind_gets_the_label_map_of_the_checkpoint(graphs, graph, kind, tmp_path):
    image = to_rgb_image(open_image(saved(tmp_path, kind)))
    expected = CheckpointSegmenter(str(graphs["checkpoint"])).segment(image)
    found = open_segmenter(str(graphs[graph]))
    assert isinstance(found, GraphSegmenter)
    assert found.segment(image).shape == expected.shape
    assert (found.segment(image) == expected).mean() >= 0.999


@pytest.mark.parametrize(("mode", "scored"), [("slide", False), ("slide", True), ("whole", True)])
def test_windows_and_least_scores_are_those_of_the_checkpoint(graphs, mode, scored):
    image = smooth((150, 100))
    free = GraphSegmenter(graphs["logits"])
    least_score = float(np.median(free.logits(image).max(axis=0))) if scored else None
    expected = CheckpointSegmenter(str(graphs["checkpoint"]), least_score=least_score).segment(image, mode)
    found = GraphSegmenter(graphs["logits"], least_score=least_score).segment(image, mode)
    assert (found == expected).mean() >= 0.999
    assert ((found == -1).any(), (found == free.segment(image, mode))[found >= 0].mean()) == (scored, 1)


def test_least_score_of_a_label_map_is_that_of_the_logits(graphs):
    image = smooth((150, 100))
    least_score = float(np.median(GraphSegmenter(graphs["logits"]).logits(image).max(axis=0)))
    expected = GraphSegmenter(graphs["logits"], least_score=least_score).segment(image)
    found = GraphSegmenter(graphs["label_map"], least_score=least_score).segment(image)
    (as_tensor,) = segment_images(*load_runnable(graphs["label_map"]), [image], least_score=least_score)
    assert np.array_equal(found, as_tensor) and 0 < (found == -1).mean() < 1
    assert (found == expected).mean() >= 0.99  # a scaled value in some hundred is rounded the other way


def test_windows_of_a_label_map_are_refused(graphs):
    with pytest.raises(InputError, match="without --label_map"):
        GraphSegmenter(graphs["label_map"]).segment(smooth((150, 100)), "slide")


def test_least_score_needs_the_scores_that_older_exports_lack(tmp_path):
    segmenter = GraphSegmenter(write_export(tmp_path / "older", label_map=True), least_score=6)
    with pytest.raises(InputError, match="older version, whose label maps had no scores"):
        segmenter.segment(smooth((96, 64)))


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_bad_image_is_named_and_the_others_go_on(graphs, content, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(content)
    smooth((96, 64)).save(tmp_path / "good.png")
    files = [str(tmp_path / name) for name in ("bad.png", "good.png")]
    out = ["--model", str(graphs["logits"]), "--out", str(tmp_path / "out")]
    assert segment.main(*segment.parse([*files, *out])) == 1
    said = capsys.readouterr()
    assert "bad.png: not an image" in said.err and "1 of 2 images segmented" in said.out


# ------------------------------------------------------------------------------------------------------------- classes


def bank(folder: Path, words, rows, text_model=None) -> str:
    WordBank(tuple(words), rows, text_model).save(folder / "bank.safetensors")
    return str(folder / "bank.safetensors")


def test_classes_get_the_vectors_that_the_checkpoint_gives_them(graphs, tmp_path):
    source, names = bank(tmp_path, ["tree", "Sky"], vectors(2, seed=3)), [" TREE", "sky", NAMES[1]]
    model = CheckpointSegmenter(str(graphs["checkpoint"]), None, names, source).model
    graph = OnnxGraph(graphs["logits"])
    found = graph.find_vectors(names, source)
    np.testing.assert_allclose(found, torch.nn.functional.normalize(model.class_embeddings, dim=1), atol=1e-6)
    graph.take_classes(names, source)
    assert list(graph.class_names) == model.config.class_names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "list of class names is empty"),
        (["sky", "SKY "], "Duplicate class names"),
        (["sky", " "], "must be a word or more"),
        (["skyy"], r"no vector for 'skyy'.* \(did you mean 'sky'\?\)"),
    ],
)
def test_bad_classes_are_refused_in_the_words_of_the_model(graphs, names, said):
    with pytest.raises(InputError, match=said):
        OnnxGraph(graphs["logits"]).take_classes(names)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (torch.eye(32)[1:2], "do not come from this checkpoint's text tower"),
        (torch.ones(1, 8), "8 wide, but this checkpoint takes 32"),
    ],
)
def test_bank_of_another_tower_is_refused(graphs, rows, said, tmp_path):
    with pytest.raises(InputError, match=said):
        OnnxGraph(graphs["logits"]).take_classes(["tree"], bank(tmp_path, ["tree"], rows))


def test_class_unlike_all_trained_ones_is_warned_of(graphs, tmp_path, caplog):
    graph = OnnxGraph(graphs["logits"])
    trained = torch.from_numpy(graph.words.trained_embeddings)
    away = CENTER - 0.5 * (trained - CENTER).mean(dim=0)  # from all of them, the common direction left out
    graph.take_classes(["tree"], bank(tmp_path, ["tree"], away))
    assert "Unlike every class" in caplog.text and "'tree' (nearest: " in caplog.text


def test_baked_classes_stay(graphs):
    with pytest.raises(InputError, match="baked in"):
        open_segmenter(str(graphs["baked"]), names=["sky"])


def test_word_without_a_vector_is_left_to_the_text_tower_where_there_is_torch(graphs):
    with pytest.raises(InputError, match="The text tower could not be used"):
        open_segmenter(str(graphs["logits"]), names=["skyy"])


def test_words_that_ship_here_are_unit_vectors_by_their_words():
    found = load_bank(EVERYDAY_WORDS)
    expected = WordBank.load(EVERYDAY_WORDS)
    np.testing.assert_allclose(found.rows["window"], expected.lookup(["Window"])[0], atol=1e-6)
    assert len(found.rows) == len(found.words) == 360
