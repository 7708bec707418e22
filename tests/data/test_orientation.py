"""Masks that are turned or mirrored against their images are found, and no others."""

from pathlib import Path

import numpy as np
import pytest
from checked_data import check, found, problem
from PIL import Image, ImageDraw

from lclipseg.data.check.problems import Kind

PAIRS = 12
ORIENTATION = 0x0112


def scene(seed: int, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """A noisy image of some boxes and discs, and its mask."""
    random = np.random.default_rng(seed)
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for class_id in (1, 2, 1, 2):
        left, top = (int(random.integers(0, side * 2 // 3)) for side in size)
        right, bottom = left + int(random.integers(12, 30)), top + int(random.integers(12, 30))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((left, top, right, bottom), fill=class_id)
    colours = random.integers(0, 256, (3, 3))[np.asarray(mask)] + random.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8)), mask


@pytest.fixture
def written(tmp_path):
    """A folder of scenes, of which the first ones' masks and images are changed before they are written."""

    def write(changed: int = 0, mask_by=None, exif: int | None = None, size=(96, 64)) -> Path:
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        for seed in range(PAIRS):
            image, mask = scene(seed, size)
            tags = Image.Exif()
            if seed < changed and mask_by is not None:
                mask = mask.transpose(mask_by)
            if seed < changed and exif is not None:
                tags[ORIENTATION] = exif
            image.save(tmp_path / f"images/{seed:02d}.png", exif=tags)
            mask.save(tmp_path / f"masks/{seed:02d}.png")
        (tmp_path / "classes.json").write_text('["wall", "door", "window"]')
        return tmp_path

    return write


def test_masks_that_fit_are_not_warned_of(written):
    assert "turned" not in found(check(written()))


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Image.Transpose.ROTATE_180, "turned by 180 degrees"),
        (Image.Transpose.FLIP_LEFT_RIGHT, "mirrored left to right"),
        (Image.Transpose.FLIP_TOP_BOTTOM, "mirrored top to bottom"),
    ],
)
def test_turned_and_mirrored_masks_are_named_with_what_would_make_them_fit(written, method, words):
    warned = problem(check(written(PAIRS // 2, method)), Kind.TURNED)
    assert warned.severity == "warning"
    assert len(warned.examples) >= PAIRS // 4
    for example in warned.examples:
        assert int(Path(example.name).stem) < PAIRS // 2
        assert example.detail == f"fits {example.name.replace('masks', 'images')} if it is {words}"


def test_a_quarter_turn_of_squares_is_told_by_its_direction(written):
    warned = problem(check(written(PAIRS, Image.Transpose.ROTATE_90, size=(80, 80))), Kind.TURNED)
    assert all("turned by 90 degrees to the right" in example.detail for example in warned.examples)


@pytest.mark.parametrize(("orientation", "size"), [(3, (96, 64)), (6, (80, 80))])
def test_masks_that_were_made_before_the_exif_orientation_was_applied_are_told_as_such(written, orientation, size):
    warned = problem(check(written(PAIRS, exif=orientation, size=size)), Kind.TURNED)
    assert all(f"has the EXIF orientation {orientation}, which" in example.detail for example in warned.examples)


def test_a_single_mask_or_a_quick_check_is_not_warned_of(written):
    folder = written(1, Image.Transpose.ROTATE_180)
    assert "turned" not in found(check(folder))
    assert "turned" not in found(check(folder, "--quick"))


def test_masks_of_other_images_are_not_called_turned(written):
    folder = written()
    masks = [(folder / f"masks/{seed:02d}.png").read_bytes() for seed in range(PAIRS)]
    for seed in range(PAIRS):
        (folder / f"masks/{seed:02d}.png").write_bytes(masks[seed - 1])
    assert "turned" not in found(check(folder))


def test_carrots_upside_down_are_warned_of_in_real_data(real_data):
    if not (real_data / "carrot_weed").is_dir():
        pytest.skip("there is no carrot_weed")
    assert found(check(real_data / "carrot_weed"))["turned"] >= 31
