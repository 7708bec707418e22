"""The affinity as an image: the right place, the right sums, the right panels."""

import copy
import math
from io import BytesIO

import pytest
import torch
from photos import photo, save_photo
from PIL import Image
from tiny_model import NAMES, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.lab.words import attention_maps
from lclipseg.lab.words.attention_maps import (
    Attention,
    AttentionArguments,
    chosen_classes,
    draw,
    mean_alignment,
    read_attention,
)
from modeling_lclipseg import LClipSegImageProcessor

STRIDE = 16
ID2LABEL = dict(enumerate(NAMES))


def attention_of(
    image_to_text: torch.Tensor,
    size: tuple[int, int],
    image: tuple[int, int],
    segmentation: torch.Tensor | None = None,
    text_to_image: torch.Tensor | None = None,
) -> Attention:
    """Attention with planted weights (K, h, w); by default every pixel has class 0 and every cell is like all."""
    return Attention(
        photo(*size[::-1]),
        torch.zeros(size, dtype=torch.int64) if segmentation is None else segmentation,
        image_to_text,
        torch.full_like(image_to_text, 1 / len(image_to_text)) if text_to_image is None else text_to_image,
        image,
        STRIDE,
    )


def planted(row: int, column: int, cells: tuple[int, int]) -> torch.Tensor:
    """All attention of the only class on one cell, (1, h, w)."""
    weights = torch.zeros(1, *cells)
    weights[0, row, column] = 1
    return weights


def centre(heat: torch.Tensor) -> tuple[float, float]:
    """The mean place of a map, in pixels from its upper left corner."""
    rows, columns = (torch.arange(length) + 0.5 for length in heat.shape)
    return ((heat.sum(1) @ rows) / heat.sum()).item(), ((heat.sum(0) @ columns) / heat.sum()).item()


# ----------------------------------------------------------------------------------------------------------- the place


@pytest.mark.parametrize(
    ("size", "image", "cells"),
    [
        ((96, 160), (96, 160), (6, 10)),  # as it is
        ((48, 80), (96, 160), (6, 10)),  # enlarged for the model
        ((240, 400), (96, 160), (6, 10)),  # reduced for it
        ((90, 150), (90, 150), (6, 10)),  # padded, a part of a cell
        ((100, 70), (100, 70), (8, 6)),  # padded, more than a cell
        ((300, 210), (100, 70), (8, 6)),  # both
        ((96, 160), (96, 160), (20, 32)),  # padded to a fixed size, to twice the image and more
    ],
)
def test_heat_of_a_planted_weight_lies_at_its_cell(size, image, cells):
    row, column = 2, 1
    heat = attention_of(planted(row, column, cells), size, image).heat(0)
    scale = size[0] / image[0]  # pixels of the image in one of the input
    assert heat.shape == size
    assert centre(heat) == pytest.approx(
        ((row + 0.5) * STRIDE * scale, (column + 0.5) * STRIDE * scale), abs=0.02 * STRIDE * scale
    )


def test_heat_fades_evenly_from_cell_to_cell():
    heat = attention_of(planted(1, 2, (4, 6)), (64, 96), (64, 96)).heat(0)
    beside_the_border = heat[24, 2 * STRIDE - 1 : 2 * STRIDE + 1]  # half way between the centres of two cells
    torch.testing.assert_close(beside_the_border, torch.tensor([0.5, 0.5]), atol=0.05, rtol=0)


def test_attention_to_the_padding_is_not_shown():
    weights = planted(5, 5, (8, 6))  # in an image of 64 x 64 pixels the cells 4 and 5 are padding
    assert attention_of(weights, (64, 64), (64, 64)).heat(0).count_nonzero() == 0


