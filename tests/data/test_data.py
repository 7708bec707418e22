"""Class lists, ids of masks, and folders of images and masks."""

import sys

import numpy as np
import pytest
from data_folders import SIZE, folder_with, make_image, mask_of, write_classes, write_pairs
from PIL import Image

import lclipseg.data
from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import class_ids
from lclipseg.data.open import load_segmentation_data

# Class lists


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (["sky", "road"], "road"),
        ({"1": "road", "0": "sky"}, "road"),
        ({"classes": [" sky", "road"], "anything else": 1}, "road"),
        ({"classes": ["sky", "road"], "prompts": {"road": "street"}}, "street"),
    ],
)
def test_class_list_reads_every_form(tmp_path, content, prompt):
    classes = ClassList.load(write_classes(tmp_path, content) / "classes.json")
    assert classes.id2label == {0: "sky", 1: "road"}
    assert classes.prompts == (("sky",), (prompt,))


def test_class_list_survives_saving(tmp_path):
    content = {"classes": ["a", "b"], "ignore_index": 9, "palette": [[0, 1, 2], [3, 4, 255]], "prompts": {"b": "bee"}}
    classes = ClassList.parse({**content, "do_reduce_labels": True}, "x")
    classes.save(tmp_path / "classes.json")
    assert ClassList.load(tmp_path / "classes.json") == classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "empty"),
        (["sky", "Sky"], "Sky"),
        (["sky", " "], "name 2 of 2"),
        ({}, "must be"),
        ("sky", "must be"),
        ({"0": "sky", "2": "road"}, "without gaps"),
        ({"classes": ["a"], "palette": [[0, 0, 0], [1, 1, 1]]}, "each of the 1 classes, got 2"),
        ({"classes": ["a"], "palette": [[0, 0, 256]]}, "0 to 255"),
        ({"classes": ["a"], "prompts": {"b": "bee"}}, r"\['b'\]"),
        ({"classes": ["a", "b"], "prompts": {"b": "a"}}, "prompts"),
        ({"classes": ["a"], "ignore_index": "1"}, "whole number"),
        ({"classes": ["a", "b"], "ignore_index": 1}, "class 'b'"),
        ({"classes": ["a", "b"], "ignore_index": 2, "do_reduce_labels": True}, "class 'b'"),
        ({"classes": ["a"], "do_reduce_labels": 1}, "true or false"),
        ([f"class {index}" for index in range(256)], "at most 255"),
    ],
)
def test_class_list_rejects(tmp_path, content, message):
    path = write_classes(tmp_path, content) / "classes.json"
    with pytest.raises(InputError, match=message) as error:
        ClassList.load(path)
    assert str(path) in str(error.value)


def test_class_list_rejects_broken_json(tmp_path):
    (tmp_path / "classes.json").write_text('["sky",')
    with pytest.raises(InputError, match=r"classes\.json is not valid JSON"):
        ClassList.load(tmp_path / "classes.json")


def test_subset_numbers_classes_anew():
    classes = ClassList.parse({"classes": ["a", "b", "c"], "prompts": {"c": "sea"}, "palette": [[0] * 3] * 3}, "x")
    kept = classes.subset(["c", "a"], "x")
    assert (kept.names, kept.prompts, len(kept.palette)) == (("c", "a"), (("sea",), ("a",)), 2)


# Mask ids


@pytest.mark.parametrize("content", [{"ignore_index": 300}, {"do_reduce_labels": True}, {"ignore_index": 7}])
def test_class_ids_agree_with_a_table_of_the_rule(content):
    classes = ClassList.parse({"classes": ["a", "b", "c"], **content}, "x")
    if classes.do_reduce_labels:
        expected = {0: 255, 1: 0, 2: 1, 3: 2, 255: 255}
    else:
        expected = {0: 0, 1: 1, 2: 2, 255: 255, content["ignore_index"]: 255}
    values = np.random.default_rng(0).choice(list(expected), size=(9, 7)).astype(np.uint16)
    ids = class_ids(values, classes, "mask")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[expected[value] for value in row] for row in values.tolist()]


