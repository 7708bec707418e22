"""LClipSegProcessor: text and images together, prompt lengths, saving and loading."""

import json

import numpy as np
import pytest
import torch
from photos import photo
from PIL import Image
from tiny_model import tiny_config
from tiny_tower import tiny_tokenizer
from transformers import AutoProcessor
from transformers.modeling_outputs import SemanticSegmenterOutput

from modeling_lclipseg.image_processing_lclipseg import LClipSegImageProcessor
from modeling_lclipseg.processing_lclipseg import LClipSegProcessor
from modeling_lclipseg.visualization_lclipseg import draw_overlay

NAMES = {0: "sky", 1: "road"}


@pytest.fixture
def processor() -> LClipSegProcessor:
    return LClipSegProcessor(LClipSegImageProcessor(size={"shortest_edge": 32}), tiny_tokenizer())


@pytest.fixture
def image() -> Image.Image:
    return photo(60, 40)


def test_prompts_are_padded_to_the_longest(processor):
    encoded = processor(text=["a", "bad"], return_tensors="pt")
    assert encoded["input_ids"].shape == (2, 5)  # begin, b, a, d, end
    assert encoded["attention_mask"].sum(dim=1).tolist() == [3, 5]


def test_prompt_that_just_fits_is_taken(processor):
    assert processor(text=14 * "a", return_tensors="pt")["input_ids"].shape == (1, 16)


def test_too_long_prompt_is_refused_with_its_count(processor):
    with pytest.raises(ValueError, match=r"'aaaaaaaaaaaaaaa' has 17 tokens, but the text tower reads at most 16"):
        processor(text=["a", 15 * "a"])


def test_truncation_is_possible_when_asked_for(processor):
    assert processor(text=[15 * "a"], truncation=True, return_tensors="pt")["input_ids"].shape == (1, 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": []}, "text"),
        ({"text": [1]}, "text"),
        ({"text": ["a", None]}, "text"),
        ({}, "nothing to process"),
        ({"text": "a", "segmentation_maps": np.zeros((4, 4), dtype=np.uint8)}, "without their `images`"),
    ],
)
def test_unusable_arguments_are_refused(processor, arguments, said):
    with pytest.raises(ValueError, match=said):
        processor(**arguments)


def test_images_text_and_masks_come_back_together(processor, image):
    mask = np.ones((40, 60), dtype=np.uint8)
    encoded = processor(images=image, text=["a", "b"], segmentation_maps=mask, return_tensors="pt")
    alone = processor.image_processor(image, mask, return_tensors="pt")
    assert set(encoded) == {"input_ids", "attention_mask", "pixel_values", "labels"}
    assert torch.equal(encoded["pixel_values"], alone["pixel_values"])
    assert torch.equal(encoded["labels"], alone["labels"])


def test_image_settings_reach_the_image_processor(processor, image):
    assert processor(images=image, size={"shortest_edge": 64}, return_tensors="pt")["pixel_values"].shape[2] == 64


def test_model_inputs_are_those_it_names(processor, image):
    assert set(processor(images=image, text="a", return_tensors="pt")) == set(processor.model_input_names)


@pytest.mark.parametrize("load", [LClipSegProcessor.from_pretrained, AutoProcessor.from_pretrained])
def test_saving_keeps_both_parts(processor, image, tmp_path, load):
    processor.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    reloaded = load(tmp_path)
    before, after = (each(images=image, text=["a", "bad"], return_tensors="pt") for each in (processor, reloaded))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_post_processing_is_the_image_processors(processor):
    outputs = SemanticSegmenterOutput(logits=torch.randn(1, 2, 8, 16))
    (segmented,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 60)])
    (expected,) = processor.image_processor.post_process_semantic_segmentation(outputs, [(40, 60)])
    assert torch.equal(segmented, expected)


@pytest.mark.parametrize("kind", ["image", "array", "path"])
def test_overlay_takes_what_can_be_processed(processor, image, kind, tmp_path):
    image.save(tmp_path / "a.png")
    given = {"image": image, "array": np.asarray(image), "path": tmp_path / "a.png"}[kind]
    segmentation = torch.ones(40, 60, dtype=torch.int64)
    expected = draw_overlay(image, segmentation, NAMES, opacity=0.3)
    assert processor.overlay(given, segmentation, NAMES, opacity=0.3).tobytes() == expected.tobytes()


# ------------------------------------------------------------------------------------------------- without a tokenizer


@pytest.fixture
def without_tokenizer(processor) -> LClipSegProcessor:
    return LClipSegProcessor(processor.image_processor)


def test_images_need_no_tokenizer(without_tokenizer, processor, image):
    mask = np.ones((40, 60), dtype=np.uint8)
    encoded = without_tokenizer(images=image, segmentation_maps=mask, return_tensors="pt")
    expected = processor.image_processor(image, mask, return_tensors="pt")
    assert encoded.keys() == expected.keys()
    assert all(torch.equal(encoded[key], expected[key]) for key in expected)
    assert without_tokenizer.model_input_names == ["pixel_values"]


def test_text_without_a_tokenizer_is_refused_with_its_source(without_tokenizer, image):
    with pytest.raises(ValueError, match=r"no tokenizer.*CLIPTokenizer\.from_pretrained\(config\.text_model_name"):
        without_tokenizer(images=image, text="a")


@pytest.mark.parametrize("saved", ["processor", "image_processor"])
def test_checkpoint_without_tokenizer_loads(without_tokenizer, image, tmp_path, saved):
    """As a whole, and as checkpoints are published: with the settings of the image processor alone."""
    tiny_config().save_pretrained(tmp_path)
    {"processor": without_tokenizer, "image_processor": without_tokenizer.image_processor}[saved].save_pretrained(
        tmp_path
    )
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, LClipSegProcessor)
    assert loaded.tokenizer is None
    found, expected = (each(images=image, return_tensors="pt")["pixel_values"] for each in (loaded, without_tokenizer))
    assert torch.equal(found, expected)


def test_tokenizer_may_be_given_to_a_checkpoint_without_one(without_tokenizer, processor, tmp_path):
    without_tokenizer.save_pretrained(tmp_path)
    tiny_config().save_pretrained(tmp_path)
    loaded = LClipSegProcessor.from_pretrained(tmp_path, tokenizer=processor.tokenizer)
    assert loaded(text="bad")["input_ids"] == processor(text="bad")["input_ids"]


def test_processor_without_tokenizer_is_saved_with_its_code(without_tokenizer, image, tmp_path, monkeypatch):
    monkeypatch.setattr(LClipSegProcessor, "_auto_class", "AutoProcessor")
    without_tokenizer.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings["auto_map"]["AutoProcessor"] == "processing_lclipseg.LClipSegProcessor"
    assert (tmp_path / "processing_lclipseg.py").is_file()
