"""Palette, overlay, legend, indexed masks and area shares."""

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_lclipseg import visualization_lclipseg
from modeling_lclipseg.visualization_lclipseg import (
    UNLABELLED,
    UNLABELLED_COLOUR,
    class_palette,
    class_shares,
    draw_overlay,
    to_indexed_image,
)

NAMES = {0: "sky", 1: "road", 2: "car"}


def contrast(one, other) -> float:
    """WCAG contrast ratio of two colours, written out from its definition."""

    def luminance(colour) -> float:
        parts = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def colours_in(image: Image.Image) -> set[tuple[int, ...]]:
    found = image.getcolors(maxcolors=image.width * image.height)
    assert found is not None
    return {colour for _, colour in found}


@pytest.mark.parametrize("num_classes", [1, 11, 150, 1000])
def test_colours_are_distinct(num_classes):
    palette = class_palette(num_classes)
    assert palette.shape == (num_classes, 3)
    assert palette.dtype == np.uint8
    assert len({tuple(colour) for colour in palette.tolist()}) == num_classes


def test_first_colours_are_far_apart():
    palette = class_palette(20).astype(int)
    distances = abs(palette[:, None] - palette[None]).sum(axis=-1)[np.triu_indices(20, k=1)]
    assert distances.min() > 80


def test_palette_is_the_beginning_of_a_longer_one():
    assert np.array_equal(class_palette(7), class_palette(60)[:7])


def test_palette_is_the_same_each_time():
    first = class_palette(30).copy()
    visualization_lclipseg._farthest_first.cache_clear()
    assert np.array_equal(class_palette(30), first)


def test_no_class_has_the_colour_of_unlabelled_pixels():
    assert UNLABELLED_COLOUR not in {tuple(colour) for colour in class_palette(1000).tolist()}


@pytest.mark.parametrize("num_classes", [0, -1, 100_000])
def test_impossible_palette_is_refused(num_classes):
    with pytest.raises(ValueError, match=str(num_classes)):
        class_palette(num_classes)


def test_text_is_readable_on_every_colour():
    for colour in [*class_palette(500).tolist(), UNLABELLED_COLOUR]:
        assert contrast(colour, visualization_lclipseg._readable_on(tuple(colour))) >= 3


@pytest.mark.parametrize(
    ("segmentation", "names", "expected"),
    [
        (
            torch.tensor([[2, 2, 2, 0], [2, 2, 255, 0]]),
            NAMES,
            [(2, "car", 5 / 8), (0, "sky", 2 / 8), (None, UNLABELLED, 1 / 8)],
        ),
        (np.array([[-1, 1]]), NAMES, [(1, "road", 1 / 2), (None, UNLABELLED, 1 / 2)]),
        (np.array([[1]]), {"1": "road"}, [(1, "road", 1)]),  # as from JSON
    ],
)
def test_shares_are_parts_of_all_pixels_the_largest_first(segmentation, names, expected):
    assert [(share.class_id, share.name, share.share) for share in class_shares(segmentation, names)] == expected


@pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
def test_overlay_blends_image_and_colours(opacity):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    ids = np.random.default_rng(1).integers(0, 3, (4, 6))
    expected = (1 - opacity) * np.asarray(image, dtype=float) + opacity * class_palette(3)[ids]
    found = np.asarray(draw_overlay(image, ids, NAMES, opacity=opacity, legend=False), dtype=float)
    assert abs(found - expected).max() <= 1


def test_given_palette_is_used():
    palette = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    found = draw_overlay(Image.new("RGB", (1, 1)), np.array([[2]]), NAMES, palette=palette, opacity=1, legend=False)
    assert found.getpixel((0, 0)) == (7, 8, 9)


@pytest.mark.parametrize("class_id", [255, 1, -1])
def test_pixels_without_a_name_keep_their_colour(class_id):
    found = draw_overlay(Image.new("RGB", (1, 1), "teal"), np.array([[class_id]]), {0: "sky", 2: "car"}, legend=False)
    assert found.getpixel((0, 0)) == (0, 128, 128)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (60, 40), (40, 60), (4000, 20), (20, 1000)])
