"""The check of a data set: each kind of problem is found, named and told apart from what only looks odd."""

import re
from pathlib import Path

import numpy as np
import pytest
from checked_data import (
    SIZE,
    check,
    copy_in_another_split,
    encoded,
    found,
    make_image,
    mask_of,
    no_mask,
    problem,
    write,
    write_pairs,
    wrong_id,
)
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Kind, RawFile, Summary
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import read_sample
from lclipseg.data.open import load_segmentation_data


def loads(source: Path) -> bool:
    """Whether training could read every sample."""
    try:
        for split in ("train", "val"):
            data = load_segmentation_data(source, split)
            for index in range(len(data)):
                data[index]
    except InputError:
        return False
    return True


def test_clean_folder_has_no_problems(source):
    report = check(source)
    assert report.problems == []
    assert {split.name: split.pairs for split in report.splits} == {"train": 4, "val": 2}


# Each kind of problem: what is written into the folder, or done to it, and the problem's kind, name and detail.


TURNED = Image.Exif()
TURNED[0x0112] = 6
NOT_A_NUMBER = Image.fromarray(np.full((6, 10), np.nan, dtype=np.float32))
VAL_MASKS = ("val/masks/a.png", "val/masks/b.png")
TWO_CLASSES = Image.fromarray(np.array(mask_of(0)) % 2)
NOT_FOUND = "<html>not found</html>"


def unknown_stem(data):
    for name in ("images", "masks"):
        (data / "train" / name).rename(data / name)
        for file in (data / "val" / name).iterdir():
            file.rename(data / name / f"val-{file.name}")
        (data / "val" / name).rmdir()
    write(data, {"train.txt": "a\nb\nnowhere\n", "val.txt": "val-a\nval-b\n"})


def split_without_masks(data):
    (data / "val/masks").rename(data / "val/truth")


def broken_list(data):
    unknown_stem(data)
    write(data, {"train.txt": "a\nb\n", "val.txt": b"\xff\x00"})


def copy_in_the_split(data):
    write(data, {"train/images/b.png": (data / "train/images/a.png").read_bytes()})


def one_class(data):
    for path in (data / "val/masks").iterdir():
        ids = np.full(SIZE[::-1], 1, dtype=np.uint8)
        ids[0, 0] = 255
        Image.fromarray(ids).save(path)


def optimised_palette(data):
    """Ids 0, 1, 255 as indices 0, 1, 2, as optimisers of PNG files write them."""
    mask = Image.fromarray(np.array(mask_of(1)))
    mask.putpalette([0, 0, 0, 1, 1, 1, 255, 255, 255])
    mask.save(data / "train/masks/b.png")


def smoothed(data):
    """Two classes, 0 and 2, scaled as photographs are: id 1 stands along all of their edges."""
    blocks = np.kron(np.random.default_rng(0).integers(0, 2, (10, 10)) * 2, np.ones((10, 10))).astype(np.uint8)
    mask = Image.fromarray(blocks).resize((55, 55), Image.Resampling.BILINEAR)
    write(data, {MASK: mask, B: make_image(20, (55, 55))})


def damage(data: Path, what) -> None:
    if callable(what):
        what(data)
    else:
        write(data, what)


