"""YOLO's text files, LabelMe's and Label Studio's JSON, imported."""

import base64
import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from exports import INSIDE, SIZE, bits, brush, imported, letters, mask_of_only_image, names_of, write_image, write_json
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.imports.label_studio import brush_pixels

WITH_OUTLINE = ["bbbbbb", "bccccb", "bccccb", "bccccb", "bbbbbb"]  # the same corners, their pixels included


@pytest.fixture(autouse=True)
def told(caplog) -> None:
    caplog.set_level(logging.INFO, logger="lclipseg")


# ---------------------------------------------------------------------------------------------------------------- YOLO


YOLO_SQUARE = "0 " + " ".join(f"{x / 6} {y / 5}" for x, y in [(1, 1), (4, 1), (4, 3), (1, 3)])


def yolo(
    tmp_path: Path, label: str | None = YOLO_SQUARE, table: str = "names: [cat, dog]\nnc: 2\n", **options
) -> Path:
    root = tmp_path / "source"
    write_image(root / "images" / "a.jpg", options.pop("size", SIZE), options.pop("orientation", None))
    (root / "data.yaml").write_text(table)
    if label is not None:
        (root / "labels").mkdir()
        (root / "labels" / "a.txt").write_text(label)
    return imported(tmp_path, **options)


def test_yolos_polygon_has_its_outline_as_in_yolos_training(tmp_path):
    assert mask_of_only_image(yolo(tmp_path)) == WITH_OUTLINE


def test_yolos_smaller_object_lies_on_top(tmp_path):
    small = "1 " + " ".join(f"{x / 6} {y / 5}" for x, y in [(2, 2), (3, 2), (3, 2)])
    assert mask_of_only_image(yolo(tmp_path, f"{small}\n{YOLO_SQUARE}\n"))[2] == "bcddcb"


def test_yolos_coordinates_are_those_of_the_upright_image(tmp_path):
    assert mask_of_only_image(yolo(tmp_path, size=SIZE[::-1], orientation=6)) == WITH_OUTLINE


def test_yolos_splits_are_those_of_the_table_wherever_it_was_written(tmp_path, caplog):
    root = tmp_path / "source"
    for split in ("train", "valid"):
        write_image(root / split / "images" / "a.jpg")
        (root / split / "labels").mkdir()
        (root / split / "labels" / "a.txt").write_text(YOLO_SQUARE)
    (root / "data.yaml").write_text(
        "names: {0: cat}\ntrain: /content/set/train/images\nval: ../valid/images\ntest: ../test/images\n"
    )
    out = imported(tmp_path)
    assert [letters(names_of(out, split)["a"]) for split in ("train", "val")] == [WITH_OUTLINE] * 2
    assert "test is '../test/images', which is not there" in caplog.text


def test_yolos_image_without_a_text_file_shows_nothing(tmp_path, caplog):
    write_image(tmp_path / "source" / "images" / "b.jpg")
    out = yolo(tmp_path)
    assert set(np.array(names_of(out)["b"]).ravel()) == {"background"}
    assert "images without an object: 1, kept" in caplog.text


