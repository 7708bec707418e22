"""What counts as an image, and what it looks like once it is read; files that cannot be used: test_bad_inputs.py."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from huggingface_hub.utils import httpx
from photos import noise, pixel_values, save_photo_on_its_side
from PIL import Image

from modeling_lclipseg.image_processing_lclipseg import to_image_tensor
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image, open_url

# ------------------------------------------------------------------------------------------------------------- images


WHITE_BY_MODE = {
    "1": 1,
    "L": 255,
    "LA": (255, 255),
    "La": (255, 255),
    "RGB": (255, 255, 255),
    "RGBA": (255, 255, 255, 255),
    "RGBa": (255, 255, 255, 255),
    "RGBX": (255, 255, 255, 0),
    "CMYK": (0, 0, 0, 0),
    "YCbCr": (255, 128, 128),
    "HSV": (0, 0, 255),
    "LAB": (255, 128, 128),
    "I;16": 65535,
    "I;16B": 65535,
    "I": 65535,
    "F": 1.0,
}


@pytest.mark.parametrize(("mode", "white"), WHITE_BY_MODE.items())
def test_every_mode_keeps_its_white(mode, white):
    pixels = np.asarray(to_rgb_image(Image.new(mode, (3, 2), white)))
    assert pixels.shape == (2, 3, 3)
    assert pixels.min() >= 254


def palette(index: int, colours: list[int], **info: int) -> Image.Image:
    image = Image.new("P", (1, 1), index)
    image.putpalette(colours)
    image.info |= info
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (palette(1, [0, 0, 0, 10, 200, 30]), (10, 200, 30)),
        (palette(0, [9, 9, 9], transparency=0), (255, 255, 255)),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("RGBA", (1, 1), (100, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (1, 1), (100, 0, 0, 255)), (100, 0, 0)),
        (Image.new("RGBA", (1, 1), (100, 0, 0, 51)), (224, 204, 204)),
    ],
)
def test_image_shows_its_colours_and_white_where_it_is_transparent(image, expected):
    assert to_rgb_image(image).getpixel((0, 0)) == expected


def test_transparent_array_looks_like_the_same_image():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    of_image, of_array = (np.asarray(to_rgb_image(given), dtype=int) for given in (Image.fromarray(pixels), pixels))
    assert abs(of_image - of_array).max() <= 1  # they round differently


SIXTEEN_BITS = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("given", "levels"),
    [
        (Image.fromarray(SIXTEEN_BITS), [0, 1, 128, 255]),
        (SIXTEEN_BITS, [0, 1, 128, 255]),
        (SIXTEEN_BITS.astype(">u2"), [0, 1, 128, 255]),
        (Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)), [0, 128, 255]),
        (np.ones((1, 2), dtype=np.longdouble), [255, 255]),
        (np.array([[False, True]]), [0, 255]),
        *((np.full((1, 1, 3), 100, dtype=dtype), [100]) for dtype in (np.int64, np.int32, np.uint32, np.int8)),
    ],
)
def test_grey_levels_of_every_type_become_eight_bits(given, levels):
    assert np.asarray(to_rgb_image(given))[0, :, 0].tolist() == levels


def test_float_image_is_not_rescaled_twice():
    pixels = noise(32, 32)
    torch.testing.assert_close(pixel_values(pixels.astype(np.float64) / 255), pixel_values(pixels))


def test_float_image_stays_as_it_is_without_rescaling():
    values = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pixel_values(values, do_rescale=False, do_normalize=False)[0], values)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 4, 3), 128.0), r"values in \[0, 1\], but this one holds 128\.\.128"),
        (np.full((4, 4, 3), -0.5), "holds -0.5"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), np.inf), "inf"),
        (np.full((4, 4, 3), 256), r"0\.\.255, but this one holds 256"),
        (np.full((4, 4, 3), -1), "holds -1"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "at least one pixel"),
        (np.zeros((6, 6, 5), dtype=np.uint8), r"1, 3 or 4 channels, but this one has \(6, 6, 5\)"),
        (np.zeros(4, dtype=np.uint8), "must have shape"),
        (np.array([["a"]]), "must hold numbers"),
        (Image.fromarray(np.array([[-1, 70000]], dtype=np.int32)), r"0\.\.65535, but this one holds -1\.\.70000"),
        (42, "not int"),
    ],
)
def test_unusable_image_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        to_image_tensor(image)


def test_arrays_tensors_and_images_give_the_same_batch():
    pixels = noise(33, 40)
    first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    given = [
        Image.fromarray(pixels),
        pixels,
        first,
        torch.from_numpy(pixels),
        torch.from_numpy(first),
        pixels[:, ::-1],
    ]
    batch = pixel_values(given)
    assert all(torch.equal(batch[0], other) for other in batch[1:5])
    assert torch.equal(batch[0, :, :33, :40].flip(-1), batch[5, :, :33, :40])


def test_channel_order_can_be_told():
    pixels = noise(3, 40)  # 3 x 40 x 3: the first or the last could be the channels
    assert to_image_tensor(pixels, input_data_format="channels_first").shape == (3, 40, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (3, 40), (4, 4), (40, 3)])
def test_sizes_that_could_be_channels_are_read_by_custom(height, width):
    pixels = noise(height, width)
    image = to_image_tensor(Image.fromarray(pixels))
    assert torch.equal(to_image_tensor(pixels), image)
    assert torch.equal(to_image_tensor(image), image)


def test_grey_array_needs_no_channel_dimension():
    grey = noise(32, 32)[..., 0]
    assert torch.equal(pixel_values(grey), pixel_values(Image.fromarray(grey)))


def test_stacked_array_is_a_batch():
    stack = np.stack([noise(32, 32, seed) for seed in range(3)])
    assert torch.equal(pixel_values(stack), pixel_values([Image.fromarray(pixels) for pixels in stack]))


def test_photo_is_turned_upright(tmp_path):
    save_photo_on_its_side(tmp_path / "photo.png")
    upright = np.asarray(to_rgb_image(Image.open(tmp_path / "photo.png")))
    assert upright.shape == (6, 4, 3)
    assert upright[:3].min() == 255
    assert upright[3:].max() == 0


# -------------------------------------------------------------------------------------------------------------- files


def test_path_reads_like_the_image(tmp_path):
    Image.fromarray(noise(32, 40)).save(tmp_path / "a.png")
    assert torch.equal(pixel_values(tmp_path / "a.png"), pixel_values(Image.open(tmp_path / "a.png")))


def test_size_is_checked_before_pixels_are_decoded(tmp_path):
    Image.fromarray(noise(64, 64)).save(tmp_path / "large.png")
    content = (tmp_path / "large.png").read_bytes()[:2000]  # decoding it would report damage instead
    with pytest.raises(ValueError, match=r"large\.png: 64 x 64 pixels are more than the 4,000 allowed"):
        open_image(content, max_pixels=4000, name="large.png")


def test_answer_without_end_is_cut_off(answers):
    answers["answer"] = (200, bytes(1001))
    with pytest.raises(ValueError, match=r"^https://example.org/a.png: more than the 1,000 bytes allowed"):
        open_url("https://example.org/a.png", max_bytes=1000)


def test_formats_that_were_not_asked_for_are_not_read(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png", formats=("JPEG", "PNG")).size == (2, 2)
    with pytest.raises(ValueError, match=r"a\.png: not an image, or of a format other than JPEG, BMP"):
        open_image(tmp_path / "a.png", formats=("JPEG", "BMP"))


# -------------------------------------------------------------------------------------------------------- from the web


@pytest.fixture
def answers(monkeypatch):
    """Addresses are answered with what is set here: a status and a body."""
    given = {"answer": (200, b"")}

    @contextmanager
    def stream(method, url, timeout, follow_redirects):
        status, content = given["answer"]
        yield httpx.Response(status, content=content, request=httpx.Request(method, url))

    monkeypatch.setattr(httpx, "stream", stream)
    return given


def test_image_from_the_web_follows_the_same_rules(answers, tmp_path):
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    answers["answer"] = (200, (tmp_path / "clear.png").read_bytes())
    assert torch.equal(pixel_values("https://example.org/clear.png"), pixel_values(tmp_path / "clear.png"))


@pytest.mark.parametrize(
    ("status", "content", "message"), [(404, b"", "cannot be fetched: .*404"), (200, b"<html>", "not an image")]
)
def test_address_without_a_image_is_named(answers, status, content, message):
    answers["answer"] = (status, content)
    with pytest.raises(ValueError, match=f"^https://example.org/a.png: {message}"):
        pixel_values("https://example.org/a.png")
