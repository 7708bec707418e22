"""Masks from COCO's JSON files: instances and panoptic segments."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_trees import PAIRS, named, only_mask, own_recipe, prepare, stem_in, write_image, write_pair

from lclipseg.console.errors import InputError
from lclipseg.data.sources.coco import covered_pixels, run_lengths


def write_coco(
    path: Path, file_names: list[str], size: tuple[int, int], annotations: list[dict], categories: list[str]
) -> None:
    """All images have the same annotations."""
    content = {
        "images": [{"id": 7, "file_name": name, "height": size[0], "width": size[1]} for name in file_names],
        "categories": [{"id": 10 * index, "name": name} for index, name in enumerate(categories)],
        "annotations": [{"image_id": 7, **each} for each in annotations],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """A polygon that covers the pixels from left to right and top to bottom, both ends included."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def instances(tmp_path: Path, annotations: list[dict], **keys) -> Path:
    write_image(tmp_path / "source/photos/a.png", 2, 4)
    write_coco(tmp_path / "source/all.json", ["photos/a.png"], (2, 4), annotations, ["wall", "door", "unknown"])
    part = {"images": "photos/*.png", "instances": "all.json"}
    return prepare(own_recipe(tmp_path, splits={"train": part}, **keys), tmp_path)


WALL = {"category_id": 0, "segmentation": box(0, 0, 2, 1), "area": 6}
DOOR = {"category_id": 10, "segmentation": box(1, 1, 1, 1), "area": 1}
CROWD = {"category_id": 10, "segmentation": {"counts": [0, 2, 6], "size": [2, 4]}, "area": 2, "iscrowd": 1}
OTHER = {"category_id": 20, "segmentation": box(0, 0, 0, 1), "area": 2}


@pytest.mark.parametrize(
    ("annotations", "keys", "mask"),
    [
        ([WALL, DOOR], {}, [[0, 0, 0, 255], [0, 1, 0, 255]]),  # the smaller instance on top
        ([DOOR, WALL], {}, [[0, 0, 0, 255], [0, 1, 0, 255]]),
        ([WALL], {"none_of_these": "rest"}, [[0, 0, 0, 2], [0, 0, 0, 2]]),
        ([WALL, CROWD], {}, [[255, 0, 0, 255], [255, 0, 0, 255]]),
        ([WALL, OTHER], {}, [[255, 0, 0, 255], [255, 0, 0, 255]]),
    ],
)
def test_pixels_have_the_class_of_their_smallest_instance_or_none(tmp_path, annotations, keys, mask):
    assert only_mask(instances(tmp_path, annotations, **keys), "train") == mask


def test_underscores_in_categories_are_spaces(tmp_path):
    part = {"category_id": 0, "segmentation": box(0, 0, 3, 1), "area": 8}
    for folder, stems in (("trainingset", (stem_in(0.1, 1), stem_in(0, 0.1))), ("testset", ("t",))):
        names = [f"{stem}.jpg" for stem in stems]
        for name in names:
            write_image(tmp_path / "source" / folder / "JPEGImages" / name, 2, 4)
        write_coco(tmp_path / "source" / folder / "annotations.json", names, (2, 4), [part], ["back_left_door"])
    assert named(prepare("car_parts", tmp_path), "test") == [["back left door"] * 4] * 2


def test_image_that_the_file_lacks_is_named(tmp_path):
    write_image(tmp_path / "source/photos/b.png", 2, 4)
    with pytest.raises(InputError, match=r"all\.json has no image b\.png"):
        instances(tmp_path, [WALL])


def test_file_of_another_form_is_named(tmp_path):
    write_image(tmp_path / "source/photos/a.png", 2, 4)
    (tmp_path / "source/all.json").write_text("[]")
    part = {"images": "photos/*.png", "instances": "all.json"}
    with pytest.raises(InputError, match=r"all\.json needs the keys images, categories and annotations"):
        prepare(own_recipe(tmp_path, splits={"train": part}), tmp_path)


def test_panoptic_colours_are_numbers_of_segments(tmp_path):
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]], dtype=np.uint8)  # 1, 256, 65536, no segment
    write_pair(tmp_path / "source", "photos/a.png", "labels/a.png", colours)
    segments = [
        {"id": 1, "category_id": 10},
        {"id": 256, "category_id": 0},
        {"id": 65536, "category_id": 0, "iscrowd": 1},
    ]
    write_coco(tmp_path / "source/all.json", ["a.jpg"], (1, 4), [{"segments_info": segments}], ["wall", "door"])
    recipe = own_recipe(tmp_path, splits={"train": {**PAIRS, "segments": "all.json"}})
    assert only_mask(prepare(recipe, tmp_path), "train") == [[1, 0, 255, 255]]


def written_run_lengths(runs: list[int]) -> str:
    """COCO's text of run lengths, as its C library writes it."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr((digit | 32 if more else digit) + 48)
    return text


@given(st.lists(st.integers(0, 100_000), max_size=12))
def test_text_of_run_lengths_is_read_back(runs):
    assert run_lengths(written_run_lengths(runs)) == runs


def test_run_lengths_go_down_the_columns():
    covered = covered_pixels({"counts": written_run_lengths([1, 2, 3])}, 2, 3, "here")
    assert covered.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize("segmentation", [{"counts": [1, 2]}, {"counts": [-1, 7]}, {}, 3])
def test_run_lengths_of_another_size_are_an_error(segmentation):
    with pytest.raises(InputError, match="here: a segmentation is neither polygons nor run lengths of 2 x 3 pixels"):
        covered_pixels(segmentation, 2, 3, "here")
