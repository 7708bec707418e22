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


def stems(held_out: float, part: str, last: tuple[str, str]) -> list[tuple[str, str]]:
    """Folder and stem of an image for "train", one for "val", which is that share of the part, and one for "test"."""
    return [(part, stem_in(held_out, 1)), (part, stem_in(0, held_out)), last]


COCO = stems(0.02, "train", ("val", "v"))
ADE20K = stems(0.05, "training", ("validation", "v"))
FACADES = [("base", "0001"), ("base", "0271"), ("base", "0301")]
STUFF = ["person", None, "stop sign", "wood", None]
CONTEXT = ["aeroplane", "wood", None, "sky"]
VISTAS = ["bird", "road", None, None]  # 64 is the camera's own car


@pytest.mark.parametrize(
    ("recipe", "stems", "image", "mask", "ids", "names"),
    [
        ("ade20k", ADE20K, "images/{}/{}.jpg", "annotations/{}/{}.png", [0, 1, 150], [None, "wall", "flag"]),
        ("coco_stuff", COCO, "{}2017/{}.jpg", "stuffthingmaps/{}2017/{}.png", [0, 11, 12, 181, 255], STUFF),
        ("mapillary_vistas", ADE20K, "{}/images/{}.jpg", "{}/labels/{}.png", [0, 13, 64, 65], VISTAS),
        ("mapillary_vistas", ADE20K, "{}/images/{}.jpg", "{}/v1.2/labels/{}.png", [0, 13, 64, 65], VISTAS),
        ("mapillary_vistas_v2", ADE20K, "{}/images/{}.jpg", "{}/v2.0/labels/{}.png", [0, 21, 31, 123], VISTAS),
        ("cmp_facade", FACADES, "{}/cmp_b{}.jpg", "{}/cmp_b{}.png", [1, 2, 12], ["background", "facade", "shop"]),
    ],
)
def test_published_form_is_read(tmp_path, recipe, stems, image, mask, ids, names):
    """Numbers that begin at 1 or have gaps, and both releases of Vistas."""
    for stem in stems:
        write_pair(tmp_path / "source", image.format(*stem), mask.format(*stem), [ids])
    out = prepare(recipe, tmp_path)
    assert [named(out, split) for split in ("train", "val", "test")] == 3 * [[names]]


@pytest.mark.parametrize(
    ("recipe", "lists", "mask", "listed", "ids", "names"),
    [
        ("voc2012", "Segmentation", "SegmentationClass/{}.png", "1", [0, 1, 255], ["background", "aeroplane", None]),
        ("pascal_context", "Main", "trainval/{}.mat", "1 1", [2, 458, 459, 360], CONTEXT),
        ("pascal_context", "Main", "59_context_labels/{}.png", "1 1", [1, 59, 0, 50], CONTEXT),
        ("pascal_context", "SegmentationContext", "SegmentationClassContext/{}.png", "1", [1, 59, 0, 47], CONTEXT),
    ],
)
def test_voc_and_pascal_context_follow_their_lists(tmp_path, recipe, lists, mask, listed, ids, names):
    """The masks of Pascal Context are matrices of sixteen bits, or images of 59 numbers in one of two orders."""
    train, val = stem_in(0.1, 1), stem_in(0, 0.1)
    folder = tmp_path / "source" / "ImageSets" / lists
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(f"{train}\n{val}\n")
    (folder / "val.txt").write_text(f"{listed}\n")
    for stem in (train, val, "1"):
        write_pair(tmp_path / "source", f"JPEGImages/{stem}.jpg", mask.format(stem), [ids])
    write_image(tmp_path / "source/JPEGImages/of_another_task.jpg", 1, len(ids))
    out = prepare(recipe, tmp_path)
    assert load_segmentation_data(out, "test").names == ["1"]
    assert named(out, "test") == [names]


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


def prepared(tmp_path: Path, values, mask: str = "labels/a.png", **keys) -> Path:
    write_pair(tmp_path / "source", "photos/a.png", mask, values)
    return prepare(own_recipe(tmp_path, **{"splits": {"train": PAIRS}, **keys}), tmp_path)


COLOURED = [[[255, 0, 0], [0, 0, 9], [0, 0, 8], [1, 1, 1]]]


@pytest.mark.parametrize(
    ("values", "keys", "mask"),
    [
        (COLOURED, {"colours": {"wall": [255, 0, 0], "door": [[0, 0, 9], [0, 0, 8]]}}, [[0, 1, 1, 255]]),
        ([[200, 7, 8, 9]], {"ids": {"rest": 200, "door": [7, 8]}}, [[2, 1, 1, 255]]),
    ],
)
def test_colours_and_numbers_become_classes_and_unknown_ones_are_ignored(tmp_path, values, keys, mask):
    assert only_mask(prepared(tmp_path, values, **keys), "train") == mask


MATRICES = {"images": "photos/*.png", "masks": "labels/*.mat", "matrix": "groundtruth"}


