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
    write_pairs,
    write_source,
    wrong_id,
)
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Kind, RawFile, Summary
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import read_sample
from lclipseg.data.open import load_segmentation_data


@pytest.fixture
def source(tmp_path) -> Path:
    return write_source(tmp_path / "data")


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


# Each kind of problem. A damage changes the folder; what it leads to are the problem's kind, name and detail.


def same_stem(data):
    make_image(20).save(data / "train/images/b.jpg")


def empty_image(data):
    (data / "train/images/b.png").write_bytes(b"")


def truncated_image(data):
    content = encoded(make_image(20, (200, 100)))
    (data / "train/images/b.png").write_bytes(content[:-2000])


def truncated_jpeg(data):
    (data / "train/images/b.png").unlink()
    (data / "train/images/b.jpg").write_bytes(encoded(make_image(20), "JPEG")[:-60])


def text_as_image(data):
    (data / "train/images/b.png").write_text("<html>not found</html>")


def huge_image(data):
    (data / "train/images/b.png").unlink()
    (data / "train/images/b.ppm").write_bytes(b"P5 100000 100000 255\n")


def nan_image(data):
    (data / "train/images/b.png").unlink()
    Image.fromarray(np.full((6, 10), np.nan, dtype=np.float32)).save(data / "train/images/b.tif")


def empty_mask(data):
    (data / "train/masks/b.png").write_bytes(b"")


def truncated_mask(data):
    content = encoded(mask_of(1, 255, (200, 100)))
    (data / "train/masks/b.png").write_bytes(content[:-2000])


def coloured_mask(data):
    make_image(20).save(data / "train/masks/b.png")


def grey_mask_in_colours(data):
    mask_of(1).convert("RGB").save(data / "train/masks/b.png")


def larger_mask(data):
    mask_of(1, size=(12, 6)).save(data / "train/masks/b.png")