def test_most_alike_class_fills_its_cell_and_no_more():
    text_to_image = torch.tensor([0.7, 0.2, 0.1])[:, None, None].repeat(1, 4, 6)
    text_to_image[:, 1, 2] = torch.tensor([0.0, 0.1, 0.9])
    attention = attention_of(torch.zeros(3, 4, 6), (100, 160), (50, 80), text_to_image=text_to_image)
    ids, weights = attention.most_alike()
    expected = torch.zeros(100, 160, dtype=torch.int64)
    expected[32:64, 64:96] = 2  # twice the stride a cell
    assert torch.equal(ids, expected)
    torch.testing.assert_close(weights, torch.where(expected == 2, 0.9, 0.7))


# ----------------------------------------------------------------------------------------------------- from the model


@pytest.mark.parametrize("size", [(64, 96), (50, 33), (7, 200)])
@pytest.mark.parametrize("layers", [0, 2])
def test_weights_sum_to_one_over_the_map_and_over_the_classes(size, layers):
    processor = LClipSegImageProcessor(size={"shortest_edge": 48, "longest_edge": 160})
    attention = read_attention(tiny_model(num_fusion_layers=layers), processor, photo(*size[::-1]))
    torch.testing.assert_close(attention.image_to_text.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(attention.text_to_image.sum(0), torch.ones(attention.text_to_image.shape[1:]))
    assert attention.segmentation.shape == attention.heat(0).shape == size


@pytest.mark.parametrize("stride", [16, 32])
def test_cells_follow_from_stride_and_padding(stride):
    processor = LClipSegImageProcessor(do_resize=False)
    attention = read_attention(tiny_model(fusion_stride=stride), processor, photo(100, 70))
    assert attention.image_to_text.shape == attention.text_to_image.shape == (3, 96 // stride, 128 // stride)


def test_weights_are_those_that_the_blocks_read_by():
    model, processor, image = tiny_model(num_fusion_layers=2), LClipSegImageProcessor(do_resize=False), photo(96, 64)
    pixel_values = processor(images=image, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        recorded = model(pixel_values, output_attentions=True)
    attention = read_attention(model, processor, image)
    for to_text, to_image in zip(recorded.attentions, recorded.text_to_image_attentions, strict=True):
        torch.testing.assert_close(attention.image_to_text.flatten(1), to_text[0, 0])
        torch.testing.assert_close(attention.text_to_image.flatten(1), to_image[0, 0].T)


def test_model_is_left_without_hooks():
    model = tiny_model()
    read_attention(model, LClipSegImageProcessor(do_resize=False), photo(32, 32))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("guidance", ["lseg", "denseclip", "none"])
def test_other_heads_are_refused(guidance):
    with pytest.raises(InputError, match=f"guidance '{guidance}', so no affinity"):
        read_attention(tiny_model(guidance=guidance), LClipSegImageProcessor(), photo(32, 32))


# --------------------------------------------------------------------------------------------------------- the measure


def halves(size: tuple[int, int]) -> torch.Tensor:
    """Class 0 on the left half, class 1 on the right one."""
    return (torch.arange(size[1]) >= size[1] // 2).long().expand(size)


def test_alignment_is_the_attention_on_the_own_pixels():
    on_the_left = planted(1, 1, (4, 8)).expand(2, -1, -1)
    attention = attention_of(on_the_left, (64, 128), (64, 128), halves((64, 128)))
    assert attention.alignment(0) == pytest.approx((1.0, 0.5))
    assert attention.alignment(1) == pytest.approx((0.0, 0.5))


def test_even_attention_is_aligned_by_the_area_alone():
    segmentation = halves((64, 128)).clone()
    segmentation[:32] = 2
    attention = attention_of(torch.full((3, 4, 8), 1 / 32), (64, 128), (64, 128), segmentation)
    for class_id, area in enumerate((0.25, 0.25, 0.5)):
        assert attention.alignment(class_id) == pytest.approx((area, area))


def test_mean_is_over_the_images_with_the_class():
    size = (64, 128)
    left, even = planted(1, 1, (4, 8)), torch.full((1, 4, 8), 1 / 32)
    attentions = [
        attention_of(left, size, size, halves(size)),
        attention_of(even, size, size, halves(size)),
        attention_of(left, size, size, torch.ones(size, dtype=torch.int64)),  # without class 0
    ]
    assert mean_alignment(attentions, 0) == pytest.approx((0.75, 0.5, 2))
    assert mean_alignment(attentions, 7) == pytest.approx((math.nan, math.nan, 0), nan_ok=True)


# ----------------------------------------------------------------------------------------------------------- the words


def test_words_are_found_whatever_their_case_and_once():
    assert chosen_classes("Car, sky,car", ID2LABEL) == [2, 0]


def test_unknown_word_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no class 'rod'; the nearest are road"):
        chosen_classes("sky, rod", ID2LABEL)


def test_largest_classes_come_first():
    segmentation = torch.tensor([[3, 3, 3, 7, 7, 1]])
    assert attention_of(torch.ones(8, 1, 1), (1, 6), (1, 6), segmentation).largest_classes() == [3, 7, 1]


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def photos(tmp_path) -> list[str]:
    return [str(save_photo(tmp_path / name, size)) for name, size in (("wide.png", (90, 40)), ("high.jpg", (50, 90)))]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command with a tiny model; returns its figure, written to `attention.png` in a new folder."""
    loaded = tiny_model(), LClipSegImageProcessor(size={"shortest_edge": 48, "longest_edge": 160})
    monkeypatch.setattr(attention_maps, "load_model", lambda source: copy.deepcopy(loaded))
    out = str(tmp_path / "new" / "attention.png")
    return lambda images, **options: attention_maps.main(images, AttentionArguments("tiny", **{"out": out, **options}))


def test_one_png_is_written_with_a_panel_for_each_word_and_their_alignment_is_printed(run, photos, tmp_path, capsys):
    figure = run(photos, classes="road, car")
    with Image.open(tmp_path / "new" / "attention.png") as image:
        assert image.format == "PNG"
        assert image.width == 1800
    assert [panel.get_title() for panel in figure.axes] == ["", "road", "car", "looks most like"] * 2
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["road", "car"]


@pytest.mark.parametrize(
    ("shown", "titles"),
    [
        ([[1], [0, 2]], ["", "road", "looks most like", "", r"$\frac$", "car", "looks most like"]),
        ([[0]], ["", r"$\frac$", "looks most like"]),
    ],
)
def test_image_has_a_panel_for_each_of_its_words_whose_name_is_no_formula(shown, titles):
    attention = attention_of(torch.full((3, 4, 6), 1 / 24), (64, 96), (64, 96))
    figure = draw([attention] * len(shown), shown, {**ID2LABEL, 0: r"$\frac$"})
    figure.savefig(BytesIO())
    assert [panel.get_title() for panel in figure.axes] == titles


def test_without_words_an_image_shows_the_classes_that_it_has_and_always_the_same_file(run, photos, tmp_path):
    outs = [tmp_path / "a.png", tmp_path / "b.png"]
    panels = [run(photos[:1], out=str(out)).axes for out in outs]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    attention = read_attention(*attention_maps.load_model("tiny"), Image.open(photos[0]))
    assert [panel.get_title() for panel in panels[0][1:-1]] == [NAMES[id_] for id_ in attention.largest_classes()]


@pytest.mark.parametrize(
    ("image", "out", "said"),
    [
        ("wide.png", "attention.jpg", r"must be a PNG file; give .*attention\.png"),
        ("wide.png", "attention", r"must be a PNG file; give .*attention\.png"),
        ("gone.jpg", "a.png", r"gone\.jpg: there is no such file"),
        ("wide.png", "wide.png/attention.png", r"--out .*wide\.png/attention\.png cannot be written"),
    ],
)
def test_image_or_file_that_cannot_be_used_is_named(run, photos, tmp_path, image, out, said):
    with pytest.raises(InputError, match=said):
        run([str(tmp_path / image)], out=str(tmp_path / out))