@pytest.mark.parametrize(
    ("values", "mask", "keys", "message"),
    [
        ([[0, 1]], "labels/a.png", {"ids": [10, 11, 12]}, "no image of the split 'train' has a pixel of any class"),
        ([[[255, 0, 0]]], "labels/a.png", {}, r"labels/a\.png: a mask must have one channel"),  # without a table
        ([[0, 1]], "labels/a.mat", {"splits": {"train": MATRICES}}, r"a\.mat has no matrix 'groundtruth'"),
    ],
)
def test_masks_that_cannot_be_read_are_an_error(tmp_path, values, mask, keys, message):
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, values, mask, **keys)


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


def write_parts(tmp_path: Path, *pairs: tuple[str, str]) -> None:
    for part, stem in pairs:
        write_pair(tmp_path / "source", f"{part}/images/{stem}.png", f"{part}/labels/{stem}.png", [[0]])


def test_scenes_that_are_measured_leave_training(tmp_path):
    crops = ("train", "x_crop1"), ("train", "y_crop1"), ("val", "y_crop2"), ("val", "z_crop1"), ("test", "z_crop2")
    write_parts(tmp_path, *crops)
    splits = {split: {"part": split} for split in ("train", "val", "test")}
    out = prepare(own_recipe(tmp_path, splits=splits, group="^(.+)_crop"), tmp_path)
    found = {split: load_segmentation_data(out, split).names for split in splits}
    assert found == {"train": ["x_crop1"], "val": ["y_crop2"], "test": ["z_crop2"]}


def test_split_of_scenes_of_others_is_an_error(tmp_path):
    write_parts(tmp_path, ("train", "x_train"), ("val", "x_val"))
    recipe = own_recipe(tmp_path, splits={"train": {"part": "train"}, "val": {"part": "val"}}, group="^(.)_")
    with pytest.raises(InputError, match="every image of the split 'train' shows a scene of another split"):
        prepare(recipe, tmp_path)


def test_split_can_have_several_parts(tmp_path):
    write_parts(tmp_path, ("one", "a"), ("two", "b"))
    out = prepare(own_recipe(tmp_path, splits={"train": [{"part": "one"}, {"part": "two"}]}), tmp_path)
    assert load_segmentation_data(out, "train").names == ["a", "b"]


def test_parts_with_one_stem_are_an_error(tmp_path):
    write_parts(tmp_path, ("one", "a"), ("two", "a"))
    with pytest.raises(InputError, match="the parts of the split 'train' have images of the same stem"):
        prepare(own_recipe(tmp_path, splits={"train": [{"part": "one"}, {"part": "two"}]}), tmp_path)


def test_listed_stem_without_files_is_named(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.txt").write_text("photos/a.png\nphotos/gone.png\n")
    with pytest.raises(InputError, match=r"train\.txt lists 1 stems without image and mask, for example 'gone'"):
        prepared(tmp_path, [[0]], splits={"train": {**PAIRS, "listed": "train.txt"}})


def test_image_without_mask_is_named(tmp_path):
    write_image(tmp_path / "source/photos/b.png", 1, 1)
    with pytest.raises(InputError, match=r"1 of 2 images have no mask, for example .*labels/b\.png"):
        prepared(tmp_path, [[0]])


def test_source_of_no_layout_is_told_what_all_need(tmp_path):
    (tmp_path / "source" / "photos").mkdir(parents=True)
    layouts = [{"splits": {"train": PAIRS}}, {"splits": {"train": {"part": "all"}}}]
    with pytest.raises(InputError, match=r"lacks photos/\*\.png with labels/\*\.png; or all\.tar.*holds \['photos'\]"):
        prepare(own_recipe(tmp_path, layouts=layouts), tmp_path)


# Classes


OPENING = {"opening": ["door", "rest"]}
COLOURS = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
WORDS = {"wall": ["brick wall", "wall"], "opening": "gate"}


@pytest.mark.parametrize(
    ("keys", "mask", "written"),
    [
        ({"merge": OPENING, "palette": COLOURS}, [0, 1, 1], {"classes": ["wall", "opening"], "palette": COLOURS[:2]}),
        ({"merge": OPENING, "prompts": WORDS}, [0, 1, 1], {"classes": ["wall", "opening"], "prompts": WORDS}),
        (
            {"merge": {"background": ["rest"]}, "none_of_these": "background"},
            [0, 1, 2],
            {"classes": ["wall", "door", "background"], "none_of_these": "background"},
        ),
        ({"none_of_these": "rest", "keep": ["wall", "door"]}, [0, 1, 255], {"classes": ["wall", "door"]}),
    ],
    ids=["merged classes stand where their first stood", "prompts are those of merged classes",
         "the class of all else is stated", "but not where it is not kept"],
)  # fmt: skip
def test_class_list_is_that_of_the_classes_kept(tmp_path, keys, mask, written):
    out = prepared(tmp_path, [[0, 1, 2]], **keys)
    assert only_mask(out, "train") == [mask]
    assert json.loads((out / "classes.json").read_text()) == written


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
        ({"splits": None}, "splits"),
        ({"splits": {"train": {"prat": "all"}}}, "prat"),
        ({"splits": {"train": {"part": "all", "first": 1}}}, "quotes"),
        ({"keep": ["window"]}, r"cannot keep \['window'\]"),
        ({"keep": []}, "cannot keep no class"),
        ({"keeps": ["wall"]}, r"\['keeps'\]"),
        ({"classes": ["wall", None]}, "None"),
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
