"""Zip files, published trees and names that try to lead out; and exports given where imported data belong."""

import json
import logging
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from exports import INSIDE, SQUARE, imported, letters, mask_of_only_image, names_of, write_image, write_json
from published_trees import write_pair

from lclipseg.commands.import_ import parse
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.arguments import CheckArguments
from lclipseg.data.check.check import check_data
from lclipseg.data.check.mix import check_sources
from lclipseg.data.open import load_segmentation_data

COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 6, "height": 5}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "segmentation": [SQUARE]}],
}


@pytest.fixture
def export(tmp_path) -> Path:
    write_image(tmp_path / "source" / "images" / "a.png")
    write_json(tmp_path / "source" / "annotations" / "instances_default.json", COCO)
    return tmp_path / "source"


def zipped(folder: Path, archive: Path) -> zipfile.ZipFile:
    packed = zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED)
    for path in sorted(folder.rglob("*.*")):
        packed.write(path, path.relative_to(folder))
    return packed


def test_zip_file_is_read_as_the_folder_in_it(tmp_path, export):
    zipped(export, tmp_path / "export.zip").close()
    assert mask_of_only_image(imported(tmp_path, "export.zip")) == INSIDE
    assert sorted(os.listdir(tmp_path)) == ["export.zip", "out", "source"]


def test_zip_file_writes_nothing_outside(tmp_path, export):
    with zipped(export, tmp_path / "export.zip") as packed:
        packed.writestr("../../outside.txt", "x")
        packed.writestr(f"{tmp_path}/absolute.txt", "x")
    imported(tmp_path, "export.zip")
    assert not list(tmp_path.parent.glob("**/outside.txt")) and not (tmp_path / "absolute.txt").exists()