def test_legend_stands_beside_the_untouched_image(width, height):
    image, ids = Image.new("RGB", (width, height), "teal"), np.zeros((height, width), dtype=int)
    alone = draw_overlay(image, ids, NAMES, legend=False)
    framed = draw_overlay(image, ids, NAMES)
    assert alone.size == (width, height)
    assert framed.width * framed.height > width * height
    assert framed.crop((0, 0, width, height)).tobytes() == alone.tobytes()


def test_legend_of_a_wide_image_stands_below_and_of_a_tall_one_to_the_right():
    wide = draw_overlay(Image.new("RGB", (900, 300)), np.zeros((300, 900), dtype=int), NAMES)
    tall = draw_overlay(Image.new("RGB", (300, 900)), np.zeros((900, 300), dtype=int), NAMES)
    assert wide.width == 900
    assert tall.height == 900


def test_legend_shows_the_classes_in_the_image_only():
    ids = np.array([[0, 0, 2]] * 90).repeat(40, axis=1)
    legend = colours_in(draw_overlay(Image.new("RGB", (120, 90)), ids, NAMES, opacity=0))
    sky, road, car = (tuple(colour) for colour in class_palette(3).tolist())
    assert {sky, car} <= legend
    assert road not in legend


@pytest.mark.parametrize("num_classes", [1, 2, 150, 1000])
def test_any_number_of_classes_fits(num_classes):
    ids = np.arange(num_classes)[None].repeat(8, axis=0)
    names = {class_id: f"class number {class_id}" for class_id in range(num_classes)}
    framed = draw_overlay(Image.new("RGB", (num_classes, 8)), ids, names)
    chips = colours_in(framed.crop((0, 8, *framed.size)))
    assert {tuple(colour) for colour in class_palette(num_classes).tolist()} <= chips
    assert max(framed.size) < 5 * min(framed.size)


def test_long_name_is_cut():
    ids = np.zeros((50, 50), dtype=int)
    long, longer = (draw_overlay(Image.new("RGB", (50, 50)), ids, {0: "name " * n}) for n in (10, 1000))
    assert long.size == longer.size


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "\x1b[31m", "half \ud800", "\u05e9\u05dc\u05d5\u05dd"])
def test_any_name_can_be_drawn(name):
    assert draw_overlay(Image.new("RGB", (50, 50)), np.zeros((50, 50), dtype=int), {0: name}).width > 50


@pytest.mark.parametrize(
    ("segmentation", "settings", "message"),
    [
        (np.zeros((3, 4), dtype=int), {}, r"height and width \(3, 4\), but the image has \(4, 3\)"),
        (np.zeros((4, 3)), {}, "float64"),
        (np.zeros((1, 4, 3), dtype=int), {}, r"\(1, 4, 3\)"),
        (np.zeros((4, 3), dtype=int), {"opacity": 1.5}, "opacity"),
        (np.zeros((4, 3), dtype=int), {"palette": [[0, 0, 0]]}, r"`palette` has shape \(1, 3\)"),
    ],
)
def test_what_cannot_be_drawn_is_named(segmentation, settings, message):
    with pytest.raises(ValueError, match=message):
        draw_overlay(Image.new("RGB", (3, 4)), segmentation, NAMES, **settings)


@pytest.mark.parametrize("highest", [2, 255, 256, 40_000])
def test_indexed_image_gives_the_ids_back(highest, tmp_path):
    ids = np.array([[0, 1], [2, highest]])
    to_indexed_image(ids).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        assert np.array_equal(np.array(read), ids)


def test_indexed_image_shows_the_colours_of_its_classes():
    shown = to_indexed_image(torch.tensor([[0, 2]])).convert("RGB")
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [tuple(class_palette(3)[n].tolist()) for n in (0, 2)]


@pytest.mark.parametrize(("highest", "written"), [(2, 255), (254, 255), (255, 65_535), (40_000, 65_535)])
def test_pixels_of_no_class_have_the_highest_number(highest, written):
    for kind in (np.int16, np.int64) if highest < 2**15 else (np.int64,):
        assert np.array(to_indexed_image(np.array([[-1, highest]], dtype=kind))).tolist() == [[written, highest]]


@pytest.mark.parametrize("wrong", [-2, 70_000])
def test_ids_that_no_image_can_hold_are_refused(wrong):
    with pytest.raises(ValueError, match=str(wrong)):
        to_indexed_image(np.array([[0, wrong]]))