def test_class_ids_at_255_classes_keep_the_last_class_apart_from_ignored():
    classes = ClassList.parse([f"class {index}" for index in range(255)], "x")
    assert class_ids(np.array([[254, 255]]), classes, "mask").tolist() == [[254, 255]]


@pytest.mark.parametrize(
    ("mode", "dtype", "high"),
    [("L", np.uint8, 1), ("P", np.uint8, 1), ("I;16", np.uint16, 1), ("I;16", np.uint16, 1000), ("1", bool, 1)],
)
def test_masks_of_every_single_channel_mode_keep_their_ids(tmp_path, mode, dtype, high):
    mask = Image.fromarray(np.array([[0, high], [1, 0]], dtype=dtype))
    if mode == "P":
        mask.putpalette([200, 0, 0, 0, 0, 90])
    assert mask.mode == mode
    source = folder_with(tmp_path, mask, make_image(0, (2, 2)), {"classes": ["a", "b", "c"], "ignore_index": 1000})
    assert load_segmentation_data(source, "train")[0].mask.tolist() == [[0, 255 if high == 1000 else 1], [1, 0]]


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        (Image.new("L", SIZE, 3), None, r"masks/a\.png holds the id 3, but the 3 classes have 0 to 2 .*ignore_index"),
        (Image.new("L", SIZE, 3), {"classes": ["a", "b"], "do_reduce_labels": True}, "but the 2 classes have 1 to 2"),
        (make_image(3), None, r"masks/a\.png: a mask must have one channel"),
        (mask_of(0, size=(10, 5)), None, r"images/a\.png is 10 x 6 .*masks/a\.png is 10 x 5"),
    ],
)
def test_mask_that_cannot_be_meant_is_named(tmp_path, mask, classes, message):
    data = load_segmentation_data(folder_with(tmp_path, mask, classes=classes), "train")
    with pytest.raises(InputError, match=message):
        data[0]


def test_truncated_mask_is_named(tmp_path):
    source = folder_with(tmp_path, mask_of(0))
    path = source / "train" / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"masks/a\.png: damaged"):
        load_segmentation_data(source, "train")[0]


# Folders


@pytest.mark.parametrize(
    ("folder", "asked", "masks"),
    [("val", "validation", "masks"), ("validation", "val", "masks"), ("train", "train", "labels")],
)
def test_split_by_folder(tmp_path, folder, asked, masks):
    write_pairs(write_classes(tmp_path) / folder, ["b", "a"], masks)
    data = load_segmentation_data(tmp_path, asked)
    assert data.names == ["a", "b"]
    assert np.array_equal(data[1].image, make_image(0))
    assert np.array_equal(data[1].mask, mask_of(0))
    assert data.classes.names == ("sky", "road", "tree")


@pytest.mark.parametrize(
    ("folder", "listed", "split", "message"),
    [
        ("train", None, "test", r"no split 'test'; it has \['train'\]"),
        ("", "a\nx\ny", "train", r"train\.txt lists 2 names that no image has: x, y"),
        ("", "a", "val", r"no list val\.txt; it has \['train\.txt'\]"),
        ("", None, "test", "no splits"),
    ],
)
def test_split_that_is_not_there_is_an_error(tmp_path, folder, listed, split, message):
    write_pairs(write_classes(tmp_path) / folder, ["a"])
    if listed is not None:
        (tmp_path / "train.txt").write_text(listed)
    with pytest.raises(InputError, match=message):
        load_segmentation_data(tmp_path, split)


def test_split_by_list_keeps_its_order(tmp_path):
    write_pairs(write_classes(tmp_path), ["a", "b", "c"])
    (tmp_path / "train.txt").write_text("c\na\n\n")
    assert load_segmentation_data(tmp_path, "train").names == ["c", "a"]


