"""Data sets in the form of their publishers: made trees with the names and numbers of the real ones."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from published_trees import PAIRS, named, only_mask, own_recipe, prepare, stem_in, write_image, write_pair

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.prepare import prepare as prepare_data
from lclipseg.data.sources.parts import SplitPart
from lclipseg.data.sources.recipe import RECIPES, Recipe

TEST_DATA = Path(os.environ.get("LCLIPSEG_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(not (TEST_DATA / "clip_text").is_dir(), reason="LCLIPSEG_TEST_DATA holds no data")


# The published forms


def test_cityscapes_numbers_become_its_nineteen_classes(tmp_path):
    for part, city, ids in (
        ("train", "aachen", [7, 33, 6]),
        ("train", "zurich", [26, 0, 4]),
        ("val", "munster", [11]),
    ):
        stem = f"{part}/{city}/{city}_000000_000019"
        image, mask = f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png"
        write_pair(tmp_path / "source", image, mask, [ids])
    out = prepare("cityscapes", tmp_path)
    assert named(out, "train") == [["road", "bicycle", None]]
    assert named(out, "val") == [["car", None, None]]  # the last cities of train
    assert named(out, "test") == [["building"]]


def test_ade20k_counts_from_one(tmp_path):
    for part, stem in (("training", stem_in(0.05, 1)), ("training", stem_in(0, 0.05)), ("validation", "v")):
        pair = f"images/{part}/{stem}.jpg", f"annotations/{part}/{stem}.png"
        write_pair(tmp_path / "source", *pair, [[0, 1, 150]])
    out = prepare("ade20k", tmp_path)
    assert [named(out, split) for split in ("train", "val", "test")] == [[[None, "wall", "flag"]]] * 3


def test_coco_stuff_has_gaps_in_its_numbers(tmp_path):
    for part, stem in (("train", stem_in(0.02, 1)), ("train", stem_in(0, 0.02)), ("val", "v")):
        pair = f"{part}2017/{stem}.jpg", f"stuffthingmaps/{part}2017/{stem}.png"
        write_pair(tmp_path / "source", *pair, [[0, 11, 12, 181, 255]])
    assert named(prepare("coco_stuff", tmp_path), "test") == [["person", None, "stop sign", "wood", None]]


def test_pascal_context_is_read_from_matrices_of_sixteen_bits(tmp_path):
    lists = tmp_path / "source" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    train, val = stem_in(0.1, 1), stem_in(0, 0.1)
    (lists / "train.txt").write_text(f"{train}\n{val}\n")
    (lists / "val.txt").write_text("2008_000003 1\n")
    for stem in (train, val, "2008_000003"):
        write_pair(tmp_path / "source", f"JPEGImages/{stem}.jpg", f"trainval/{stem}.mat", [[2, 458, 459, 360]])
    write_image(tmp_path / "source/JPEGImages/unlabelled.jpg", 1, 4)
    assert named(prepare("pascal_context", tmp_path), "test") == [["aeroplane", "wood", None, "sky"]]


@pytest.mark.parametrize("release", ["", "v1.2/"])
def test_vistas_is_found_in_both_releases(tmp_path, release):
    for part, stem in (("training", stem_in(0.05, 1)), ("training", stem_in(0, 0.05)), ("validation", "v")):
        pair = f"{part}/images/{stem}.jpg", f"{part}/{release}labels/{stem}.png"
        write_pair(tmp_path / "source", *pair, [[0, 13, 64, 65]])  # 64 is the camera's own car
    assert named(prepare("mapillary_vistas", tmp_path), "val") == [["bird", "road", None, None]]


def test_voc_follows_its_lists(tmp_path):
    lists = tmp_path / "source" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    train, val = stem_in(0.1, 1), stem_in(0, 0.1)
    (lists / "train.txt").write_text(f"{train}\n{val}\n")
    (lists / "val.txt").write_text("2007_000033\n")
    for stem in (train, val, "2007_000033"):
        write_pair(tmp_path / "source", f"JPEGImages/{stem}.jpg", f"SegmentationClass/{stem}.png", [[0, 1, 255]])
    write_image(tmp_path / "source/JPEGImages/of_another_task.jpg", 1, 3)
    out = prepare("voc2012", tmp_path)
    assert load_segmentation_data(out, "test").names == ["2007_000033"]
    assert named(out, "test") == [["background", "aeroplane", None]]


def test_cmp_facade_counts_from_one_in_its_published_form(tmp_path):
    for number in (1, 271, 301):
        stem = f"base/cmp_b{number:04d}"
        write_pair(tmp_path / "source", f"{stem}.jpg", f"{stem}.png", [[1, 2, 12]])
    assert named(prepare("cmp_facade", tmp_path), "test") == [["background", "facade", "shop"]]


def test_idd_lite_keeps_a_drive_together(tmp_path):
    drives = {"train": [0, 1], "val": range(2, 12)}
    for stem in [f"{part}/{drive}/{frame:06d}" for part in drives for drive in drives[part] for frame in (1, 2)]:
        write_pair(tmp_path / "source", f"leftImg8bit/{stem}_image.jpg", f"gtFine/{stem}_label.png", [[0, 6, 255]])
    out = prepare("idd_lite", tmp_path)
    found = {
        split: {name.split("/")[0] for name in load_segmentation_data(out, split).names} for split in ("val", "test")
    }
    assert found["val"] and found["test"] and not found["val"] & found["test"]
    assert found["val"] | found["test"] == set(map(str, range(2, 12)))


# Numbers and colours


def test_colours_become_classes_and_unknown_ones_are_ignored(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[[255, 0, 0], [0, 0, 9], [0, 0, 8], [1, 1, 1]]])
    colours = {"wall": [255, 0, 0], "door": [[0, 0, 9], [0, 0, 8]]}
    out = prepare(own_recipe(tmp_path, splits={"train": PAIRS}, colours=colours), tmp_path)
    assert only_mask(out, "train") == [[0, 1, 1, 255]]


def test_several_numbers_can_be_one_class(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[200, 7, 8, 9]])
    out = prepare(own_recipe(tmp_path, splits={"train": PAIRS}, ids={"rest": 200, "door": [7, 8]}), tmp_path)
    assert only_mask(out, "train") == [[2, 1, 1, 255]]


def test_masks_without_any_class_are_an_error(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[0, 1]])
    with pytest.raises(InputError, match="no image of the split 'train' has a pixel of any class"):
        prepare(own_recipe(tmp_path, splits={"train": PAIRS}, ids=[10, 11, 12]), tmp_path)


def test_coloured_masks_need_a_table(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[[255, 0, 0]]])
    with pytest.raises(InputError, match=r"labels/a\.png: a mask must have one channel"):
        prepare(own_recipe(tmp_path, splits={"train": PAIRS}), tmp_path)


def test_matrix_of_another_name_is_an_error(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.mat", [[0, 1]])
    part = {"images": "photos/*.png", "masks": "labels/*.mat", "matrix": "groundtruth"}
    with pytest.raises(InputError, match=r"a\.mat has no matrix 'groundtruth'"):
        prepare(own_recipe(tmp_path, splits={"train": part}), tmp_path)


# Splits


def test_shares_divide_all_stems():
    shares = [SplitPart(part="any", share=limits) for limits in ((0, 0.2), (0.2, 0.5), (0.5, 1))]
    counts = [sum(part.holds(f"{number:012d}") for number in range(2000)) for part in shares]
    assert sum(counts) == 2000
    # four standard deviations of a binomial count
    assert all(
        abs(n - 2000 * p) < 4 * (2000 * p * (1 - p)) ** 0.5 for n, p in zip(counts, (0.2, 0.3, 0.5), strict=True)
    )


def test_photos_of_both_coco_sets_are_in_the_same_split():
    pools = [Recipe.load(name).layouts[-1].splits for name in ("coco80_mini", "coco133_panoptic")]
    stems = [f"{number:012d}" for number in range(500)]
    homes = [[{s for s, (part,) in pool.items() if part.holds(stem)} for stem in stems] for pool in pools]
    assert homes[0] == homes[1]


def test_scenes_that_are_measured_leave_training(tmp_path):
    for split, stem in (
        ("train", "x_crop1"),
        ("train", "y_crop1"),
        ("val", "y_crop2"),
        ("val", "z_crop1"),
        ("test", "z_crop2"),
    ):
        write_pair(tmp_path / "source", f"{split}/images/{stem}.png", f"{split}/labels/{stem}.png", [[0]])
    splits = {split: {"part": split} for split in ("train", "val", "test")}
    out = prepare(own_recipe(tmp_path, splits=splits, group="^(.+)_crop"), tmp_path)
    found = {split: load_segmentation_data(out, split).names for split in splits}
    assert found == {"train": ["x_crop1"], "val": ["y_crop2"], "test": ["z_crop2"]}


def test_split_of_scenes_of_others_is_an_error(tmp_path):
    for split in ("train", "val"):
        write_pair(tmp_path / "source", f"{split}/images/x_{split}.png", f"{split}/labels/x_{split}.png", [[0]])
    recipe = own_recipe(tmp_path, splits={"train": {"part": "train"}, "val": {"part": "val"}}, group="^(.)_")
    with pytest.raises(InputError, match="every image of the split 'train' shows a scene of another split"):
        prepare(recipe, tmp_path)


def test_split_can_have_several_parts(tmp_path):
    for part, stem in (("one", "a"), ("two", "b")):
        write_pair(tmp_path / "source", f"{part}/images/{stem}.png", f"{part}/labels/{stem}.png", [[0]])
    out = prepare(own_recipe(tmp_path, splits={"train": [{"part": "one"}, {"part": "two"}]}), tmp_path)
    assert load_segmentation_data(out, "train").names == ["a", "b"]


def test_parts_with_one_stem_are_an_error(tmp_path):
    for part in ("one", "two"):
        write_pair(tmp_path / "source", f"{part}/images/a.png", f"{part}/labels/a.png", [[0]])
    with pytest.raises(InputError, match="the parts of the split 'train' have images of the same stem"):
        prepare(own_recipe(tmp_path, splits={"train": [{"part": "one"}, {"part": "two"}]}), tmp_path)


def test_listed_stem_without_files_is_named(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[0]])
    (tmp_path / "source" / "train.txt").write_text("photos/a.png\nphotos/gone.png\n")
    with pytest.raises(InputError, match=r"train\.txt lists 1 stems without image and mask, for example 'gone'"):
        prepare(own_recipe(tmp_path, splits={"train": {**PAIRS, "listed": "train.txt"}}), tmp_path)


def test_image_without_mask_is_named(tmp_path):
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[0]])
    write_image(tmp_path / "source/photos/b.png", 1, 1)
    with pytest.raises(InputError, match=r"1 of 2 images have no mask, for example .*labels/b\.png"):
        prepare(own_recipe(tmp_path, splits={"train": PAIRS}), tmp_path)


def test_source_of_no_layout_is_told_what_all_need(tmp_path):
    (tmp_path / "source" / "photos").mkdir(parents=True)
    layouts = [{"splits": {"train": PAIRS}}, {"splits": {"train": {"part": "all"}}}]
    with pytest.raises(InputError, match=r"lacks photos/\*\.png with labels/\*\.png; or all\.tar.*holds \['photos'\]"):
        prepare(own_recipe(tmp_path, layouts=layouts), tmp_path)


# Classes


def prepared_classes(tmp_path: Path, **keys) -> dict:
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", [[0, 1, 2]])
    out = prepare(own_recipe(tmp_path, splits={"train": PAIRS}, **keys), tmp_path)
    return {**json.loads((out / "classes.json").read_text()), "mask": only_mask(out, "train")}


def test_merged_classes_stand_where_their_first_stood(tmp_path):
    found = prepared_classes(tmp_path, merge={"opening": ["door", "rest"]}, palette=[[1, 1, 1], [2, 2, 2], [3, 3, 3]])
    assert found == {"classes": ["wall", "opening"], "palette": [[1, 1, 1], [2, 2, 2]], "mask": [[0, 1, 1]]}


def test_prompts_are_those_of_merged_classes(tmp_path):
    prompts = {"wall": ["brick wall", "wall"], "opening": "gate"}
    assert prepared_classes(tmp_path, merge={"opening": ["door", "rest"]}, prompts=prompts)["prompts"] == prompts


def test_class_of_all_else_is_stated(tmp_path):
    found = prepared_classes(tmp_path, merge={"background": ["rest"]}, none_of_these="background")
    assert found["none_of_these"] == "background"


def test_class_of_all_else_is_not_stated_where_it_is_not_kept(tmp_path):
    assert "none_of_these" not in prepared_classes(tmp_path, none_of_these="rest", keep=["wall", "door"])


def test_recipe_of_another_differs_in_its_own_keys(tmp_path):
    own_recipe(tmp_path, splits={"train": PAIRS}, keep=["wall"], where="the shop")
    (tmp_path / "few.yaml").write_text(yaml.safe_dump({"of": "own", "keep": ["door", "rest"]}))
    recipe = Recipe.load(str(tmp_path / "few.yaml"))
    assert (recipe.kept.names, recipe.where) == (("door", "rest"), "the shop")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": {"train": {**PAIRS, "masks": "a/*/*.png"}}}, "the same number of stars"),
        ({"splits": {"train": {"images": "photos/*.png"}}}, "`images` with `masks` or `instances`"),
        ({"splits": {"train": {**PAIRS, "part": "all"}}}, "a split has `part`, or `images`"),
        ({"splits": {"train": {**PAIRS, "share": [0.5, 0.2]}}}, "0 <= low < high <= 1"),
        ({"splits": {"train": {**PAIRS, "share": "half"}}}, "0 <= low < high <= 1"),
        ({"merge": {"opening": ["window"]}}, r"cannot merge \['window'\]"),
        ({"merge": ["door"]}, "merge must be"),
        ({"prompts": {"gate": "gate"}}, r"\['gate'\], which are no classes"),
        ({"none_of_these": "void"}, "none_of_these is 'void'"),
        ({"group": "^.+_crop"}, "needs one bracket"),
        ({"group": "("}, "no regular expression"),
        ({"ids": {"gate": 1}}, r"ids of \['gate'\]"),
        ({"ids": [1, 2]}, "ids one for each"),
        ({"ids": {"door": "seven"}}, "no number or colour"),
        ({"colours": {"door": [1, 2]}}, "no number or colour"),
        ({"layouts": [{"part": "all"}]}, "a layout has the key 'splits'"),
        ({"layouts": [{"splits": {"val": PAIRS}}]}, "every layout needs the same splits"),
        ({"of": "gone"}, "there is no recipe"),
        ({"of": "own"}, "only of one that is of none"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_told(tmp_path, changes, message):
    with pytest.raises(InputError, match=rf"own\.yaml.*{message}"):
        Recipe.load(own_recipe(tmp_path, **{"splits": {"train": PAIRS}, **changes}))


# The recipes of the project


@needs_data
@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*-everyday.yaml")))
def test_everyday_classes_have_vectors(name):
    bank = json.loads((TEST_DATA / "clip_text" / "clip_vitb16_text_names.json").read_text())["names"]["bank.single"]
    recipe = Recipe.load(name)
    assert {word for words in recipe.kept.prompts for word in words} - set(bank) == set()


@needs_data
def test_published_ade20k_masks_can_be_read(tmp_path):
    sample = TEST_DATA / "ade20k_sample"
    layout = {"splits": {"val": {"images": "images/*.jpg", "masks": "labels/*.png"}}}
    content = yaml.safe_load((RECIPES / "ade20k.yaml").read_text())
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**content, **layout}))
    data = load_segmentation_data(
        prepare_data(str(tmp_path / "own.yaml"), PrepareArguments(str(sample), str(tmp_path / "out"))), "val"
    )
    seen = {data.classes.names[value] for sample in data for value in np.unique(sample.mask) if value != 255}
    assert len(data) == 3
    assert {"wall", "floor", "sky"} & seen
