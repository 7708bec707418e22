"""From a publisher's files, unpacked or packed, to a folder that training reads."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from published_trees import own_recipe, prepare, write_pair

from lclipseg.commands.prepare_data import parse
from lclipseg.console.errors import InputError
from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.prepare import prepare as prepare_data
from lclipseg.data.sources.recipe import RECIPES, Recipe

TEST_DATA = Path(os.environ.get("LCLIPSEG_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(not (TEST_DATA / "camvid").is_dir(), reason="LCLIPSEG_TEST_DATA holds no data")

CLASSES = ["null", "shirt", "hat", "shoes"]
IDS = np.array([[0, 1, 2], [3, 4, 255]], dtype=np.uint8)  # 4 is the ignored value of the recipe below
RECIPE = {
    "where": "the shop",
    "classes": CLASSES,
    "ignore_index": 4,
    "splits": {"train": {"part": "all", "last": "02"}, "test": {"part": "all", "first": "03"}},
}


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.rglob("*.png")):
            tar.add(path, path.relative_to(folder).as_posix())


@pytest.fixture
def source(tmp_path) -> Path:
    """Three pairs in the folder `all`."""
    for stem in ("01", "02", "03"):
        write_pair(tmp_path / "source/all", f"images/{stem}.png", f"labels/{stem}.png", IDS)
    return tmp_path / "source"


def prepared(tmp_path: Path, **changes) -> Path:
    return prepare(own_recipe(tmp_path, **{**RECIPE, **changes}), tmp_path)


def test_splits_follow_the_stems(tmp_path, source):
    out = prepared(tmp_path)
    assert load_segmentation_data(out, "train").names == ["01", "02"]
    assert load_segmentation_data(out, "test").names == ["03"]


def test_ignored_pixels_become_255(tmp_path, source):
    data = load_segmentation_data(prepared(tmp_path), "test")
    assert data.classes.names == tuple(CLASSES)
    assert data[0].mask.tolist() == [[0, 1, 2], [3, 255, 255]]


def test_images_are_copied_unchanged(tmp_path, source):
    out = prepared(tmp_path)
    assert (out / "test/images/03.png").read_bytes() == (source / "all/images/03.png").read_bytes()


def test_kept_classes_are_numbered_anew(tmp_path, source):
    data = load_segmentation_data(prepared(tmp_path, keep=["hat", "shirt"]), "test")
    assert data.classes.names == ("hat", "shirt")
    assert data[0].mask.tolist() == [[255, 1, 0], [255, 255, 255]]


def test_keep_file_replaces_the_list_of_the_recipe(tmp_path, source):
    (tmp_path / "keep.txt").write_text("shoes\n\n")
    args = PrepareArguments(str(source), str(tmp_path / "out"), str(tmp_path / "keep.txt"))
    out = prepare_data(own_recipe(tmp_path, **RECIPE, keep=["hat"]), args)
    assert load_segmentation_data(out, "test").classes.names == ("shoes",)


def test_archive_gives_what_its_folder_gives(tmp_path, source):
    pack(source / "all", source / "packed.tar")
    both = []
    for part in ("all", "packed"):
        args = PrepareArguments(str(source), str(tmp_path / part))
        out = prepare_data(own_recipe(tmp_path, **{**RECIPE, "splits": {"train": {"part": part}}}), args)
        both.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    assert both[0] == both[1]
    assert len(both[0]) == 7


def test_folder_beside_its_annotations(tmp_path):
    write_pair(tmp_path / "source", "train/a.png", "trainannot/a.png", IDS)
    out = prepared(tmp_path, splits={"train": {"part": "train"}})
    assert load_segmentation_data(out, "train").names == ["a"]


def test_second_run_changes_nothing(tmp_path, source):
    out = prepared(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    source.rename(tmp_path / "gone")
    prepared(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_other_content_is_never_overwritten(tmp_path, source):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        prepared(tmp_path)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_other_classes_are_never_overwritten(tmp_path, source):
    prepared(tmp_path)
    with pytest.raises(InputError, match="holds something else"):
        prepared(tmp_path, keep=["hat"])


def test_failure_leaves_nothing_behind(tmp_path, source):
    write_pair(source, "all/images/03.png", "all/labels/03.png", IDS + 10)
    with pytest.raises(InputError, match=r"labels/03\.png holds the id 9, 10, 11"):
        prepared(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.yaml", "source"]


def test_archive_cannot_write_outside(tmp_path, source):
    with tarfile.open(source / "bad.tar", "w") as tar:
        for name in ("images/a.png", "../../escaped.png"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match=r"bad\.tar cannot be unpacked"):
        prepared(tmp_path, splits={"train": {"part": "bad"}})
    assert not list(tmp_path.rglob("escaped.png"))


def test_truncated_archive_is_named(tmp_path, source):
    pack(source / "all", source / "short.tar")
    os.truncate(source / "short.tar", 600)
    with pytest.raises(InputError, match=r"short\.tar cannot be unpacked"):
        prepared(tmp_path, splits={"train": {"part": "short"}})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"part": "val"}, r"lacks val\.tar, .*it holds \['all'\]\. Get the data from the shop"),
        ({"part": "all", "first": "7"}, "no image from 7 to None for the split 'val'"),
    ],
)
def test_split_without_images_is_an_error(tmp_path, source, part, message):
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, splits={"val": part})


def test_missing_source_says_where_to_get_the_data(tmp_path):
    with pytest.raises(InputError, match=r"no such folder as .*Get the data from the shop"):
        prepared(tmp_path)


def test_unknown_recipe_lists_the_known():
    with pytest.raises(InputError, match=r"no recipe 'townscapes': give one of \[.*'camvid', .*'ccp'.*\]"):
        Recipe.load("townscapes")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_of_the_project_can_be_read(path):
    for layout in Recipe.load(path.stem).layouts:
        assert {"train", "val"} <= set(layout.splits) <= {"train", "val", "test"}


def test_command_line_is_a_recipe_and_options():
    assert parse(["camvid", "--source", "a", "--out", "b"]) == ("camvid", PrepareArguments("a", "b"))


@needs_data
def test_camvid_has_the_published_pixel_counts(tmp_path):
    out = tmp_path / "out"
    recipe = yaml.safe_load((RECIPES / "camvid.yaml").read_text())
    recipe["splits"] = {"val": {"part": "val"}}
    (tmp_path / "val.yaml").write_text(yaml.safe_dump(recipe))
    prepare_data(str(tmp_path / "val.yaml"), PrepareArguments(str(TEST_DATA / "camvid"), str(out)))
    data = load_segmentation_data(out, "val")
    counts = sum(np.bincount(data[index].mask.ravel(), minlength=256) for index in range(len(data)))
    published = json.loads((TEST_DATA / "camvid" / "classes.json").read_text())["pixel_count"]["val"]
    assert dict(zip([*data.classes.names, "unlabelled"], counts[[*range(11), 255]].tolist(), strict=True)) == published


@needs_data
def test_kept_garments_are_words_of_the_public_lists():
    lists = json.loads((TEST_DATA / "clip_text" / "clip_vitb32_text_names.json").read_text())["names"].values()
    # "legging_(clothing)" -> "legging"; "Wallet/Purse" stays one phrase
    words = {name.split("_(")[0].lower().replace("_", " ") for names in lists for name in names}
    recipe = Recipe.load("ccp")
    assert [word for prompts in recipe.kept.prompts for word in prompts if word not in words] == []
    rest = set(recipe.given.names) - set(recipe.kept.names)
    assert rest & words == set()