@pytest.mark.parametrize(("boxes", "row"), [("fill", "bcccbb"), ("ignore", "b---bb")])
def test_yolos_boxes_are_as_told(tmp_path, boxes, row):
    label = f"0 {2.5 / 6} {2 / 5} {3 / 6} {2 / 5}\n1 0.9 0.9 1 0.9 1 1\n"
    assert mask_of_only_image(yolo(tmp_path, label, boxes=boxes))[1] == row


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("7 0 0 1 0 1 1", r"labels/a\.txt, line 1: '7' is no class; data\.yaml has \[0, 1\]"),
        (f"{YOLO_SQUARE}\n0 0 0 x 0 1 1", r"line 2: '0 0 0 x 0 1 1' is not a class and numbers"),
        ("0 0 0 640 0 640 480", r"coordinates are parts of the image's size, 0 to 1, not 640"),
        ("0 0.5 0.5 1 1", r"line 1: a class and 4 numbers is a box.*--boxes fill"),
        ("0 0 0 1 0 1 1 1", r"line 1: the corners are no pairs of numbers"),
        ("0 0 0 nan 0 1 1", r"no pairs of finite numbers"),
        ("0 1 1", r"1 corners, where at least 3"),
        (None, r"no image has a pixel of any class"),
    ],
)
def test_yolos_line_that_cannot_be_meant_is_named(tmp_path, label, message):
    with pytest.raises(InputError, match=message):
        yolo(tmp_path, label)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("names: {a: cat}\nnc: 1\n", r"data\.yaml: names has 'a': 'cat'"),
        ("names: 3\nnc: 1\n", r"names must be \[cat, dog\]"),
        ("names: [cat]\ntrain: ../../../etc\n", r"train is '\.\./\.\./\.\./etc', which is no folder of images"),
        ("names: [cat]\ntrain: train.txt\n", r"train is 'train\.txt'; only a folder of images"),
    ],
)
def test_yolos_table_that_cannot_be_meant_is_named(tmp_path, table, message):
    with pytest.raises(InputError, match=message):
        yolo(tmp_path, table=table)


# ------------------------------------------------------------------------------------------------------------- LabelMe


def shape(points: object, kind: str | None = "polygon", label: str = "cat", **keys) -> dict:
    return {"label": label, "points": points, "shape_type": kind, **keys}


CORNERS = [[1, 1], [4, 1], [4, 3], [1, 3]]


def labelme(tmp_path: Path, *shapes: dict, **options) -> Path:
    keys = {"imagePath": "a.jpg", "imageWidth": SIZE[0], "imageHeight": SIZE[1], **options.pop("keys", {})}
    write_image(tmp_path / "source" / "a.jpg")
    write_json(tmp_path / "source" / "a.json", {"shapes": list(shapes), **keys})
    return imported(tmp_path, **options)


@pytest.mark.parametrize(("points", "kind"), [(CORNERS, "polygon"), (CORNERS, None), ([[4, 3], [1, 1]], "rectangle")])
def test_labelmes_shapes_have_their_outline_as_labelme_draws_them(tmp_path, points, kind):
    assert mask_of_only_image(labelme(tmp_path, shape(points, kind))) == WITH_OUTLINE


def test_labelmes_circle_is_a_centre_and_a_point_on_it(tmp_path):
    out = labelme(tmp_path, shape([[2, 2], [3, 2]], "circle"))
    assert mask_of_only_image(out) == ["bbbbbb", "bbcbbb", "bcccbb", "bbcbbb", "bbbbbb"]


