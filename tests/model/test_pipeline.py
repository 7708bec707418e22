"""The image-segmentation pipeline: the built-in form, the caller's classes, batches."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import photo
from tiny_model import NAMES, save_checkpoint
from transformers import pipeline

from modeling_lclipseg import LClipSegPipeline, WordBank


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(save_checkpoint(tmp_path_factory.mktemp("checkpoint"), shortest_edge=64))


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return pipeline("image-segmentation", model=checkpoint, pipeline_class=LClipSegPipeline, device="cpu")


def label_map(segments, classes=NAMES) -> np.ndarray:
    ids = np.full(segments[0]["mask"].size[::-1], 255)
    for segment in segments:
        ids[np.array(segment["mask"]) == 255] = classes.index(segment["label"])
    return ids


@torch.no_grad()
def by_the_model(segmenter, images, **options):
    """What model and processor make of a batch, called one after the other."""
    outputs = segmenter.model(**segmenter.image_processor(images, return_tensors="pt"))
    sizes = [(image.height, image.width) for image in images]
    return segmenter.image_processor.post_process_semantic_segmentation(outputs, sizes, **options)


def test_masks_are_those_of_the_model(segmenter):
    np.testing.assert_array_equal(label_map(segmenter(photo())), by_the_model(segmenter, [photo()])[0])


def test_every_pixel_is_in_one_mask_of_black_and_white(segmenter):
    masks = [segment["mask"] for segment in segmenter(photo())]
    assert {mask.mode for mask in masks} == {"L"} and {mask.size for mask in masks} == {(50, 40)}
    assert (sum(np.array(mask).astype(int) for mask in masks) == 255).all()


def test_score_is_the_mean_probability_of_the_class_over_its_pixels(segmenter):
    image = photo(64, 64)
    (result,) = by_the_model(segmenter, [image], return_segmentation_scores=True)
    for segment in segmenter(image):
        index = NAMES.index(segment["label"])
        probabilities = result["segmentation_scores"].softmax(dim=0)[index][result["segmentation"] == index]
        assert segment["score"] == pytest.approx(probabilities.mean().item(), abs=1e-5)


def test_the_built_in_pipeline_finds_the_same_masks_and_does_not_complain(checkpoint, segmenter, caplog):
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        built_in = pipeline("image-segmentation", model=checkpoint, device="cpu")
        found = built_in(photo())
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    np.testing.assert_array_equal(label_map(found), label_map(segmenter(photo())))


def test_the_built_in_pipeline_drops_other_classes_as_the_readme_says(checkpoint):
    built_in = pipeline("image-segmentation", model=checkpoint, device="cpu")
    own, asked = built_in(photo()), built_in(photo(), candidate_labels=["car"])
    assert [segment["label"] for segment in asked] == [segment["label"] for segment in own] != ["car"]
    readme = Path(__file__).resolve().parents[2] / "README.md"
    assert "it drops `candidate_labels` without a word" in readme.read_text(encoding="utf-8")


def test_images_of_several_sizes_are_padded_to_one_batch(segmenter):
    images = [photo(50, 40), photo(90, 40, seed=1), photo(64, 64, seed=2)]
    for segments, ids in zip(segmenter(images, batch_size=3), by_the_model(segmenter, images), strict=True):
        np.testing.assert_array_equal(label_map(segments), ids)


def test_candidate_labels_choose_and_order_the_classes(segmenter):
    image = photo()
    own, chosen = segmenter(image), segmenter(image, candidate_labels=["car", " sky ", "road"])
    order = ["car", "sky", "road"]
    renumbered = np.array([order.index(name) for name in NAMES])[label_map(own)]
    assert (renumbered == label_map(chosen, order)).mean() > 0.99


def test_new_words_are_looked_up_in_a_bank(segmenter, tmp_path):
    vectors = torch.randn(2, 32)
    WordBank(("tree", "pole"), vectors).save(tmp_path / "bank.safetensors")
    by_bank = segmenter(photo(), candidate_labels=["pole", "tree"], word_bank=str(tmp_path / "bank.safetensors"))
    by_vectors = segmenter(photo(), candidate_labels=["pole", "tree"], class_embeddings=vectors[[1, 0]])
    order = ["pole", "tree"]
    np.testing.assert_array_equal(label_map(by_bank, order), label_map(by_vectors, order))


def test_labels_may_be_chosen_for_all_calls(checkpoint, segmenter):
    options = {"pipeline_class": LClipSegPipeline, "device": "cpu", "candidate_labels": ["car", "sky"]}
    fixed = pipeline("image-segmentation", model=checkpoint, **options)
    assert label_map(fixed(photo())).tolist() == label_map(segmenter(photo(), candidate_labels="car, sky")).tolist()


def test_labels_of_a_call_leave_the_model_alone(segmenter):
    before = label_map(segmenter(photo()))
    segmenter(photo(), candidate_labels=["tree"], class_embeddings=torch.randn(1, 32))
    np.testing.assert_array_equal(label_map(segmenter(photo())), before)


def test_threshold_leaves_out_unsure_segments(segmenter):
    scores = sorted(segment["score"] for segment in segmenter(photo()))
    middle = (scores[0] + scores[-1]) / 2
    kept = [segment["score"] for segment in segmenter(photo(), threshold=middle)]
    assert sorted(kept) == [score for score in scores if score >= middle]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"candidate_labels": []}, "empty"),
        ({"candidate_labels": "sky,,car"}, "Class name 2"),
        ({"candidate_labels": ["sky", "tree"]}, "no vector for 'tree'"),
        ({"candidate_labels": ["sky"], "class_embeddings": torch.randn(2, 32)}, "2 class embeddings for 1 classes"),
        ({"class_embeddings": torch.randn(2, 32)}, "name these, too"),
        ({"subtask": "panoptic"}, "semantic maps only"),
    ],
)
def test_calls_that_cannot_be_answered_say_why(segmenter, options, said):
    with pytest.raises(ValueError, match=said):
        segmenter(photo(), **options)


def test_an_unreadable_image_is_named(segmenter, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png"):
        segmenter(str(tmp_path / "a.png"))
