"""Prediction modes on stand-ins whose right answer is known, and loading of good and bad checkpoints."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import photo
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import COLOURS, NearestColour, StandIn
from tiny_model import NAMES, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.inference_mode import InferenceMode
from lclipseg.prediction.segment import predict_probabilities, segment_images, window_boxes
from modeling_lclipseg import LClipSegImageProcessor

WHOLE = InferenceMode()
WEIGHTS = "model.safetensors"


class MeanRed(StandIn):
    """The same logits all over an image, from its mean: of two windows one can say which gave what."""

    def respond(self, colours: torch.Tensor) -> torch.Tensor:
        red = colours[:, :1].mean(dim=(2, 3), keepdim=True)
        return torch.cat([red, 1 - red], dim=1).expand(-1, -1, *colours.shape[-2:])


class LeftToRight(StandIn):
    """Class 0 grows from left to right, whatever the image shows."""

    def respond(self, colours: torch.Tensor) -> torch.Tensor:
        growing = torch.linspace(-3, 1, colours.shape[-1]).expand(len(colours), 1, *colours.shape[-2:])
        return torch.cat([growing, torch.zeros_like(growing)], dim=1)


@pytest.fixture
def processor() -> LClipSegImageProcessor:
    return LClipSegImageProcessor(do_resize=False)


def blocks(ids: list[list[int]], side: int = 16) -> tuple[Image.Image, torch.Tensor]:
    """An image of coloured squares and its class ids (H, W). Where corners of squares meet, logits at a quarter of the
    size cannot tell the last pixel, so only stripes are reproduced exactly."""
    truth = torch.tensor(ids).repeat_interleave(side, dim=0).repeat_interleave(side, dim=1)
    return Image.fromarray((COLOURS[truth] * 255).to(torch.uint8).numpy()), truth


def test_resized_image_gives_a_map_of_its_own_size():
    processor = LClipSegImageProcessor(size={"shortest_edge": 64, "longest_edge": 256})
    image, truth = blocks([[0, 1, 2], [2, 0, 1]], side=15)
    (ids,) = segment_images(NearestColour(processor), processor, [image])
    assert ids.shape == (30, 45)
    assert (ids == truth).float().mean() > 0.97


@pytest.mark.parametrize("stripes", [[[0, 1, 2, 0]], [[2], [1], [1], [0]]], ids=["columns", "rows"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "window", [{}, {"mode": "slide", "window": 32}, {"mode": "slide", "window": 32, "stride": 24}]
)
def test_every_mode_gives_the_known_map(processor, stripes, flip, window):
    image, truth = blocks(stripes)
    (ids,) = segment_images(NearestColour(processor), processor, [image], flip=flip, **window)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, truth)


def test_slide_averages_the_logits_of_all_windows_over_a_pixel(processor):
    image = photo(48, 40)
    red = np.asarray(image)[:, :, 0] / 255
    total, visits = np.zeros((40, 48)), np.zeros((40, 48))
    for top in (0, 8):  # 32 of 40, step 20: the last window is moved to the border
        for left in (0, 16):
            total[top : top + 32, left : left + 32] += red[top : top + 32, left : left + 32].mean()
            visits[top : top + 32, left : left + 32] += 1
    logits = torch.tensor(np.stack([total / visits, 1 - total / visits]), dtype=torch.float32)
    mode = InferenceMode("slide", window=32, stride=20)
    (found,) = predict_probabilities(MeanRed(processor), processor, [image], mode)
    torch.testing.assert_close(found, logits.softmax(dim=0))


@pytest.mark.parametrize(
    ("height", "width", "window", "stride"), [(1, 1, 8, 5), (8, 9, 8, 5), (37, 90, 16, 10), (5, 40, 16, 16)]
)
def test_windows_cover_every_pixel_and_stay_inside(height, width, window, stride):
    visits = np.zeros((height, width), dtype=int)
    boxes = window_boxes(height, width, window, stride)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert (right - left, bottom - top) == (min(window, width), min(window, height))
        visits[top:bottom, left:right] += 1
    assert visits.min() >= 1
    assert len(set(boxes)) == len(boxes)


def test_default_window_is_the_size_of_the_processor_with_a_third_of_overlap():
    processor = LClipSegImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    assert InferenceMode("slide").window_and_stride(processor) == (48, 32)


def test_image_within_one_window_is_predicted_whole(processor):
    image = photo(40, 24)
    model = MeanRed(processor)
    slide = predict_probabilities(model, processor, [image], InferenceMode("slide", window=40))
    torch.testing.assert_close(slide, predict_probabilities(model, processor, [image], WHOLE))


def test_flip_averages_the_probabilities_of_both_directions(processor):
    model, image = LeftToRight(processor), photo(64, 32)
    (straight,) = predict_probabilities(model, processor, [image], WHOLE)
    (averaged,) = predict_probabilities(model, processor, [image], InferenceMode(flip=True))
    torch.testing.assert_close(averaged, (straight + straight.flip(-1)) / 2)
    assert (averaged - straight).abs().max() > 0.1


def test_probabilities_sum_to_one_and_keep_no_graph(processor):
    (probabilities,) = predict_probabilities(tiny_model(), processor, [photo(40, 30)], WHOLE)
    assert probabilities.shape == (len(NAMES), 30, 40)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(30, 40))


def test_map_is_the_most_probable_class(processor):
    model, images = tiny_model(), [photo(70, 50), photo(33, 64, seed=1)]
    probabilities = predict_probabilities(model, processor, images, WHOLE)
    for ids, scores in zip(segment_images(model, processor, images), probabilities, strict=True):
        assert (ids == scores.argmax(dim=0)).float().mean() > 0.999


def test_result_does_not_depend_on_the_other_images(processor):
    model, images = tiny_model(), [photo(40, 30), photo(96, 64, seed=1), photo(40, 30, seed=2)]
    together = predict_probabilities(model, processor, images, WHOLE)
    alone = [predict_probabilities(model, processor, [image], WHOLE)[0] for image in images]
    torch.testing.assert_close(together, alone)
    maps = segment_images(model, processor, images)
    for ids, image in zip(maps, images, strict=True):
        assert torch.equal(ids, segment_images(model, processor, [image])[0])


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "CMYK"])
def test_images_of_any_mode_can_be_cut_and_mirrored(processor, mode):
    image = photo(48, 40).convert(mode)
    (ids,) = segment_images(tiny_model(), processor, [image], mode="slide", window=32, flip=True)
    assert ids.shape == (40, 48)


def test_photo_is_turned_upright_before_it_is_segmented(processor, tmp_path):
    image, truth = blocks([[0, 1, 2]])
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    image.save(tmp_path / "photo.png", exif=exif)
    for flip in (False, True):
        (ids,) = segment_images(NearestColour(processor), processor, [Image.open(tmp_path / "photo.png")], flip=flip)
        assert torch.equal(ids, torch.rot90(truth, -1))


def test_class_embeddings_replace_the_classes(processor):
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    mode = InferenceMode("slide", window=32)
    (probabilities,) = predict_probabilities(tiny_model(), processor, [photo(40, 48)], mode, vectors)
    assert probabilities.shape == (5, 48, 40)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "no images"),
        (["a.jpg"], {}, r"images\[0\]: an image must be"),
        (photo(8, 8), {}, "list"),
        (None, {}, "list"),
        ([photo(8, 8)], {"class_embeddings": torch.randn(5, 31)}, "another text tower"),
        ([photo(8, 8)], {"mode": "slide", "stride": 600}, "would skip pixels"),  # of the processor's window
    ],
)
def test_what_cannot_be_segmented_is_refused(processor, images, options, message):
    with pytest.raises(InputError, match=message):
        segment_images(tiny_model(), processor, images, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "tile"}, "choose one of whole, slide"),
        ({"window": 32}, "window 32 needs mode 'slide'"),
        ({"stride": 32}, "stride 32 needs mode 'slide'"),
        ({"mode": "slide", "window": 0}, "at least 1 pixel"),
        ({"mode": "slide", "window": 32, "stride": 33}, "would skip pixels"),
    ],
)
def test_impossible_modes_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        InferenceMode(**options)


def test_loaded_model_predicts_as_the_saved_one(checkpoint, processor):
    model, loaded_processor = load_model(checkpoint)
    assert not model.training
    assert loaded_processor.do_resize is False
    image = photo(40, 30)
    torch.testing.assert_close(
        predict_probabilities(model, loaded_processor, [image], WHOLE),
        predict_probabilities(tiny_model(), processor, [image], WHOLE),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_run_in_float32(checkpoint, dtype):
    tiny_model().to(dtype).save_pretrained(checkpoint)
    assert load_file(checkpoint / "model.safetensors")["class_embeddings"].dtype == dtype
    model, processor = load_model(checkpoint)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    (probabilities,) = predict_probabilities(model, processor, [photo(32, 32)], WHOLE)
    assert probabilities.dtype == torch.float32


def fails_to_load(folder: Path | str, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_model(folder)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./nowhere", ["there is no folder nowhere"]),
        ("models/stret", ["there is no folder models/stret; did you mean models/street"]),  # not looked for on the Hub
        ("checkpoint/model.safetensors", ["is a file", "the folder that holds it (checkpoint)"]),
        (".", ["no config.json", "did you mean checkpoint?"]),
        ("run", ["no config.json", "did you mean run/best?"]),
        ("lclipseg-nobody/nothing", ["lclipseg-nobody/nothing cannot be loaded"]),
    ],
)
def test_place_of_no_checkpoint_is_named_with_what_may_be_meant(checkpoint, monkeypatch, source, words):
    monkeypatch.chdir(checkpoint.parent)
    for folder in ("models/street", "run/best", "run/last"):
        Path(folder).mkdir(parents=True)
    for name in ("best", "last"):
        Path("run", name, "config.json").write_text("{}")
    fails_to_load(source, *words)


def pickled(checkpoint):
    torch.save(load_file(checkpoint / WEIGHTS), checkpoint / "pytorch_model.bin")
    (checkpoint / WEIGHTS).unlink()


def of_another_type(checkpoint, model_type="segformer"):
    (checkpoint / "config.json").write_text(json.dumps({"model_type": model_type}))
    (checkpoint / WEIGHTS).unlink()  # the kind of model matters first


def incomplete(checkpoint):
    weights = load_file(checkpoint / WEIGHTS)
    del weights["head.decoder.output.weight"]
    save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})


def of_another_shape(checkpoint):
    weights = load_file(checkpoint / WEIGHTS)
    weights["class_embeddings"] = weights["class_embeddings"][:, :-1].contiguous()
    save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), ["no config.json", WEIGHTS]),
        (lambda folder: (folder / "config.json").write_text("{"), []),
        (of_another_type, ["a model of type 'segformer'", "'lclipseg'"]),
        (partial(of_another_type, model_type=None), ["a model of type None", "'lclipseg'"]),
        (lambda folder: (folder / WEIGHTS).unlink(), [f"{WEIGHTS} is missing"]),
        (lambda folder: os.truncate(folder / WEIGHTS, 10_000), []),
        (pickled, ["pickle", "pytorch_model.bin", "save_pretrained"]),
        (incomplete, ["1 tensors are missing", "head.decoder.output.weight"]),
        (of_another_shape, ["have another shape", "class_embeddings"]),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), ["preprocessor_config.json"]),
    ],
)
def test_damaged_checkpoint_is_named_with_its_damage(checkpoint, damage, words):
    damage(checkpoint)
    fails_to_load(checkpoint, str(checkpoint), *words)


def test_checkpoint_in_a_folder_that_looks_like_a_repository_is_found(checkpoint, monkeypatch):
    shutil.copytree(checkpoint, checkpoint.parent / "owner" / "name")
    monkeypatch.chdir(checkpoint.parent)
    model, _ = load_model("owner/name")
    assert model.config.id2label == dict(enumerate(NAMES))
