"""Data in which only some classes remain, and the lists of held-out classes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import Sample, SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.prepare import prepare
from lclipseg.data.sources.recipe import Recipe
from lclipseg.data.subset import ClassSubset, find_classes, load_held_out

HELD_OUT = sorted((Path(__file__).resolve().parents[2] / "configuration" / "held_out").glob("ccp-*.yaml"))
CLASSES = ClassList(
    names=("sky", "road", "car", "tree"),
    prompts=(("sky",), ("street",), ("car",), ("tree",)),
    ignore_index=9,
    palette=((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)),
)
MASK = np.array([[0, 1, 2], [3, 255, 2]], dtype=np.uint8)


class OneImage(SegmentationData):
    def __init__(self):
        super().__init__(CLASSES, ["a"])

    def _read(self, index: int) -> Sample:
        return Sample(Image.new("RGB", (3, 2), (7, 8, 9)), MASK.copy(), self.names[index])


@pytest.mark.parametrize(
    ("kept", "mask"), [(["road", "tree"], [[255, 0, 255], [1, 255, 255]]), (CLASSES.names, MASK.tolist())]
)
def test_other_classes_are_ignored_and_the_kept_ones_count_from_zero(kept, mask):
    assert ClassSubset(OneImage(), kept)[0].mask.tolist() == mask


def test_classes_keep_the_order_prompts_and_colours_of_the_data():
    classes = ClassSubset(OneImage(), ["tree", "ROAD"]).classes
    assert (classes.names, classes.prompts) == (("road", "tree"), (("street",), ("tree",)))
    assert classes.palette == ((1, 1, 1), (3, 3, 3))


def test_image_and_name_stay():
    sample = ClassSubset(OneImage(), ["road"])[0]
    assert (sample.name, sample.image.size, sample.image.getpixel((0, 0))) == ("a", (3, 2), (7, 8, 9))


def test_image_without_a_kept_pixel_stays():
    class Sky(OneImage):
        def _read(self, index: int) -> Sample:
            return Sample(Image.new("RGB", (2, 2)), np.zeros((2, 2), dtype=np.uint8), "a")

    subset = ClassSubset(Sky(), ["car"])
    assert (len(subset), subset[0].mask.tolist()) == (1, [[255, 255], [255, 255]])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sky", "raod"], r"\['raod'\] are no classes of the data; the nearest are \['road'\]"),
        (["zebra"], r"the classes are \['sky', 'road', 'car', 'tree'\]"),
        ([], "no class is named"),
    ],
)
def test_classes_that_are_not_there_are_named_with_the_nearest_or_all(names, message):
    with pytest.raises(InputError, match=message):
        ClassSubset(OneImage(), names)


def test_classes_are_found_whatever_their_case_and_order():
    assert find_classes([" Tree", "sky", "SKY"], CLASSES) == [0, 3]


def test_list_of_held_out_classes_is_read(tmp_path):
    (tmp_path / "list.yaml").write_text("classes: [jeans, suit]  # rare ones\n")
    assert load_held_out(tmp_path / "list.yaml") == ["jeans", "suit"]


@pytest.mark.parametrize("content", ["[jeans]", "classes: []", "classes: [1]", "classes: jeans", "classes: [", ""])
def test_other_lists_are_refused(tmp_path, content):
    (tmp_path / "list.yaml").write_text(content)
    with pytest.raises(InputError, match=r"list\.yaml"):
        load_held_out(tmp_path / "list.yaml")


def test_missing_list_is_named():
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read"):
        load_held_out("nowhere.yaml")


def test_published_lists_are_disjoint_sixes_of_the_classes_of_ccp():
    lists = [load_held_out(path) for path in HELD_OUT]
    assert [len(names) for names in lists] == [6, 6, 6]
    assert len(find_classes([name for names in lists for name in names], Recipe.load("ccp").kept)) == 18


@pytest.mark.slow
def test_published_lists_follow_their_rule(real_data, tmp_path):
    prepare("ccp", PrepareArguments(source=str(real_data / "ccp"), out=str(tmp_path / "ccp")))
    pixels, enough = np.zeros(256, dtype=np.int64), np.ones(256, dtype=bool)
    for split in ("train", "val", "test"):
        data = load_segmentation_data(tmp_path / "ccp", split)
        counts = np.stack([np.bincount(data[index].mask.ravel(), minlength=256) for index in range(len(data))])
        enough &= (counts > 0).sum(axis=0) >= 2
        if split == "train":
            pixels = counts.sum(axis=0)
    names = np.array(data.classes.names)
    eligible = np.flatnonzero(enough[: len(names)])
    ranked = names[eligible[np.argsort(-pixels[eligible])]].tolist()
    assert [load_held_out(path) for path in HELD_OUT] == [ranked[2 + fold :: 4][:6] for fold in range(3)]
    shares = [
        pixels[find_classes(load_held_out(path), data.classes)] / pixels[: len(names)].sum() for path in HELD_OUT
    ]
    assert [round(100 * share.sum(), 1) for share in shares] == [17.6, 15.0, 14.5]


def test_published_lists_are_yaml_with_one_key():
    assert all(set(yaml.safe_load(path.read_text())) == {"classes"} for path in HELD_OUT)
