"""Settings as other code spells them, and slips in their names: taken as meant or refused, never without effect."""

import logging
from types import SimpleNamespace

import pytest
import torch
from photos import noise, pixel_values
from PIL import Image

from modeling_lclipseg import LClipSegConfig, LClipSegImageProcessor, LClipSegPipeline, draw_overlay
from modeling_lclipseg.names_lclipseg import check_class_names


@pytest.fixture
def saved(tmp_path):
    LClipSegImageProcessor().save_pretrained(tmp_path)
    return tmp_path


def test_reduce_labels_is_do_reduce_labels(saved):
    assert LClipSegImageProcessor(reduce_labels=True).do_reduce_labels
    assert LClipSegImageProcessor.from_pretrained(saved, reduce_labels=True).do_reduce_labels


@pytest.mark.parametrize(
    ("setting", "message"), [("ignore_indx", "did you mean `ignore_index`"), ("foo", "allowed: ")]
)
def test_unknown_setting_of_the_processor_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        LClipSegImageProcessor(**{setting: 0})


def test_slip_beside_a_checkpoint_is_refused(saved):
    with pytest.raises(ValueError, match="did you mean `do_resize`"):
        LClipSegImageProcessor.from_pretrained(saved, do_resiz=False)


def test_slip_in_a_field_of_the_configuration_is_refused():
    with pytest.raises(ValueError, match="did you mean `num_fusion_layers`"):
        LClipSegConfig(num_fusion_layer=2)


def test_height_and_width_stretch():
    processor = LClipSegImageProcessor(size={"height": 32, "width": 64})
    assert pixel_values([Image.new("RGB", (50, 40)), Image.new("RGB", (9, 90))], processor).shape == (2, 3, 32, 64)


def test_label_map_of_a_stretched_image_has_its_own_size():
    processor = LClipSegImageProcessor(size={"height": 32, "width": 64})
    logits = torch.tensor([0.5, 0.0])[None, :, None, None].repeat(1, 1, 8, 16)
    logits[:, 1, :, 8:] = 1  # the right half
    (segmented,) = processor.post_process_semantic_segmentation(outputs(logits), [(30, 20)])
    assert torch.equal(segmented, (torch.arange(20) >= 10).long().expand(30, 20))


# ----------------------------------------------------------------------------------------------------- upright or not


def test_six_lines_give_an_upright_map_of_a_phone_photo(tmp_path):
    """`image.height` and `image.width` are those of the file, and not of what the processor makes of it."""
    image = phone_photo(tmp_path / "photo.jpg")
    assert (image.height, image.width) == (40, 200)
    processor = LClipSegImageProcessor(size={"shortest_edge": 64})
    logits = torch.zeros(1, 2, 80, 16)
    assert processor(image, return_tensors="pt")["pixel_values"].shape[-2:] == (320, 64)
    (segmented,) = processor.post_process_semantic_segmentation(outputs(logits), [(image.height, image.width)])
    assert segmented.shape == (200, 40)
    assert draw_overlay(image, segmented, {0: "road", 1: "sky"}, legend=False).size == (40, 200)


def test_upright_size_is_taken_as_it_is():
    processor = LClipSegImageProcessor(size={"shortest_edge": 64})
    (segmented,) = processor.post_process_semantic_segmentation(outputs(torch.zeros(1, 2, 80, 16)), [(200, 40)])
    assert segmented.shape == (200, 40)


def test_turned_photos_of_a_batch_are_told_apart_by_a_message():
    processor = LClipSegImageProcessor(size={"shortest_edge": 64})
    with pytest.raises(ValueError, match="exif_transpose"):
        processor.post_process_semantic_segmentation(outputs(torch.zeros(2, 2, 80, 16)), [(40, 200)] * 2)


def outputs(logits: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=logits)


def phone_photo(path) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(noise(40, 200)).save(path, exif=exif)
    return Image.open(path)


# --------------------------------------------------------------------------------------------------------- class names


@pytest.mark.parametrize(
    ("names", "said"),
    [({0: "sky"}, r"got a dict; write list\(id2label\.values\(\)\)"), ({"sky", "road"}, "a set has no order")],
)
def test_names_without_an_order_are_refused(names, said):
    with pytest.raises(ValueError, match=said):
        check_class_names(names)


def test_list_of_names_is_taken_for_id2label():
    assert LClipSegConfig(id2label=["sky", "road"]).id2label == {0: "sky", 1: "road"}


def test_names_assigned_over_the_vectors_of_others_are_refused_where_they_would_be_used(model, tmp_path):
    names = model.config.class_names
    model.config.id2label = dict(enumerate(reversed(names)))
    with pytest.raises(ValueError, match="an assignment moves no vectors"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="an assignment moves no vectors"):
        LClipSegPipeline(model, image_processor=LClipSegImageProcessor())
    model.set_classes(names[:1])
    model.check_names()


def test_renamed_class_keeps_its_vector_and_this_is_said(model, tmp_path, caplog):
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        model.config.id2label = dict(enumerate(["heaven", *model.config.class_names[1:]]))
        model.save_pretrained(tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert "is now 'heaven'" in caplog.text