def test_labelmes_mask_lies_in_its_box(tmp_path):
    file = BytesIO()
    Image.fromarray(np.array([[255, 255, 255], [255, 0, 255]], dtype=np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    out = labelme(tmp_path, shape([[1, 1], [3, 2]], "mask", mask=text))
    assert mask_of_only_image(out)[1:3] == ["bcccbb", "bcbcbb"]


def test_labelmes_later_shape_lies_on_top(tmp_path):
    small = shape([[2, 2], [2, 2]], "rectangle", "dog")
    assert mask_of_only_image(labelme(tmp_path, small, shape(CORNERS))) == WITH_OUTLINE


def test_labelmes_line_needs_a_width(tmp_path):
    line = shape([[0, 2], [5, 2]], "linestrip")
    with pytest.raises(InputError, match=r"a\.json, shape 1 \('cat'\): a linestrip covers no area; --line_width N"):
        labelme(tmp_path, line)
    assert mask_of_only_image(labelme(tmp_path, line, line_width=1))[2] == "cccccc"


def test_labelmes_image_without_a_file_is_left_out_and_one_without_shapes_is_kept(tmp_path, caplog):
    for stem in "bc":
        write_image(tmp_path / "source" / f"{stem}.jpg")
    write_json(tmp_path / "source" / "b.json", {"shapes": [], "imagePath": "b.jpg"})
    out = labelme(tmp_path, shape(CORNERS))
    assert sorted(path.stem for path in (out / "images").iterdir()) == ["a", "b"]
    assert "images that nobody has labelled: 1, left out: c.jpg" in caplog.text


@pytest.mark.parametrize(
    ("image", "notes", "path", "stored"),
    [
        ("images/b.jpg", "notes/b.json", "..\\images\\b.jpg", {}),
        ("train_12.jpg", "train_12.json", "train_12.jpg", {}),
        ("b.jpg", "b.json", "b.jpg", {"size": SIZE[::-1], "orientation": 8}),
    ],
    ids=["path of another system", "name that begins as a split does", "labelled upright, stored on its side"],
)
def test_labelmes_image_is_found(tmp_path, image, notes, path, stored):
    write_image(tmp_path / "source" / image, **stored)
    write_json(tmp_path / "source" / notes, {"shapes": [shape(CORNERS)], "imagePath": path})
    assert mask_of_only_image(imported(tmp_path)) == WITH_OUTLINE


@pytest.mark.parametrize("label", ["__ignore__", "void"])
def test_labelmes_label_to_ignore_is_no_class(tmp_path, label):
    out = labelme(tmp_path, shape(CORNERS), shape([[0, 0], [0, 4]], "rectangle", label))
    assert mask_of_only_image(out)[1] == "-ccccb"


@pytest.mark.parametrize(
    ("given", "keys", "message"),
    [
        (shape([[1, 1]], "point"), {}, r"shape 1 \('cat'\): a point covers no area"),
        (shape(CORNERS, "star"), {}, r"there is no shape 'star'"),
        (shape(CORNERS, "circle"), {}, r"a circle has 2 points, not 4"),
        (shape(None), {}, r"the corners are no pairs"),
        (shape([[1, 1], [2, 2]]), {}, r"2 corners, where at least 3"),
        (shape([[1, 1], [2, 2]], "mask", mask="x"), {}, r"the mask is no PNG in base64"),
        (shape(CORNERS, label=" "), {}, r"a\.json, shape 1 has no label"),
        ({"points": CORNERS}, {}, r"a\.json, shape 1: 'label' must be there as str"),
        (shape(CORNERS), {"imagePath": "../../../etc/passwd"}, r"there is no image"),
        (shape(CORNERS), {"imageWidth": 5, "imageHeight": 7}, r"is made for 5 x 7 pixels"),
        (shape(CORNERS), {"imageWidth": 1e300}, r"that is no size of an image"),
        (shape([[0, 0], [1e8, 0], [1e8, 1e8]]), {}, r"lies far outside of the image"),
    ],
)
def test_labelmes_shape_that_cannot_be_meant_is_named(tmp_path, given, keys, message):
    with pytest.raises(InputError, match=message):
        labelme(tmp_path, given, keys=keys)


# -------------------------------------------------------------------------------------------------------- Label Studio


SQUARE_PIXELS = np.zeros((5, 6), dtype=np.uint8)
SQUARE_PIXELS[1:3, 1:4] = 1


def region(kind: str, label: object = "cat", **value) -> dict:
    labels = label if isinstance(label, list) else [label]
    size = {"original_width": SIZE[0], "original_height": SIZE[1], "image_rotation": 0}
    return {"id": "r1", "type": kind, "value": {**value, kind: labels}, **size}


def percent(points: list) -> list:
    return [[100 * x / 6, 100 * y / 5] for x, y in points]


CAT, DOG = (region("polygonlabels", name, points=percent(CORNERS)) for name in ("cat", "dog"))


def label_studio(tmp_path: Path, *regions: dict, image: str = "/data/upload/1/0a1b2c3d-a.jpg", **options) -> Path:
    write_image(tmp_path / "source" / "a.jpg")
    task = {"id": 1, "data": {"image": image}, "annotations": [{"id": 5, "result": list(regions)}]}
    write_json(tmp_path / "source" / "export.json", [{**task, **options.pop("task", {})}])
    return imported(tmp_path, **options)


@pytest.mark.parametrize(
    "given",
    [
        region("brushlabels", format="rle", rle=brush(SQUARE_PIXELS)),
        CAT,
        region("rectanglelabels", x=100 / 6, y=20, width=50, height=40),
        region("rectanglelabels", x=400 / 6, y=20, width=200 / 6, height=60, rotation=90),
    ],
)
def test_label_studios_regions_cover_the_same_pixels(tmp_path, given):
    assert mask_of_only_image(label_studio(tmp_path, given)) == INSIDE


def test_label_studios_ellipse_is_round(tmp_path):
    out = label_studio(tmp_path, region("ellipselabels", x=50, y=50, radiusX=50, radiusY=50))
    assert mask_of_only_image(out) == ["bccccb", "cccccc", "cccccc", "cccccc", "bccccb"]


@pytest.mark.parametrize(
    ("annotations", "row"),
    [
        ([{"result": [DOG]}], "bdddbb"),
        ([{"result": [], "was_cancelled": True}, {"result": [CAT]}], "bcccbb"),
        ([{"result": [DOG], "ground_truth": True}, {"result": []}], "bdddbb"),
    ],
)
def test_one_annotation_of_a_task_counts(tmp_path, annotations, row):
    assert mask_of_only_image(label_studio(tmp_path, task={"annotations": annotations}))[1] == row


def test_task_that_nobody_has_labelled_is_left_out(tmp_path, caplog):
    write_json(tmp_path / "source" / "more.json", [{"id": 2, "data": {"image": "b.jpg"}, "annotations": []}])
    out = label_studio(tmp_path, CAT)
    assert mask_of_only_image(out) == INSIDE
    assert "images that nobody has labelled: 1, left out: b.jpg (task 2)" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            region("brushlabels", rle=brush(SQUARE_PIXELS)[:-9]),
            r"task 1, annotation 5, region r1 .*ends too early",
        ),
        (
            region("brushlabels", rle=bits((1 << 31, 32), (7, 5), *([(3, 4)] * 4))),
            r"has 2147483648 values.*, not 120",
        ),
        (region("brushlabels", rle=[300]), r"the brush stroke is no list of bytes"),
        (region("brushlabels"), r"the brush stroke is no list of bytes"),
        (region("polygonlabels", points=[[0, 0], [1, 1]]), r"2 corners, where at least 3"),
        (region("polygonlabels", points=percent([(0, 0), (99, 0), (99, 99)])), r"lies far outside"),
        (region("polygonlabels", ["cat", "dog"], points=percent(CORNERS)), r"one class, got \['cat', 'dog'\]"),
        (region("rectanglelabels", x=0, y=0, width="x", height=1), r"width is 'x', not a number"),
        (region("keypointlabels", x=0, y=0, width=1), r"'keypointlabels' has no class or no area"),
        ({**CAT, "image_rotation": 90}, r"was turned by 90 degrees"),
        ({**CAT, "original_width": 9}, r"is made for 9 x 5 pixels"),
        ({"type": "polygonlabels"}, r"'original_width' must be there as int or float"),
    ],
)
def test_label_studios_region_that_cannot_be_meant_is_named(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        label_studio(tmp_path, given)


def test_brush_stroke_whose_run_is_too_long_is_damaged():
    rle = bits((8, 32), (7, 5), *([(3, 4)] * 4), (1, 1), (0, 2), (15, 4), (255, 8))
    with pytest.raises(InputError, match="here: the brush stroke is damaged: a run reaches beyond the end"):
        brush_pixels(rle, 1, 2, "here")


# ---------------------------------------------------------------------------------------------------- whichever format


def test_source_of_no_format_says_what_the_formats_are(tmp_path):
    write_image(tmp_path / "source" / "a.jpg")
    with pytest.raises(
        InputError, match=r"no format that is recognised \(it holds \['a\.jpg'\]\).*coco, colours, yolo"
    ):
        imported(tmp_path)


def test_source_of_two_formats_has_to_be_told(tmp_path):
    yolo(tmp_path).rename(tmp_path / "before")
    with pytest.raises(InputError, match="may be yolo or labelme; name one with --format"):
        labelme(tmp_path, shape(CORNERS))
    assert letters(names_of(imported(tmp_path, format="yolo"))["images/a"]) == WITH_OUTLINE
