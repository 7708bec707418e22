"""Masks of colours and numbers, imported: CVAT's and VOC's folders, Roboflow's, a palette of one's own."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from exports import imported, letters, mask_of_only_image, names_of, write_image, write_json
from PIL import Image

from lclipseg.console.errors import InputError

LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:10,20,30::\ndog:200,0,0:head,tail:run\n"
PIXELS = [[(0, 0, 0), (10, 20, 30)], [(200, 0, 0), (224, 224, 192)]]


def write_mask(path: Path, pixels: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    return path


def write_voc(root: Path, labelmap: str | None = LABELMAP, stems: str = "a", pixels: object = PIXELS) -> None:
    for stem in stems:
        write_image(root / "JPEGImages" / f"{stem}.jpg", (2, 2))
        write_mask(root / "SegmentationClass" / f"{stem}.png", pixels)
    if labelmap is not None:
        (root / "labelmap.txt").write_text(labelmap)


@pytest.mark.parametrize("has_palette", [False, True])
def test_colours_of_cvats_table_are_exact_classes_and_vocs_border_is_not_labelled(tmp_path, has_palette):
    write_voc(tmp_path / "source")
    if has_palette:
        mask = Image.fromarray(np.array([[7, 3], [1, 0]], dtype=np.uint8), mode="P")
        mask.putpalette([*PIXELS[1][1], *PIXELS[1][0], 0, 0, 0, *PIXELS[0][1], *(3 * [9]) * 3, *PIXELS[0][0]])
        mask.save(tmp_path / "source" / "SegmentationClass" / "a.png")
    out = imported(tmp_path)
    assert mask_of_only_image(out) == ["bc", "d-"]
    assert json.loads((out / "classes.json").read_text()) == {
        "classes": ["background", "cat", "dog"],
        "palette": [[0, 0, 0], [10, 20, 30], [200, 0, 0]],
        "none_of_these": "background",
    }


def test_unknown_colours_are_not_labelled_and_counted_by_name(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    write_voc(tmp_path / "source", pixels=[[(10, 20, 31), (10, 20, 31)], [(10, 20, 30), (1, 2, 3)]])
    assert mask_of_only_image(imported(tmp_path)) == ["--", "c-"]
    assert "of no class: 2, not labelled: (10, 20, 31) in 2 pixels, (1, 2, 3) in 1 pixels" in caplog.text


def test_void_is_no_class(tmp_path):
    write_voc(tmp_path / "source", LABELMAP.replace("dog", "void"))
    out = imported(tmp_path)
    assert mask_of_only_image(out) == ["bc", "--"]
    assert json.loads((out / "classes.json").read_text())["classes"] == ["background", "cat"]


def test_vocs_lists_are_the_splits_and_what_none_lists_is_left_out(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    write_voc(tmp_path / "source", stems="abc")
    lists = tmp_path / "source" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, stems in (("train", "a"), ("val", "b"), ("trainval", "a\nb")):
        (lists / f"{split}.txt").write_text(stems + "\n")
    out = imported(tmp_path)
    assert [list(names_of(out, split)) for split in ("train", "val")] == [["a"], ["b"]]
    assert "left out: c (in no list" in caplog.text


def test_masks_of_voc_itself_need_no_table_and_others_beside_them_are_named(tmp_path, caplog):
    write_voc(tmp_path / "source", labelmap=None)
    mask = Image.fromarray(np.array([[0, 1], [8, 255]], dtype=np.uint8), mode="L")
    mask.putpalette(list(range(256)) * 3)
    mask.save(tmp_path / "source" / "SegmentationClass" / "a.png")
    (tmp_path / "source" / "33_context_labels").mkdir()
    caplog.set_level(logging.INFO, logger="lclipseg")
    out = imported(tmp_path)
    assert names_of(out)["a"] == [["background", "aeroplane"], ["cat", "-"]]
    assert "beside SegmentationClass there are 33_context_labels: not read" in caplog.text


def test_roboflows_numbers_are_those_of_its_table(tmp_path):
    for split in ("train", "valid"):
        folder = tmp_path / "source" / split
        write_image(folder / "a.jpg", (2, 2))
        write_mask(folder / "a_mask.png", [[0, 2], [1, 9]])
        (folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    out = imported(tmp_path)
    assert letters(names_of(out, "val")["a"]) == letters(names_of(out, "train")["a"]) == ["bd", "c-"]


def test_palette_of_a_class_list_turns_colours_into_ids(tmp_path):
    write_json(
        tmp_path / "source" / "classes.json", {"classes": ["cat", "dog"], "palette": [[10, 20, 30], [200, 0, 0]]}
    )
    write_image(tmp_path / "source" / "images" / "a.jpg", (2, 2))
    write_mask(tmp_path / "source" / "masks" / "a.png", PIXELS)
    assert mask_of_only_image(imported(tmp_path)) == ["-c", "d-"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [("images/{}/a.jpg", "masks/{}/a.png"), ("{}/a.jpg", "{}/a_mask.png"), ("imgs/{}.jpg", "labels/{}.png")],
)
def test_masks_in_the_colours_of_a_palette_are_paired_as_those_of_indices(tmp_path, image, mask):
    palette = {"classes": ["cat", "dog"], "palette": [[10, 20, 30], [200, 0, 0]]}
    write_json(tmp_path / "source" / "classes.json", palette)
    for split in ("train", "val"):
        write_image(tmp_path / "source" / image.format(split), (2, 2))
        write_mask(tmp_path / "source" / mask.format(split), PIXELS)
        if "imgs" in image:
            (tmp_path / "source" / f"{split}.txt").write_text(f"{split}\n")
    out = imported(tmp_path)
    for split in ("train", "val"):
        (rows,) = names_of(out, split).values()
        assert letters(rows) == ["-c", "d-"]


@pytest.mark.parametrize(("keep", "rows"), [("cat\ndog\n", ["-c", "d-"]), ("background\ndog\n", ["b-", "d-"])])
def test_background_is_a_class_that_can_be_left_out(tmp_path, keep, rows):
    write_voc(tmp_path / "source")
    (tmp_path / "keep.txt").write_text(keep)
    assert mask_of_only_image(imported(tmp_path, keep=str(tmp_path / "keep.txt"))) == rows


def test_mask_of_an_image_on_its_side_is_upright(tmp_path):
    write_voc(tmp_path / "source", pixels=[PIXELS[0], PIXELS[1], PIXELS[1]])  # 2 wide, 3 high
    write_image(tmp_path / "source" / "JPEGImages" / "a.jpg", (3, 2), orientation=6)
    assert mask_of_only_image(imported(tmp_path)) == ["bc", "d-", "d-"]


@pytest.mark.parametrize(
    ("labelmap", "said"),
    [
        ("cat:1,2::\n", r"labelmap\.txt, line 1: 'cat:1,2::' is not name:r,g,b::"),
        ("cat:1,2,300::\n", r"line 1: .* is not name:r,g,b::"),
        (":1,2,3::\n", r"line 1: .* is not name:r,g,b::"),
        ("cat:1,2,3::\ndog:1,2,3::\n", r"line 2: 'cat' has the colour \(1, 2, 3\) already"),
        ("", r"there are none"),
        ("cat:1,1,1::\n", r"no image has a pixel of any class"),
        (None, r"holds coloured masks; write what the colours mean to .*labelmap\.txt"),
    ],
)
def test_table_that_cannot_be_meant_is_named(tmp_path, labelmap, said):
    write_voc(tmp_path / "source", labelmap)
    with pytest.raises(InputError, match=said):
        imported(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("Pixel Value, Class\n0, cat\n0, dog\n", r"_classes\.csv, line 3: 0 is 'cat' already"),
        ("Pixel Value, Class\nx, cat\n", r"line 2: 'x, cat' is no number and name"),
        ("Pixel Value, Class\n", r"names no class"),
    ],
)
def test_roboflow_table_that_cannot_be_meant_is_named(tmp_path, rows, said):
    write_image(tmp_path / "source" / "a.jpg", (2, 2))
    write_mask(tmp_path / "source" / "a_mask.png", [[0, 2], [1, 9]])
    (tmp_path / "source" / "_classes.csv").write_text(rows)
    with pytest.raises(InputError, match=said):
        imported(tmp_path)


def test_mask_of_another_size_is_named_with_its_image(tmp_path):
    write_voc(tmp_path / "source", pixels=PIXELS[:1])
    with pytest.raises(InputError, match=r"a\.png is 2 x 1 pixels \(width x height\), its image .*a\.jpg 2 x 2"):
        imported(tmp_path)


def test_mask_without_an_image_is_named(tmp_path):
    write_voc(tmp_path / "source", stems="ab")
    (tmp_path / "source" / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"1 masks have no image of the same name, for example .*b\.png"):
        imported(tmp_path)


def test_list_that_names_no_mask_is_named(tmp_path):
    write_voc(tmp_path / "source")
    (tmp_path / "source" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "source" / "ImageSets" / "Segmentation" / "train.txt").write_text("../../a\n")
    with pytest.raises(InputError, match=r"train\.txt lists '\.\./\.\./a', which has no mask"):
        imported(tmp_path)
