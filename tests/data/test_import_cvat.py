"""CVAT's XML, imported."""

from pathlib import Path

import pytest
from exports import INSIDE, imported, letters, mask_of_only_image, names_of, write_image

from lclipseg.console.errors import InputError

POLYGON = '<polygon label="cat" points="1,1;4,1;4,3;1,3" z_order="0"/>'
LABELS = "".join(
    f"<label><name>{name}</name><color>#0a14{n}0</color></label>" for n, name in enumerate(("cat", "dog"))
)


def cvat(tmp_path: Path, shapes: str = POLYGON, image: str = 'name="a.jpg" width="6" height="5"', **options) -> Path:
    write_image(tmp_path / "source" / "images" / "a.jpg")
    head = options.pop("head", "<annotations>")
    (tmp_path / "source" / "annotations.xml").write_text(
        f'<?xml version="1.0"?>{head}<version>1.1</version><meta><job><labels>{LABELS}</labels></job></meta>'
        f'<image id="0" {image}>{shapes}</image></annotations>'
    )
    return imported(tmp_path, **options)


@pytest.mark.parametrize(
    "given",
    [
        POLYGON,
        '<mask label="cat" rle="0,6" left="1" top="1" width="3" height="2"/>',
        '<box label="cat" xtl="1" ytl="1" xbr="4" ybr="3"/>',
        '<box label="cat" xtl="1.5" ytl="0.5" xbr="3.5" ybr="3.5" rotation="90"/>',
    ],
)
def test_cvats_shapes_cover_the_same_pixels(tmp_path, given):
    assert mask_of_only_image(cvat(tmp_path, given)) == INSIDE


def test_cvats_run_lengths_go_along_the_rows(tmp_path):
    out = cvat(tmp_path, '<mask label="cat" rle="1,2,3" left="1" top="1" width="3" height="2"/>')
    assert mask_of_only_image(out)[1:3] == ["bbccbb", "bbbbbb"]


def test_cvats_ellipse_is_round(tmp_path):
    out = cvat(tmp_path, '<ellipse label="cat" cx="3" cy="2.5" rx="3" ry="2.5"/>')
    assert mask_of_only_image(out) == ["bccccb", "cccccc", "cccccc", "cccccc", "bccccb"]


@pytest.mark.parametrize(("order", "initial"), [(-1, "c"), (0, "d"), (1, "d")])
def test_cvats_z_order_says_what_lies_on_top(tmp_path, order, initial):
    dog = f'<box label="dog" xtl="0" ytl="0" xbr="6" ybr="5" z_order="{order}"/>'
    assert mask_of_only_image(cvat(tmp_path, POLYGON + dog))[1][2] == initial


def test_cvats_subsets_are_splits_and_others_are_none(tmp_path):
    out = cvat(tmp_path, image='name="a.jpg" width="6" height="5" subset="Validation"')
    assert letters(names_of(out, "val")["a"]) == INSIDE
    out.rename(tmp_path / "before")
    assert mask_of_only_image(cvat(tmp_path, image='name="a.jpg" width="6" height="5" subset="default"')) == INSIDE


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ('<points label="cat" points="1,1"/>', r"annotations\.xml, image 0 \(a\.jpg\), points 1 \('cat'\).*no area"),
        ('<polyline label="cat" points="1,1;2,2"/>', r"a polyline covers no area; --line_width"),
        ('<polygon label="cow" points="1,1;4,1;4,3"/>', r"there is no such label; there are \['cat', 'dog'\]"),
        ('<polygon label="cat" points="1,1;4,1;4"/>', r"y is '', not a number"),
        ('<polygon label="cat"/>', r"x is '', not a number"),
        ('<polygon label="cat" points="1,1;4e9,1;4,3"/>', r"lies far outside of the image"),
        ('<mask label="cat" rle="1,9" left="1" top="1" width="3" height="2"/>', r"rle has 10 pixels, its box 3 x 2"),
        ('<mask label="cat" rle="-6,12" left="1" top="1" width="3" height="2"/>', r"rle has 6 pixels"),
        ('<mask label="cat" rle="x" left="1" top="1" width="3" height="2"/>', r"rle holds what is no number"),
        ('<mask label="cat" rle="0,9" left="0" top="0" width="9e9" height="1"/>', r"its box reaches out of the image"),
        ('<box label="cat" xtl="1" ytl="1" xbr="4"/>', r"ybr is None, not a number"),
        ('<box label="cat" xtl="1" ytl="1" xbr="4" ybr="inf"/>', r"ybr is 'inf', not a number"),
        ("<polygon", r"cannot be read as XML"),
    ],
)
def test_cvats_shape_that_cannot_be_meant_is_named(tmp_path, shapes, message):
    with pytest.raises(InputError, match=message):
        cvat(tmp_path, shapes)


def test_cvats_xml_has_no_entities_to_expand(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read as XML: EntitiesForbidden"):
        cvat(tmp_path, "&a;", head='<!DOCTYPE annotations [<!ENTITY a "aaaa">]><annotations>')


def test_cvats_video_is_told_apart(tmp_path):
    write_image(tmp_path / "source" / "a.jpg")
    (tmp_path / "source" / "a.xml").write_text("<annotations><track id='0'/></annotations>")
    with pytest.raises(InputError, match=r"has tracks of a video; export 'CVAT for images 1\.1'"):
        imported(tmp_path)