def mask_before_exif(data):
    (data / "train/images/b.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image(20).save(data / "train/images/b.jpg", exif=exif)


def unknown_stem(data):
    for name in ("images", "masks"):
        (data / "train" / name).rename(data / name)
    for name in ("images", "masks"):
        for file in (data / "val" / name).iterdir():
            file.rename(data / name / f"val-{file.name}")
        (data / "val" / name).rmdir()
    (data / "train.txt").write_text("a\nb\nnowhere\n")
    (data / "val.txt").write_text("val-a\nval-b\n")


def split_without_masks(data):
    (data / "val/masks").rename(data / "val/truth")


def broken_list(data):
    unknown_stem(data)
    (data / "train.txt").write_text("a\nb\n")
    (data / "val.txt").write_bytes(b"\xff\xfe")


def blank_class(data):
    (data / "classes.json").write_text('["sky", " ", "tree"]')


def doubled_class(data):
    (data / "classes.json").write_text('{"0": "sky", "1": "road", "2": "Road"}')


ERRORS = [
    (no_mask, Kind.NO_MASK, "train/images/b.png", "holds no b.png"),
    (same_stem, Kind.SAME_STEM, "train/images/b.png", "stem of b.jpg"),
    (empty_image, Kind.BAD_IMAGE, "train/images/b.png", "not an image"),
    (truncated_image, Kind.BAD_IMAGE, "train/images/b.png", "cut short"),
    (truncated_jpeg, Kind.BAD_IMAGE, "train/images/b.jpg", "cut short"),
    (text_as_image, Kind.BAD_IMAGE, "train/images/b.png", "not an image"),
    (huge_image, Kind.BAD_IMAGE, "train/images/b.ppm", "too large"),
    (nan_image, Kind.BAD_IMAGE, "train/images/b.tif", "NaN"),
    (empty_mask, Kind.BAD_MASK, "train/masks/b.png", "not an image"),
    (truncated_mask, Kind.BAD_MASK, "train/masks/b.png", "cut short"),
    (coloured_mask, Kind.NO_LABEL_MAP, "train/masks/b.png", r"mode 'RGB' \(3 channels\)"),
    (grey_mask_in_colours, Kind.GREY_RGB, "train/masks/b.png", "has mode 'RGB'"),
    (larger_mask, Kind.SIZE_MISMATCH, "train/masks/b.png", r"12 x 6, but train/images/b.png is 10 x 6"),
    (mask_before_exif, Kind.SIZE_MISMATCH, "train/masks/b.png", "before the image's EXIF orientation"),
    (wrong_id, Kind.WRONG_ID, "train/masks/b.png", r"holds 3 \(\d+ pixels\)"),
    (unknown_stem, Kind.UNKNOWN_STEM, "nowhere", "train.txt lists it"),
    (split_without_masks, Kind.UNUSABLE_SPLIT, "val", "'images' and 'masks'; it holds"),
    (broken_list, Kind.UNUSABLE_SPLIT, "val", "val.txt cannot be read"),
    (blank_class, Kind.CLASS_NAMES, "id 1 of classes.json", "' ' is no name"),
    (doubled_class, Kind.CLASS_NAMES, "id 2 of classes.json", "'road', 'Road'"),
]


@pytest.mark.parametrize(("damage", "kind", "name", "detail"), ERRORS, ids=[entry[0].__name__ for entry in ERRORS])
def test_damage_is_found_named_and_fatal_for_training(source, damage, kind, name, detail):
    damage(source)
    report = check(source)
    assert {key: count for key, count in found(report).items() if Kind[key.upper()].severity == "error"} == {
        kind.name.lower(): 1
    }
    (example,) = problem(report, kind).examples
    assert example.name == name
    assert re.search(detail, example.detail)
    assert not loads(source)


def unused_mask(data):
    mask_of(9).save(data / "train/masks/z.png")


def wrong_suffix(data):
    (data / "train/images/b.png").write_bytes(encoded(make_image(20), "JPEG"))


def unlabelled(data):
    Image.new("L", SIZE, 255).save(data / "train/masks/b.png")


def absent_class(data):
    for path in (data / "val/masks").iterdir():
        Image.fromarray(np.array(mask_of(0)) % 2).save(path)


def only_0_and_255(data):
    for path in (data / "val/masks").iterdir():
        Image.fromarray((np.array(mask_of(0)) % 2) * 255).save(path)


def one_class(data):
    for path in (data / "val/masks").iterdir():
        ids = np.full(SIZE[::-1], 1, dtype=np.uint8)
        ids[0, 0] = 255
        Image.fromarray(ids).save(path)


def one_value(data):
    Image.new("L", SIZE, 1).save(data / "train/masks/b.png")


def unused_class(data):
    (data / "classes.json").write_text('["sky", "road", "tree", "car"]')


def optimised_palette(data):
    """Ids 0, 1, 255 as indices 0, 1, 2, as optimisers of PNG files write them."""
    mask = Image.fromarray(np.array(mask_of(1)))
    mask.putpalette([0, 0, 0, 1, 1, 1, 255, 255, 255])
    mask.save(data / "train/masks/b.png")


def copy_in_the_split(data):
    (data / "train/images/b.png").write_bytes((data / "train/images/a.png").read_bytes())


def copy_in_another_format(data):
    (data / "val/images/b.png").unlink()
    make_image(0).save(data / "val/images/b.bmp")


WARNINGS = [
    (unused_mask, Kind.UNUSED_MASK, "train/masks/z.png", "no image"),
    (wrong_suffix, Kind.WRONG_SUFFIX, "train/images/b.png", "holds JPEG"),
    (unlabelled, Kind.UNLABELLED, "train/images/b.png", "ignored"),
    (absent_class, Kind.ABSENT_CLASS, "tree", "no pixel of it in 'val'"),
    (one_class, Kind.ONE_CLASS, "val", "nothing but 'road'"),
    (only_0_and_255, Kind.ONLY_0_AND_255, "val", "nothing but 'sky' and ignored"),
    (one_value, Kind.ONE_VALUE, "train/masks/b.png", "every pixel is 1 ('road')"),
    (unused_class, Kind.UNUSED_CLASS, "car", "id 3 is in no mask"),
    (
        optimised_palette,
        Kind.GREY_PALETTE,
        "train/masks/b.png",
        "palette shows as the grey levels 0, 1, 255",
    ),
    (copy_in_the_split, Kind.DUPLICATE, "train/images/a.png of 'train'", "train/images/b.png of 'train'"),
    (copy_in_another_split, Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.png of 'val'"),
    (copy_in_another_format, Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.bmp of 'val'"),
]


@pytest.mark.parametrize(("damage", "kind", "name", "detail"), WARNINGS, ids=[one[0].__name__ for one in WARNINGS])
def test_oddity_is_found_and_named_and_does_not_stop_training(source, damage, kind, name, detail):
    damage(source)
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
    exif = Image.Exif()
    exif[0x0112] = 8
    originals = [encoded(make_image(0, (6, 10)), "JPEG", exif=exif), encoded(make_image(0, (6, 10)), exif=exif)]
    originals.append(encoded(mask_of(0)))
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
    (source / "train/masks/b.png").write_bytes(encoded(Image.new("L", SIZE, 1), "JPEG"))
    (source / "val/masks/a.png").unlink()
    mask_of(0).save(source / "val/masks/a.jpg")
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
    for damage in (no_mask, copy_in_another_split):
        damage(source)
    (source / "train/images/c.png").write_bytes(b"")
    mask_of(1, 5).save(source / "train/masks/d.png")
    make_image(1).save(source / "val/masks/a.png")
    kinds = ["no_mask", "bad_image", "no_label_map", "wrong_id", "shared_image"]
    assert found(check(source)) == dict.fromkeys(kinds, 1)


def test_problems_of_folders_that_splits_share_count_once(source):
    unknown_stem(source)
    (source / "masks/c.png").unlink()
    assert found(check(source)) == {"unknown_stem": 1, "no_split": 2}


def test_images_without_masks_on_a_list_are_not_unknown(source):
    unknown_stem(source)
    (source / "train.txt").write_text("a\nb\n")
    (source / "masks/b.png").unlink()
    assert found(check(source)) == {"no_mask": 1, "no_split": 2}


def test_one_stem_in_two_splits_is_no_problem(source):
    assert check(source).warnings == 0


def test_folder_without_splits_is_held_out_as_in_training(tmp_path):
    write_pairs(tmp_path, [f"{index:02d}" for index in range(20)])
    (tmp_path / "classes.json").write_text('["sky", "road", "tree"]')
    report = check(tmp_path)
    assert {split.name: split.pairs for split in report.splits} == {"train": 18, "val": 2}


def test_only_the_splits_asked_for_are_checked(source):
    empty_mask(source)
    assert [split.name for split in check(source, "--split", "val").splits] == ["val"]
    assert check(source, "--split", "val").problems == []