B, JPEG, MASK = "train/images/b.png", "train/images/b.jpg", "train/masks/b.png"
ERRORS = [
    (no_mask, Kind.NO_MASK, B, "holds no b.png"),
    ({JPEG: make_image(20)}, Kind.SAME_STEM, B, "stem of b.jpg"),
    ({B: b""}, Kind.BAD_IMAGE, B, "not an image"),
    ({B: encoded(make_image(20, (200, 100)))[:-2000]}, Kind.BAD_IMAGE, B, "cut short"),
    ({B: None, JPEG: encoded(make_image(20), "JPEG")[:-60]}, Kind.BAD_IMAGE, JPEG, "cut short"),
    ({B: NOT_FOUND}, Kind.BAD_IMAGE, B, "not an image"),
    ({B: None, "train/images/b.ppm": b"P5 100000 100000 255\n"}, Kind.BAD_IMAGE, "train/images/b.ppm", "too large"),
    ({B: None, "train/images/b.tif": NOT_A_NUMBER}, Kind.BAD_IMAGE, "train/images/b.tif", "NaN"),
    ({MASK: b""}, Kind.BAD_MASK, MASK, "not an image"),
    ({MASK: encoded(mask_of(1, 255, (200, 100)))[:-2000]}, Kind.BAD_MASK, MASK, "cut short"),
    ({MASK: make_image(20)}, Kind.NO_LABEL_MAP, MASK, r"mode 'RGB' \(3 channels\)"),
    ({MASK: mask_of(1).convert("RGB")}, Kind.GREY_RGB, MASK, "has mode 'RGB'"),
    ({MASK: mask_of(1, size=(12, 6))}, Kind.SIZE_MISMATCH, MASK, "12 x 6, but train/images/b.png is 10 x 6"),
    (
        {B: None, JPEG: encoded(make_image(20), "JPEG", exif=TURNED)},
        Kind.SIZE_MISMATCH, MASK, "before the image's EXIF orientation",
    ),
    (wrong_id, Kind.WRONG_ID, MASK, r"holds 3 \(\d+ pixels\)"),
    (unknown_stem, Kind.UNKNOWN_STEM, "nowhere", "train.txt lists it"),
    (split_without_masks, Kind.UNUSABLE_SPLIT, "val", "'images' and 'masks'; it holds"),
    (broken_list, Kind.UNUSABLE_SPLIT, "val", "val.txt cannot be read"),
    ({"classes.json": '["sky", " ", "tree"]'}, Kind.CLASS_NAMES, "id 1 of classes.json", "' ' is no name"),
    (
        {"classes.json": '{"0": "sky", "1": "road", "2": "Road"}'},
        Kind.CLASS_NAMES, "id 2 of classes.json", "'road', 'Road'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "kind", "name", "detail"), ERRORS)
def test_damage_is_found_named_and_fatal_for_training(source, what, kind, name, detail):
    damage(source, what)
    report = check(source)
    assert {key: count for key, count in found(report).items() if Kind[key.upper()].severity == "error"} == {
        kind.name.lower(): 1
    }
    (example,) = problem(report, kind).examples
    assert example.name == name
    assert re.search(detail, example.detail)
    assert not loads(source)


WARNINGS = [
    ({"train/masks/z.png": mask_of(9)}, Kind.UNUSED_MASK, "train/masks/z.png", "no image"),
    ({B: encoded(make_image(20), "JPEG")}, Kind.WRONG_SUFFIX, B, "holds JPEG"),
    ({MASK: Image.new("L", SIZE, 255)}, Kind.UNLABELLED, B, "ignored"),
    (dict.fromkeys(VAL_MASKS, TWO_CLASSES), Kind.ABSENT_CLASS, "tree", "no pixel of it in 'val'"),
    (
        dict.fromkeys(VAL_MASKS, TWO_CLASSES.point(lambda value: 255 * value)),
        Kind.ONLY_0_AND_255, "val", "nothing but 'sky' and ignored",
    ),
    (one_class, Kind.ONE_CLASS, "val", "nothing but 'road'"),
    ({MASK: Image.new("L", SIZE, 1)}, Kind.ONE_VALUE, MASK, "every pixel is 1 ('road')"),
    ({"classes.json": '["sky", "road", "tree", "car"]'}, Kind.UNUSED_CLASS, "car", "id 3 is in no mask"),
    (optimised_palette, Kind.GREY_PALETTE, MASK, "palette shows as the grey levels 0, 1, 255"),
    (smoothed, Kind.SMOOTHED, MASK, "nearly all pixels of 1 lie between lower and higher ids"),
    (copy_in_the_split, Kind.DUPLICATE, "train/images/a.png of 'train'", f"{B} of 'train'"),
    (copy_in_another_split, Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.png of 'val'"),
    (
        {"val/images/b.png": None, "val/images/b.bmp": make_image(0)},
        Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.bmp of 'val'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "kind", "name", "detail"), WARNINGS)
def test_oddity_is_found_and_named_and_does_not_stop_training(source, what, kind, name, detail):
    damage(source, what)
    report = check(source)
    assert report.errors == 0
    (example,) = problem(report, kind).examples
    assert example.name == name
    assert detail in example.detail
    assert loads(source)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged metadata
def test_check_and_training_agree_on_files_with_changed_bytes(tmp_path):
    """Whatever Pillow makes of them, and whatever it raises."""
    random, classes = np.random.default_rng(0), ClassList.parse(["sky", "road", "tree"], "x")
    turned = make_image(0, (6, 10))
    originals = [encoded(turned, "JPEG", exif=TURNED), encoded(turned, exif=TURNED), encoded(mask_of(0))]
    agreed = []
    for round in range(150):
        content = bytearray(originals[round % 3])
        for position in random.integers(0, min(len(content), 120), 2):
            content[position] = random.integers(0, 256)
        contents = (bytes(content), originals[2]) if round % 3 < 2 else (originals[0], bytes(content))
        paths = [tmp_path / name for name in ("image.jpg", "mask.png")]
        for path, written in zip(paths, contents, strict=True):
            path.write_bytes(written)
        summary = Summary("train")
        summary.check(*(RawFile(path.name, path) for path in paths), classes, quick=False)
        try:
            read_sample(*paths, classes, "a")
            agreed.append(summary.problems.counts.total() == summary.problems.counts[Kind.UNLABELLED])
        except InputError:
            agreed.append(any(kind.severity == "error" for kind in summary.problems.counts))
    assert all(agreed)


def test_masks_stored_as_jpeg_are_found_by_suffix_and_by_content(source):
    write(
        source,
        {MASK: encoded(Image.new("L", SIZE, 1), "JPEG"), "val/masks/a.png": None, "val/masks/a.jpg": mask_of(0)},
    )
    report = check(source)
    names = {example.name for example in problem(report, Kind.LOSSY_MASK).examples}
    assert names == {"train/masks/b.png", "val/masks/a.jpg"}


@pytest.mark.parametrize(
    ("size", "fix"),
    [
        ((5, 3), r"images are 10 x 6, their masks 5 x 3 \(width x height\): .*by nearest neighbour"),
        ((6, 10), r"make the masks from the upright images"),
        ((9, 9), r"one of them is cut"),
    ],
)
def test_fix_for_masks_of_another_size_is_guessed_from_all_of_them(source, size, fix):
    for path in source.glob("*/masks/*.png"):
        mask_of(1, size=size).save(path)
    assert re.search(fix, problem(check(source), Kind.SIZE_MISMATCH).fix)


def test_mask_with_a_grey_palette_of_its_own_indices_is_no_problem(source):
    mask = Image.fromarray(np.array(mask_of(1)))
    mask.putpalette([level for index in range(256) for level in 3 * [index]])
    mask.save(source / "train/masks/b.png")
    assert check(source).problems == []


def test_folder_of_which_nothing_can_be_paired_is_reported_and_not_given_up(source):
    for path in source.glob("*/masks/*.png"):
        path.rename(path.with_name(f"other {path.name}"))
    report = check(source)
    assert (report.splits, found(report)) == ([], {"unusable_split": 2, "no_mask": 6, "unused_mask": 6})


def test_all_problems_are_found_in_one_run(source):
    no_mask(source)
    copy_in_another_split(source)
    write(source, {"train/images/c.png": b"", "train/masks/d.png": mask_of(1, 5), "val/masks/a.png": make_image(1)})
    kinds = ["no_mask", "bad_image", "no_label_map", "wrong_id", "shared_image"]
    assert found(check(source)) == dict.fromkeys(kinds, 1)


def test_problems_of_folders_that_splits_share_count_once(source):
    unknown_stem(source)
    (source / "masks/c.png").unlink()
    assert found(check(source)) == {"unknown_stem": 1, "no_split": 2}


def test_images_without_masks_on_a_list_are_not_unknown(source):
    unknown_stem(source)
    write(source, {"train.txt": "a\nb\n", "masks/b.png": None})
    assert found(check(source)) == {"no_mask": 1, "no_split": 2}


def test_folder_without_splits_is_held_out_as_in_training(tmp_path):
    write_pairs(tmp_path, [f"{index:02d}" for index in range(20)])
    (tmp_path / "classes.json").write_text('["sky", "road", "tree"]')
    report = check(tmp_path)
    assert {split.name: split.pairs for split in report.splits} == {"train": 18, "val": 2}


def test_only_the_splits_asked_for_are_checked(source):
    write(source, {MASK: b""})
    assert [split.name for split in check(source, "--split", "val").splits] == ["val"]
    assert check(source, "--split", "val").problems == []
