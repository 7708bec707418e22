"""What a training looks at before it begins: one sentence with the fix, or a remark."""

from pathlib import Path

import numpy as np
import pytest
from checked_data import make_image, mask_of, write_pairs, write_source
from data_folders import SIZE
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.check import at_start
from lclipseg.data.open import load_splits


@pytest.fixture
def source(tmp_path) -> Path:
    return write_source(tmp_path / "data")


def look(source: Path, max_unreadable: float = 0.01) -> list[str]:
    train, val = load_splits(source, ["train", "val"])
    return at_start.look(str(source), {"train": train, "val": val}, max_unreadable)


def draw(source: Path, values: list[int], split: str = "*") -> None:
    """Masks that hold these values in turn."""
    for path in source.glob(f"{split}/masks/*.png"):
        Image.fromarray(np.resize(np.array(values, dtype=np.uint8), SIZE[::-1])).save(path)


def test_sound_data_need_no_remark(source):
    assert look(source) == []


def empty_mask(source):
    (source / "val/masks/b.png").write_bytes(b"")


def larger_masks(source):
    for path in source.glob("train/masks/*.png"):
        mask_of(1, size=(20, 12)).save(path)


def colours(source):
    make_image(1).save(source / "train/masks/b.png")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda source: draw(source, [0, 255]),
            r"4 masks of 'train' is 'sky'.*255.*its id .*\(1 is 'road'\)",
        ),
        (lambda source: draw(source, [1]), r"every labelled pixel of 4 masks of 'train' is 'road', .*nothing to tell"),
        (lambda source: draw(source, [255], "train"), r"the 4 images to train on have no labelled pixel"),
        (lambda source: draw(source, [255], "val"), r"the 2 images to validate on have no labelled pixel"),
        (lambda source: draw(source, [1, 2, 3]), r'no class: 6 .*"do_reduce_labels": true'),
        (lambda source: draw(source, [0, 1, 9]), r'no class: 6 .*"ignore_index": 9'),
        (larger_masks, r"another size .*images are 10 x 6, their masks 20 x 12"),
        (colours, r"no map of class ids: 1 .*train/masks/b\.png"),
        (empty_mask, r"cannot be read, for example val/masks/b\.png"),
    ],
)
def test_what_keeps_data_from_being_trained_on_is_one_sentence_with_the_fix(source, damage, said):
    damage(source)
    with pytest.raises(InputError, match=said) as error:
        look(source)
    assert "check-data" in str(error.value)


def test_val_of_a_single_class_is_a_remark(source):
    draw(source, [0, 255], "val")
    assert any("splits of nothing but 0 and 255: 1 (val" in remark for remark in look(source))


def test_class_that_no_mask_has_is_a_remark_with_its_name(source):
    (source / "classes.json").write_text('["sky", "road", "tree", "car"]')
    (remark,) = look(source)
    assert "4 of 4 pairs of 'train' and 2 of 2 pairs of 'val': classes that no mask has: 1 (car id 3" in remark


def test_damaged_masks_up_to_the_share_are_left_to_the_training(source):
    (source / "train/masks/b.png").write_bytes(b"")
    assert look(source, max_unreadable=0.25) == []
    with pytest.raises(InputError, match=r"cannot be read"):
        look(source, max_unreadable=0.2)


def test_of_many_pairs_some_are_looked_at_and_more_in_doubt(source, monkeypatch):
    """A class that the first look misses is no reason to refuse."""
    write_pairs(source / "train", [f"{index:02d}" for index in range(20)])
    draw(source, [0], "train")
    Image.fromarray(np.resize(np.array([0, 1, 2], dtype=np.uint8), SIZE[::-1])).save(source / "train/masks/03.png")
    monkeypatch.setattr(at_start, "PAIRS", 4)
    assert any("24 of 24 pairs of 'train'" in remark for remark in look(source))
    monkeypatch.setattr(at_start, "PAIRS_IN_DOUBT", 4)
    with pytest.raises(InputError, match=r"every labelled pixel of 4 masks"):
        look(source)