def test_folder_without_splits_holds_out_a_tenth_the_same_on_every_run(tmp_path):
    stems = [f"{index:02d}" for index in range(20)]
    write_pairs(write_classes(tmp_path), stems)
    train, val = (load_segmentation_data(tmp_path, split).names for split in ("train", "val"))
    assert val == ["01", "04"]
    assert sorted(train + val) == stems


def test_sub_folders_pair_by_path(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["city/a", "town/a"])
    assert load_segmentation_data(tmp_path, "train").names == ["city/a", "town/a"]


def test_stray_files_do_not_count(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["a"])
    write_pairs(tmp_path / "train" / "images" / ".checkpoints", ["b"])
    for name in ("train/images/._a.png", "train/images/notes.txt", "metadata.csv"):
        (tmp_path / name).write_text("not an image")
    assert load_segmentation_data(tmp_path, "train").names == ["a"]


def test_images_without_masks_are_listed(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", list("abcdefgh"))
    for stem in "bcdefgh":
        (tmp_path / "train" / "masks" / f"{stem}.png").unlink()
    with pytest.raises(
        InputError, match=r"7 of 8 images have no mask .*images/b\.png.*images/d\.png and 4 more\. .*a_mask\.png"
    ):
        load_segmentation_data(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: make_image(1).save(root / "train/images/a.jpg"), r"a\.jpg and .*a\.png have the same stem"),
        (lambda root: (root / "train/masks").rename(root / "train/truth"), r"'masks'; it holds \['images', 'truth'\]"),
        (lambda root: (root / "train/images/a.png").unlink(), "holds no images"),
        (
            lambda root: (root / "classes.json").unlink(),
            r'Write one, such as {"classes": \["what 0 is", .* "what 2 is"\]}.*hold 0, 1, 2,',
        ),
    ],
)
def test_folder_that_is_no_data_set_says_why(tmp_path, change, message):
    write_pairs(write_classes(tmp_path) / "train", ["a"])
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        load_segmentation_data(tmp_path, "train")


def test_class_list_given_replaces_the_own(tmp_path):
    write_pairs(write_classes(tmp_path / "data") / "train", ["a"])
    other = write_classes(tmp_path / "other", ["x", "y", "z"]) / "classes.json"
    assert load_segmentation_data(tmp_path / "data", "train", classes=other).classes.names == ("x", "y", "z")


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "images.parquet", "a/b/c"])
def test_missing_path_is_not_looked_up_on_the_hub(source):
    with pytest.raises(InputError, match=f"{source} does not exist"):
        load_segmentation_data(source, "train")


# Cache


def test_cached_samples_are_not_read_again(tmp_path):
    source = folder_with(tmp_path, mask_of(0))
    data = load_segmentation_data(source, "train", cache=True)
    data[0]
    (source / "train" / "images" / "a.png").unlink()
    (source / "train" / "masks" / "a.png").unlink()
    assert np.array_equal(data[0].image, make_image(0))
    assert np.array_equal(data[0].mask, mask_of(0))


def test_changing_a_sample_leaves_the_cache_alone(tmp_path):
    data = load_segmentation_data(folder_with(tmp_path, mask_of(0)), "train", cache=True)
    data[0].mask[:] = 255
    data[0].image.paste((0, 0, 0), (0, 0, *SIZE))
    assert np.array_equal(data[0].image, make_image(0))
    assert np.array_equal(data[0].mask, mask_of(0))


def test_folders_work_without_the_datasets_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "lclipseg.data.tables", raising=False)
    monkeypatch.delattr(lclipseg.data, "tables", raising=False)
    assert len(load_segmentation_data(folder_with(tmp_path, mask_of(0)), "train")) == 1
    with pytest.raises(InputError, match=r"library datasets, .*lclipseg\[train\]"):
        load_segmentation_data("someone/scenes", "train")