def test_zip_file_that_grows_absurdly_is_refused(tmp_path, export):
    with zipped(export, tmp_path / "export.zip") as packed:
        packed.writestr("zeros.bin", bytes(30_000_000))
    with pytest.raises(InputError, match=r"export\.zip would become 30,\d+,\d+ bytes"):
        imported(tmp_path, "export.zip")
    assert sorted(os.listdir(tmp_path)) == ["export.zip", "source"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip"])
def test_file_that_is_no_zip_is_named(tmp_path, content):
    (tmp_path / "export.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"export\.zip cannot be unpacked"):
        imported(tmp_path, "export.zip")


def test_link_to_a_folder_outside_is_not_followed(tmp_path, export):
    write_image(tmp_path / "elsewhere" / "b.png")
    (export / "link").symlink_to(tmp_path / "elsewhere")
    content = {**COCO, "images": [{**COCO["images"][0], "file_name": "link/b.png"}]}
    write_json(export / "annotations" / "instances_default.json", content)
    with pytest.raises(InputError, match=r"there is no image 'link/b\.png'"):
        imported(tmp_path)


@pytest.mark.parametrize(
    ("place", "given"), [(".", "source"), ("cityscapes/data", "source"), ("cityscapes", "source.zip")]
)
def test_published_tree_is_read_by_its_recipe_also_from_its_archive_or_a_folder_above(tmp_path, place, given):
    for city, split in (("aachen", "train"), ("zurich", "train"), ("lindau", "val")):
        write_pair(
            tmp_path / "source" / place,
            f"leftImg8bit/{split}/{city}/{city}_0_leftImg8bit.png",
            f"gtFine/{split}/{city}/{city}_0_gtFine_labelIds.png",
            [[7, 26], [0, 23]],
        )
    if given == "source.zip":
        shutil.make_archive(str(tmp_path / "source"), "zip", tmp_path / "source")
    out = imported(tmp_path, given)
    assert json.loads((out / "classes.json").read_text())["classes"][:2] == ["road", "sidewalk"]
    (rows,) = names_of(out, "test").values()
    assert letters(rows) == ["rc", "-s"]


def test_whole_of_ade20k_has_its_names_in_json_files(tmp_path):
    names = {1 * 256 + 5: "wall", 40: "person, individual"}
    colours = [[(10, 5, 1), (0, 40, 1)], [(0, 0, 0), (19, 5, 7)]]  # the last digit of red means nothing
    for split in ("training", "validation"):
        folder = tmp_path / "source/images/ADE" / split / "urban/street"
        write_pair(folder, "a.jpg", "a_seg.png", colours)
        objects = [{"name_ndx": number, "name": name} for number, name in names.items()]
        write_json(folder / "a.json", {"annotation": {"object": objects}})
    (tmp_path / "keep.txt").write_text("person, individual\n")
    assert letters(names_of(imported(tmp_path), "val")["a"]) == ["wp", "-w"]
    (tmp_path / "out").rename(tmp_path / "before")
    assert letters(names_of(imported(tmp_path, keep=str(tmp_path / "keep.txt")), "train")["a"]) == ["-p", "--"]


# -------------------------------------------------------------------------------------------- given to other commands


@pytest.fixture
def two_images(export, tmp_path, monkeypatch) -> Path:
    """An export that can be trained on; what is made of it lies beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_image(export / "images" / "b.png")
    both = {**COCO, "images": [*COCO["images"], {**COCO["images"][0], "id": 8, "file_name": "b.png"}]}
    write_json(export / "annotations" / "instances_default.json", both)
    return export


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_export_given_as_data_is_imported_once_as_by_import(tmp_path, two_images, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    data = load_segmentation_data(two_images, "train")
    assert re.search("is COCO's JSON: imported, as by `lclipseg import .* --out my_folder`", caplog.text)
    (made,) = (tmp_path / "cache/lclipseg/imports").iterdir()
    assert files_in(made) == files_in(imported(tmp_path))
    assert data[0].image.size == (6, 5)
    caplog.clear()
    report = check_data(str(two_images), CheckArguments(quick=True))
    assert report.class_names == ["cat", "background"]
    kept = sum(path.lstat().st_size for path in made.rglob("*"))
    assert f"was imported before: {made} ({kept / 1e6:.1f} MB; all of {made.parent} is " in caplog.text


def test_changed_export_is_imported_anew(two_images):
    assert load_segmentation_data(two_images, "train").classes.names == ("cat", "background")
    path = two_images / "annotations" / "instances_default.json"
    path.write_text(path.read_text().replace('"cat"', '"lion"'))
    assert load_segmentation_data(two_images, "train").classes.names == ("lion", "background")


@pytest.mark.parametrize(
    ("name", "option"),
    [("", "--boxes fill takes"), ("annotations/instances_default.json", "their folder as --images")],
)
def test_export_that_needs_a_decision_names_the_command_that_takes_it(tmp_path, two_images, name, option):
    path = two_images / "annotations" / "instances_default.json"
    path.write_text(path.read_text().replace(json.dumps([SQUARE]), "[]"))
    with pytest.raises(InputError, match=f"{option}.*`lclipseg import .* --out my_folder` makes data of it"):
        load_segmentation_data(two_images / name, "train")
    assert not list((tmp_path / "cache/lclipseg/imports").iterdir())


@pytest.mark.parametrize("inner", ["", "my_folder/"])
def test_zip_file_of_an_export_or_of_a_folder_is_read_like_it(tmp_path, two_images, inner):
    zipped(two_images, tmp_path / "export.zip").close()
    names = load_segmentation_data(tmp_path / "export.zip", "train").names
    with zipfile.ZipFile(tmp_path / "folder.zip", "w") as packed:
        for name, content in files_in(imported(tmp_path)).items():
            packed.writestr(f"{inner}{name}", content)
    assert load_segmentation_data(tmp_path / "folder.zip", "train").names == names


def test_a_list_of_classes_of_yolos_is_no_recipe(two_images):
    (two_images / "labels").mkdir()
    (two_images / "labels" / "a.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.7\n")
    (two_images / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    assert check_sources([str(two_images / "data.yaml")], CheckArguments(split=["train"], quick=True)) == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--format", "voc"], "--format is 'voc'; give one of coco, colours"),
        (["--line_width", "0"], "--line_width is 0"),
    ],
)
def test_wrong_options_are_told(argv, said):
    with pytest.raises(InputError, match=said):
        parse(["source", "--out", "out", *argv])


def test_library_that_is_missing_is_named_with_its_extra(export, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(SystemExit):
        run_command(lambda: imported(tmp_path))
    assert 'needs the library pycocotools, which is not installed: pip install "lclipseg[import]"' in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_names_of_files_do_not_steer_the_terminal(export, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    name = "\x1b[2J.png"
    write_image(export / "images" / name)
    content = {**COCO, "images": [*COCO["images"], {**COCO["images"][0], "id": 8, "file_name": name}]}
    outside = {**COCO["annotations"][0], "image_id": 8, "segmentation": [[-5, 1, 4, 1, 4, 3]]}
    write_json(export / "annotations" / "instances_default.json", {**content, "annotations": [outside]})
    imported(tmp_path)
    assert "\\x1b[2J.png" in caplog.text and "\x1b" not in caplog.text
