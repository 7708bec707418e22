"""How images and masks become batches, and how logits become label maps again."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from photos import native, noise, pixel_values, save_photo_on_its_side
from PIL import Image

from modeling_lclipseg import post_processing_lclipseg
from modeling_lclipseg.image_processing_lclipseg import LClipSegImageProcessor
from modeling_lclipseg.inputs_lclipseg import to_mask

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


# ------------------------------------------------------------------------------------------------------------- batches


def test_values_are_normalised_per_channel():
    pixels = noise(32, 64)
    expected = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - MEAN[:, None, None]) / STD[:, None, None]
    torch.testing.assert_close(pixel_values(pixels)[0], expected)


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        ({}, (360, 480), (512, 683)),
        ({}, (480, 360), (683, 512)),
        ({}, (512, 512), (512, 512)),
        ({}, (1000, 500), (1024, 512)),
        ({}, (1, 1), (512, 512)),
        ({}, (1, 4000), (1, 2048)),
        ({}, (400, 4000), (205, 2048)),
        ({"size": {"shortest_edge": 10}}, (20, 200), (10, 100)),
        ({"size": {"longest_edge": 10}}, (20, 200), (1, 10)),
        ({"size": 64}, (32, 48), (64, 96)),
    ],
)
def test_shorter_side_gets_the_asked_length_unless_the_longer_one_exceeds_its_bound(settings, size, expected):
    """512 and 2048 by default; one of both is enough."""
    assert LClipSegImageProcessor(**settings).sizing.resized(*size) == expected


def test_image_is_not_stretched():
    square = np.zeros((100, 300, 3), dtype=np.uint8)
    square[30:70, 100:140] = 255  # 40 x 40
    white = pixel_values(square, LClipSegImageProcessor(size={"shortest_edge": 200}))[0, 0] > 0
    assert white.any(dim=0).sum() == white.any(dim=1).sum() == 80


def test_padding_is_the_mean_colour_at_the_bottom_and_right():
    batch = pixel_values([Image.new("RGB", (40, 33), "white"), Image.new("RGB", (70, 10), "white")])
    assert batch.shape == (2, 3, 64, 96)
    inside = torch.zeros(2, 64, 96, dtype=torch.bool)
    inside[0, :33, :40] = inside[1, :10, :70] = True
    assert torch.equal(batch.ne(0).all(dim=1), inside)
    assert torch.equal(batch.ne(0).any(dim=1), inside)


@pytest.mark.parametrize(
    ("processor", "settings", "shape"),
    [
        (native(pad_size={"height": 100, "width": 60}), {}, (100, 60)),
        (LClipSegImageProcessor(), {"size": {"shortest_edge": 40}, "pad_size_divisor": 8}, (40, 104)),
    ],
)
def test_size_of_a_batch_follows_the_settings_and_those_of_the_call(processor, settings, shape):
    assert pixel_values(Image.new("RGB", (50, 20)), processor, **settings).shape == (1, 3, *shape)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        ([], {}, "no images"),
        ((), {}, "no images"),
        (np.zeros((0, 3, 4, 4), dtype=np.uint8), {}, "no images"),
        ([[]], {}, "no images"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], {"do_pad": False}, "do_pad=False"),
        (Image.new("RGB", (9, 8)), {"pad_size": {"height": 8, "width": 8}}, "do not fit into pad_size"),
    ],
)
def test_images_that_make_no_batch_are_refused(images, settings, message):
    with pytest.raises(ValueError, match=message):
        native(**settings)(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"height": 0, "width": 512}}, "at least 1 pixel"),
        ({"size": {"shortest_edge": 0}}, "at least 1 pixel"),
        ({"pad_size_divisor": 0}, "at least 1, but is 0"),
        ({"pad_size": {"shortest_edge": 4}}, "`pad_size` must be"),
        ({"do_center_crop": True}, "do_center_crop"),
    ],
)
def test_unusable_setting_is_refused_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        LClipSegImageProcessor(**settings)


def test_settings_survive_saving(tmp_path):
    processor = LClipSegImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128},
        pad_size_divisor=16,
        ignore_index=7,
        image_mean=[0.1, 0.2, 0.3],
    )
    processor.save_pretrained(tmp_path)
    reloaded = LClipSegImageProcessor.from_pretrained(tmp_path)
    assert reloaded.to_dict() == processor.to_dict()
    assert reloaded.sizing == processor.sizing


# --------------------------------------------------------------------------------------------------------------- masks


def labels(mask, size=(8, 8), processor=None, **settings) -> torch.Tensor:
    image = Image.new("RGB", size)
    return (processor or native(pad_size_divisor=8))(image, mask, return_tensors="pt", **settings)["labels"]


def palette_mask() -> Image.Image:
    mask = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    mask.putpalette(noise(1, 256).tobytes())
    return mask


LARGE = np.full((8, 8), 70_000, dtype=np.int32)


@pytest.mark.parametrize(
    ("mask", "settings", "ids"),
    [
        (palette_mask(), {}, list(range(64))),
        (LARGE, {}, [70_000]),
        (Image.fromarray(LARGE), {}, [70_000]),
        (np.full((8, 8), -100), {"ignore_index": -100}, [-100]),
    ],
)
def test_masks_keep_their_ids(mask, settings, ids):
    assert labels(mask, **settings).unique().tolist() == ids


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 1)])
def test_mask_arrays_of_any_integer_type(dtype, shape):
    ids = np.arange(64).reshape(shape).astype(dtype)
    given = torch.from_numpy(ids) if shape == (8, 8) and dtype != np.uint16 else ids
    assert to_mask(given).flatten().tolist() == list(range(64))


def test_labels_lie_on_their_image():
    white = np.zeros((50, 90), dtype=np.uint8)
    white[10:30, 20:60] = 1
    processor = LClipSegImageProcessor(size={"shortest_edge": 120})
    batch = processor(np.repeat(white[..., None] * 255, 3, axis=2), white, return_tensors="pt")
    bright = batch["pixel_values"][:, 0] > 0
    labelled = batch["labels"] == 1
    assert (bright & labelled).sum() / (bright | labelled).sum() > 0.99


@pytest.mark.parametrize("ignore_index", [255, 0, -100])
def test_padding_gets_the_ignore_index(ignore_index):
    padded = labels(np.full((5, 6), 2), size=(6, 5), ignore_index=ignore_index)[0]
    assert (padded[:5, :6] == 2).all()
    padded[:5, :6] = ignore_index
    assert (padded == ignore_index).all()


def test_reducing_labels_shifts_all_but_the_ignored():
    mask = np.array([[0, 1, 150, 254, 255]], dtype=np.uint8)
    reduced = labels(mask, size=(5, 1), do_reduce_labels=True)[0, 0, :5]
    assert reduced.tolist() == [255, 0, 149, 253, 255]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("RGB", (8, 8)), r"one channel.*mode 'RGB' \(3 channels\)"),
        (Image.new("LA", (8, 8)), "mode 'LA'"),
        (np.zeros((8, 8, 3), dtype=np.uint8), r"one channel|give one for each"),
        (np.zeros((8, 8)), "integer class ids.*float64"),
        (torch.zeros(8, 8, dtype=torch.bfloat16), "integer class ids"),
        (np.full((8, 8), -1), "negative id -1"),
        (np.zeros((4, 8), dtype=np.uint8), r"segmentation_maps\[0\] has height and width \(4, 8\).*\(8, 8\)"),
        ([np.zeros((8, 8), dtype=np.uint8)] * 2, "1 images but 2 segmentation maps"),
        ([], "1 images but 0 segmentation maps"),
    ],
)
def test_unusable_mask_is_named(mask, message):
    with pytest.raises(ValueError, match=message):
        labels(mask)


def test_mask_of_a_turned_photo_must_be_turned(tmp_path):
    save_photo_on_its_side(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="EXIF"):
        native()(Image.open(tmp_path / "photo.png"), np.zeros((4, 6), dtype=np.uint8))


# -------------------------------------------------------------------------------------------------------- label maps


def outputs(logits: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(logits=logits)


def quadrant_logits(processor, size, split, padded) -> torch.Tensor:
    """Logits (4, h, w) of the quadrants around `split` (a row and column of the original image).

    They are linear in the distance to the split, which bilinear interpolation reproduces: the label map that comes
    back is exactly known.
    """
    image = processor.sizing.resized(*size)
    rows, columns = (
        ((torch.arange(math.ceil(cells / 4)) * 4.0 + 2) * original / resized - at)
        for cells, resized, original, at in zip(padded, image, size, split, strict=True)
    )
    down, right = rows[:, None].expand(-1, len(columns)), columns[None].expand(len(rows), -1)
    return torch.stack([-down - right, -down + right, down - right, down + right])


def quadrants(size, split) -> torch.Tensor:
    rows, columns = ((torch.arange(length) + 0.5 > at).long() for length, at in zip(size, split, strict=True))
    return 2 * rows[:, None] + columns[None]


SETTINGS = [
    {"size": {"shortest_edge": 64, "longest_edge": 256}},
    {"size": {"longest_edge": 50}},
    {"do_resize": False},
    {"do_resize": False, "do_pad": False},
    {"size": {"shortest_edge": 40}, "do_pad": False},
    {"size": {"longest_edge": 60}, "pad_size": {"height": 96, "width": 100}},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [(97, 61), (33, 150), (64, 64)])
def test_label_map_comes_back_right(settings, size):
    processor = LClipSegImageProcessor(**settings)
    padded = pixel_values(Image.new("RGB", size[::-1]), processor).shape[-2:]
    split = (size[0] * 0.4, size[1] * 0.7)
    logits = quadrant_logits(processor, size, split, padded)
    (segmented,) = processor.post_process_semantic_segmentation(outputs(logits[None]), [size])
    assert torch.equal(segmented, quadrants(size, split))


def test_label_maps_of_a_mixed_batch_come_back_right():
    processor = LClipSegImageProcessor(size={"shortest_edge": 64})
    sizes, splits = [(97, 61), (33, 150), (40, 40)], [(40.2, 20.1), (11.3, 90.6), (33.3, 7.9)]
    padded = pixel_values([Image.new("RGB", size[::-1]) for size in sizes], processor).shape[-2:]
    logits = torch.stack([quadrant_logits(processor, *each, padded) for each in zip(sizes, splits, strict=True)])
    segmented = processor.post_process_semantic_segmentation(outputs(logits), sizes)
    for one, size, split in zip(segmented, sizes, splits, strict=True):
        assert torch.equal(one, quadrants(size, split))


def test_scores_are_those_of_upsampling_and_cropping():
    processor = native()
    logits = torch.randn(1, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    (result,) = processor.post_process_semantic_segmentation(
        outputs(logits), [(50, 70)], return_segmentation_scores=True
    )
    upsampled = F.interpolate(logits, size=(64, 96), mode="bilinear", align_corners=False)[0, :, :50, :70]
    torch.testing.assert_close(result.segmentation_scores, upsampled, atol=1e-4, rtol=1e-4)
    assert torch.equal(result.segmentation, upsampled.argmax(dim=0))


@pytest.mark.parametrize("sizes", [None, [(50, 70)]])
def test_pixel_below_the_least_score_has_no_class(sizes):
    logits = torch.randn(1, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    (free,) = native().post_process_semantic_segmentation(outputs(logits), sizes, True)
    highest = free["segmentation_scores"].amax(0)
    (result,) = native().post_process_semantic_segmentation(outputs(logits), sizes, True, least_score=1.0)
    assert torch.equal(result["segmentation"], free["segmentation"].where(highest >= 1, torch.tensor(-1)))
    assert torch.equal(result["segmentation_scores"], free["segmentation_scores"])
    (alone,) = native().post_process_semantic_segmentation(outputs(logits), sizes, least_score=1.0)
    assert (alone == result["segmentation"]).float().mean() > 0.999  # of equal ones rounding decides


def test_rows_at_a_time_change_no_confidence(monkeypatch):
    logits = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    whole = native().post_process_confidence(outputs(logits), [(64, 96)] * 2)
    monkeypatch.setattr(post_processing_lclipseg, "MAX_UPSAMPLED_VALUES", 5 * 96 * 3)
    in_rows = native().post_process_confidence(outputs(logits), [(64, 96)] * 2)
    assert all(torch.equal(one[1], other[1]) for one, other in zip(whole, in_rows, strict=True))


def test_memory_of_confidences_is_bounded_by_rows(monkeypatch):
    sampled = []
    real = F.grid_sample
    monkeypatch.setattr(F, "grid_sample", lambda *args, **kwargs: sampled.append(real(*args, **kwargs)) or sampled[-1])
    monkeypatch.setattr(post_processing_lclipseg, "MAX_UPSAMPLED_VALUES", 10_000)
    native().post_process_confidence(outputs(torch.randn(1, 10, 16, 24)), [(64, 96)])
    assert max(values.numel() for values in sampled) <= 10_000


def test_without_sizes_maps_have_the_size_of_the_logits():
    logits = torch.randn(2, 4, 8, 9)
    segmented = native().post_process_semantic_segmentation(outputs(logits))
    assert torch.equal(torch.stack(segmented), logits.argmax(dim=1))


def test_sizes_may_be_a_tensor():
    (segmented,) = native().post_process_semantic_segmentation(
        outputs(torch.randn(1, 2, 8, 8)), torch.tensor([[30, 31]])
    )
    assert segmented.shape == (30, 31)
    assert segmented.dtype == torch.int64


@pytest.mark.parametrize(
    ("shape", "sizes", "message"),
    [
        ((2, 2, 8, 8), [], "2 images but 0 target sizes"),
        ((2, 2, 8, 8), [(32, 32)] * 3, "2 images but 3 target sizes"),
        ((1, 2, 32, 32), [(64, 64)], "prepared it"),  # without the check, a quarter of the image
    ],
)
def test_sizes_that_the_logits_cannot_be_of_are_refused(shape, sizes, message):
    with pytest.raises(ValueError, match=message):
        native().post_process_semantic_segmentation(outputs(torch.randn(shape)), sizes)
