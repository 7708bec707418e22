"""COCO's JSON, imported: instances, stuff, panoptic, splits, and files that cannot be meant."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from exports import SIZE, SQUARE, imported, letters, mask_of_only_image, names_of, write_image, write_json
from PIL import Image
from pycocotools import mask as coco_masks

from lclipseg.console.errors import InputError

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]


def annotation(category: int = 3, segmentation: object = (SQUARE,), **keys) -> dict:
    return {"id": 1, "image_id": 7, "category_id": category, "segmentation": segmentation, **keys}


def content(*annotations: dict, categories: list = CATEGORIES, **image) -> dict:
    image = {"id": 7, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1], **image}
    return {"images": [image], "categories": categories, "annotations": list(annotations)}


def written(tmp_path: Path, given: object, name: str = "instances.json", **options) -> Path:
    write_image(tmp_path / "source" / "a.png")
    write_json(tmp_path / "source" / name, given)
    return imported(tmp_path, **options)


def test_polygon_covers_the_pixels_that_cocos_own_tools_give_it(tmp_path):
    out = written(tmp_path, content(annotation()))
    assert mask_of_only_image(out) == ["bbbbbb", "bcccbb", "bcccbb", "bbbbbb", "bbbbbb"]
    theirs = coco_masks.decode(coco_masks.frPyObjects([SQUARE], SIZE[1], SIZE[0]))[..., 0]
    assert (np.array(names_of(out)["a"]) == "cat").tolist() == theirs.astype(bool).tolist()


@pytest.mark.parametrize("is_text", [False, True])
def test_run_lengths_cover_what_they_say(tmp_path, is_text):
    runs = {"size": [5, 6], "counts": [6, 2, 3, 2, 3, 2, 12]}
    if is_text:
        runs = coco_masks.frPyObjects(runs, 5, 6)
        runs["counts"] = runs["counts"].decode()
    out = written(tmp_path, content(annotation(segmentation=runs)))
    assert mask_of_only_image(out) == ["bbbbbb", "bcccbb", "bcccbb", "bbbbbb", "bbbbbb"]


@pytest.mark.parametrize("order", [1, -1])
def test_smaller_object_lies_on_top_in_whatever_order_and_this_is_said(tmp_path, caplog, order):
    caplog.set_level(logging.INFO, logger="lclipseg")
    small = annotation(9, [[2, 1, 3, 1, 3, 2, 2, 2]])
    out = written(tmp_path, content(*[annotation(), small][::order]))
    assert mask_of_only_image(out) == ["bbbbbb", "bcdcbb", "bcccbb", "bbbbbb", "bbbbbb"]
    assert "overlap in 1 images: the smaller object lies on top" in caplog.text
    assert "objects: 2 (" in caplog.text


def test_crowd_is_not_labelled(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    crowd = annotation(9, {"size": [5, 6], "counts": [0, 5, 25]}, iscrowd=1)
    out = written(tmp_path, content(annotation(), crowd))
    assert mask_of_only_image(out) == ["-bbbbb", "-cccbb", "-cccbb", "-bbbbb", "-bbbbb"]
    assert "not labelled: 1 x a crowd" in caplog.text


def test_classes_keep_their_names_and_order_and_speak_without_underscores(tmp_path):
    categories = [{"id": 9, "name": "left_door"}, {"id": 3, "name": "cat"}]
    out = written(tmp_path, content(annotation(), categories=categories))
    assert json.loads((out / "classes.json").read_text()) == {
        "classes": ["left_door", "cat", "background"],
        "prompts": {"left_door": "left door"},
        "none_of_these": "background",
    }


@pytest.mark.parametrize(("rest", "initial"), [("ignore", "-"), ("dog", "d"), ("wall", "w"), (" Dog ", "d")])
def test_what_no_object_covers_is_as_told(tmp_path, rest, initial):
    out = written(tmp_path, content(annotation()), rest=rest)
    assert mask_of_only_image(out)[0] == 6 * initial


def test_classes_that_are_not_kept_are_not_labelled(tmp_path):
    (tmp_path / "keep.txt").write_text("dog\n")
    out = written(
        tmp_path, content(annotation(), annotation(9, [[5, 0, 6, 0, 6, 5, 5, 5]])), keep=str(tmp_path / "keep.txt")
    )
    assert mask_of_only_image(out)[1] == "b---bd"
    assert json.loads((out / "classes.json").read_text())["classes"] == ["dog", "background"]


def test_roboflows_folders_are_splits_and_its_group_is_no_class(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    categories = [{"id": 0, "name": "pets"}, *({**each, "supercategory": "pets"} for each in CATEGORIES)]
    for split in ("train", "valid", "test"):
        write_image(tmp_path / "source" / split / "a.png")
        write_json(
            tmp_path / "source" / split / "_annotations.coco.json", content(annotation(), categories=categories)
        )
    out = imported(tmp_path)
    assert sorted(path.name for path in out.iterdir()) == ["classes.json", "test", "train", "val"]
    assert letters(names_of(out, "val")["a"])[1] == "bcccbb"
    assert "categories that only group others are no classes: pets" in caplog.text


def test_official_tree_has_its_images_in_folders_of_the_splits(tmp_path):
    for split, category in (("train", 3), ("val", 9)):
        write_image(tmp_path / "source" / f"{split}2017" / "a.png")
        write_json(tmp_path / "source" / "annotations" / f"instances_{split}2017.json", content(annotation(category)))
        write_json(
            tmp_path / "source" / "annotations" / f"captions_{split}2017.json", {"images": [], "annotations": []}
        )
    out = imported(tmp_path)
    assert [letters(names_of(out, split)["a"])[1] for split in ("train", "val")] == ["bcccbb", "bdddbb"]


@pytest.mark.parametrize("empty", ["keep", "skip"])
def test_image_without_annotations_is_all_background_or_left_out(tmp_path, caplog, empty):
    caplog.set_level(logging.INFO, logger="lclipseg")
    given = content(annotation())
    given["images"].append({**given["images"][0], "id": 8, "file_name": "b.png"})
    write_image(tmp_path / "source" / "b.png")
    out = written(tmp_path, given, empty=empty)
    assert (out / "masks" / "b.png").exists() == (empty == "keep")
    if empty == "keep":
        assert set(np.array(names_of(out)["b"]).ravel()) == {"background"}
    assert "images without an object: 1, " + {"keep": "kept", "skip": "left out"}[empty] in caplog.text


def panoptic(tmp_path: Path, segments: list[dict], **options) -> Path:
    colours = np.zeros((5, 6, 3), dtype=np.uint8)
    colours[1:3, 1:4] = (1, 0, 0)
    colours[4] = (0, 1, 0)  # 256
    (tmp_path / "source" / "panoptic_val2017").mkdir(parents=True)
    Image.fromarray(colours).save(tmp_path / "source" / "panoptic_val2017" / "a.png")
    write_image(tmp_path / "source" / "val2017" / "a.png")
    whole = {"image_id": 7, "file_name": "a.png", "segments_info": segments}
    given = content(whole, file_name="val2017/a.png")
    write_json(tmp_path / "source" / "panoptic_val2017.json", given)
    return imported(tmp_path, **options)


def test_panoptic_segments_are_classes_and_the_rest_is_not_labelled(tmp_path):
    out = panoptic(tmp_path, [{"id": 1, "category_id": 3}, {"id": 256, "category_id": 9}])
    assert letters(names_of(out, "val")["a"]) == ["------", "-ccc--", "-ccc--", "------", "dddddd"]


def test_panoptic_crowd_is_not_labelled(tmp_path):
    out = panoptic(tmp_path, [{"id": 1, "category_id": 3}, {"id": 256, "category_id": 9, "iscrowd": 1}])
    assert letters(names_of(out, "val")["a"])[4] == "------"


def test_panoptic_segment_without_a_category_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.png shows the segment 256, which has no category"):
        panoptic(tmp_path, [{"id": 1, "category_id": 3}])


def test_stuff_that_covers_nothing_is_not_labelled(tmp_path):
    out = written(tmp_path, content(annotation()), name="stuff_val2017.json")
    assert letters(names_of(out, "val")["a"])[1] == "-ccc--"


def test_instances_beside_panoptic_segments_have_to_be_chosen(tmp_path):
    write_json(tmp_path / "source" / "panoptic_val2017.json", content())
    with pytest.raises(InputError, match=r"holds instances and panoptic files of COCO's: name one of them"):
        written(tmp_path, content(annotation()), name="instances_val2017.json")


def test_annotation_file_alone_is_a_source_with_images_elsewhere(tmp_path):
    write_image(tmp_path / "photos" / "a.png")
    write_json(tmp_path / "source" / "b.json", content(annotation()))
    out = imported(tmp_path, "source/b.json", images=str(tmp_path / "photos"))
    assert mask_of_only_image(out)[1] == "bcccbb"


# ------------------------------------------------------------------------------------------ upright and on its side


SIDEWAYS = [1, 1, 4, 1, 4, 2, 1, 2]  # a bar of three by one pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_that_is_stored_on_its_side_was_labelled_upright(tmp_path, orientation):
    stored = SIZE if orientation < 5 else SIZE[::-1]
    write_image(tmp_path / "source" / "a.jpg", stored, orientation)
    write_json(tmp_path / "source" / "x.json", content(annotation(segmentation=[SIDEWAYS]), file_name="a.jpg"))
    assert mask_of_only_image(imported(tmp_path)) == ["bbbbbb", "bcccbb", "bbbbbb", "bbbbbb", "bbbbbb"]


def test_annotation_of_the_size_that_is_stored_is_turned_with_the_image(tmp_path):
    """Orientation 6 shows the left column as the top row, from the bottom to the top."""
    write_image(tmp_path / "source" / "a.jpg", SIZE, orientation=6)
    write_json(tmp_path / "source" / "x.json", content(annotation(segmentation=[SIDEWAYS]), file_name="a.jpg"))
    assert mask_of_only_image(imported(tmp_path)) == ["bbbbb", "bbbcb", "bbbcb", "bbbcb", "bbbbb", "bbbbb"]


# ----------------------------------------------------------------------------------------------- what has no meaning


FAR = [[0, 0, 1e9, 0, 1e9, 1e9]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (content(annotation(segmentation=[])), r"annotation 1 has no segmentation, only a box.*--boxes fill"),
        (content(annotation(segmentation="x")), r"annotation 1: the segmentation is neither polygons nor run lengths"),
        (content(annotation(segmentation=[[1, 1, 2, 2]])), r"annotation 1: 2 corners, where at least 3"),
        (content(annotation(segmentation=[[1, 1, 2, 2, 3]])), r"annotation 1: the corners are no pairs of numbers"),
        (content(annotation(segmentation=[[1, 1, 2, 2, "a", 3]])), r"annotation 1: the corners are no pairs"),
        (content(annotation(segmentation=[[0, 0, float("nan"), 3, 3, 3]])), r"no pairs of finite numbers"),
        (content(annotation(segmentation=FAR)), r"\(1e\+09, 0\) lies far outside of the image of 6 x 5 pixels"),
        (content(annotation(segmentation={"counts": [1, 2]})), r"annotation 1: .*run lengths of 5 x 6"),
        (content(annotation(segmentation={"counts": "~~~" * 99})), r"annotation 1: the text of run lengths holds"),
        (content(annotation(segmentation={"counts": "o" * 99})), r"a number that never ends"),
        (content(annotation(segmentation={"counts": [1e9, 2], "size": [5, 6]})), r"run lengths of 5 x 6"),
        (content(annotation(segmentation={"counts": [3], "size": [1, 3]})), r"run lengths of \[1, 3\]"),
        (content(annotation(4)), r"annotation 1: there is no category 4; there are \[3, 9\]"),
        (content({"id": 5, "category_id": 3}), r"annotation 5: 'image_id' must be there as int"),
        (content({**annotation(), "image_id": 99}), r"annotations of the image 99, which is not listed"),
        (content(annotation(), width=7), r"is made for 7 x 5 pixels .* has 6 x 5"),
        (content(annotation(), width=10**12), r"that is no size of an image"),
        (content(annotation(), width=-6), r"that is no size of an image"),
        (content(annotation(), height=None), r"image 1: 'height' must be there"),
        (content(annotation(), file_name="b.png"), r"image 1: there is no image 'b\.png'.*--images"),
        (content(annotation(), file_name="../../etc/passwd"), r"there is no image '\.\./\.\./etc/passwd'"),
        (content(annotation(), file_name=None), r"image 1: 'file_name' must be there as str"),
        (
            content(annotation(), categories=[*CATEGORIES, {"id": 3, "name": "x"}]),
            r"the id 3 is that of 'cat' already",
        ),
        (content(annotation(), categories=[{"id": 3}]), r"category 1: 'name' must be there as str"),
        (content(annotation(), categories=[{"id": 3, "name": "a\x1b[2J"}]), r"leave the control characters out"),
        ({**content(annotation()), "categories": 3}, r"'categories' must be there as list"),
        ({**content(annotation()), "images": 2 * content()["images"]}, r"a second image has the id 7"),
        ({**content(annotation()), "images": [*content()["images"], {**content()["images"][0], "id": 8}]}, r"both of"),
        (content(), r"no image has a pixel of any class"),
    ],
)
def test_what_cannot_be_meant_is_named_and_nothing_is_written(tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        written(tmp_path, given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(("boxes", "row"), [("fill", "bcccbb"), ("ignore", "b---bb")])
def test_boxes_of_detection_data_are_as_told(tmp_path, boxes, row):
    outlined = annotation(9, [[5, 4, 6, 4, 6, 5, 5, 5]])
    box = annotation(segmentation=[], bbox=[1, 1, 3, 2])
    assert mask_of_only_image(written(tmp_path, content(box, outlined), boxes=boxes))[1] == row


def test_polygon_that_reaches_out_is_cut_at_the_border_and_this_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    out = written(tmp_path, content(annotation(segmentation=[[-3, 1, 9, 1, 9, 3, -3, 3]])))
    assert mask_of_only_image(out) == ["bbbbbb", "cccccc", "cccccc", "bbbbbb", "bbbbbb"]
    assert "objects that reach out of their image: 1" in caplog.text


def test_image_of_a_path_that_leads_out_is_the_one_of_the_export(tmp_path):
    """The name is looked up among the files of the source alone."""
    write_image(tmp_path / "a.png", (9, 9))
    out = written(tmp_path, content(annotation(), file_name="../a.png"))
    assert mask_of_only_image(out)[1] == "bcccbb"


def test_two_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    given = content(annotation(), file_name="one/a.png")
    given["images"].append({**given["images"][0], "id": 8, "file_name": "two/a.png"})
    given["annotations"].append({**annotation(9), "image_id": 8})
    for folder in ("one", "two"):
        write_image(tmp_path / "source" / folder / "a.png")
    write_json(tmp_path / "source" / "x.json", given)
    found = names_of(imported(tmp_path))
    assert {stem: letters(rows)[1] for stem, rows in found.items()} == {"one/a": "bcccbb", "two/a": "bdddbb"}


def test_name_that_two_images_have_is_an_error_where_nothing_tells_them_apart(tmp_path):
    for folder in ("one", "two"):
        write_image(tmp_path / "source" / folder / "a.png")
    write_json(tmp_path / "source" / "x" / "x.json", content(annotation()))
    with pytest.raises(InputError, match=r"the image 'a\.png' may be .*one/a\.png or .*two/a\.png"):
        imported(tmp_path)


def test_folder_that_is_there_already_is_left_alone(tmp_path):
    write_json(tmp_path / "out" / "mine.json", {})
    with pytest.raises(InputError, match="is there already"):
        written(tmp_path, content(annotation()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.json"]


def test_more_classes_than_masks_can_hold_need_a_choice(tmp_path):
    categories = [{"id": number, "name": f"class {number}"} for number in range(300)]
    with pytest.raises(InputError, match="301, at most 255 are possible; name those to keep with --keep"):
        written(tmp_path, content(annotation(), categories=categories))


def test_images_that_are_not_there_are_an_error_or_left_out_and_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    given = content(annotation())
    given["images"] += [{**given["images"][0], "id": number, "file_name": f"{number}.png"} for number in (8, 9)]
    with pytest.raises(InputError, match=r"image 2: there is no image '8\.png'.*--missing skip leaves out what"):
        written(tmp_path, given)
    assert mask_of_only_image(written(tmp_path, given, missing="skip"))[1] == "bcccbb"
    assert "images that are named, but not there: 2, left out: 8.png, 9.png" in caplog.text
    (tmp_path / "source" / "a.png").unlink()
    (tmp_path / "out").rename(tmp_path / "before")
    with pytest.raises(InputError, match="none of the 3 images that it names is there"):
        imported(tmp_path, missing="skip")
