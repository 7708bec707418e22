"""The check of a data set: its counts are those of a plain count, in folders, tables and archives."""

import json
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from checked_data import (
    check,
    copy_in_another_split,
    encoded,
    found,
    make_image,
    mask_of,
    problem,
    write_pairs,
    wrong_id,
)
from PIL import Image

from lclipseg.data.check.problems import MAX_EXAMPLES, MAX_WRONG_IDS, Kind, RawFile, Summary
from lclipseg.data.check.report import WrongId, wrong_id_fix
from lclipseg.data.class_list import ClassList


def test_counts_are_those_of_a_plain_count(source):
    ids = [np.random.default_rng(seed).choice([0, 1, 2, 7, 255], (6, 10)).astype(np.uint16) for seed in range(4)]
    for stem, values in zip("abcd", ids, strict=True):
        Image.fromarray(values).save(source / f"train/masks/{stem}.png")
    (source / "classes.json").write_text('{"classes": ["sky", "road", "tree"], "ignore_index": 7}')
    split = check(source).splits[0]
    labelled = sum(int((values < 3).sum()) for values in ids)
    for index, entry in enumerate(split.classes):
        assert entry.pixels == sum(int((values == index).sum()) for values in ids)
        assert entry.images == sum(bool((values == index).any()) for values in ids)
        assert entry.share == pytest.approx(entry.pixels / labelled, abs=1e-6)
    assert split.ignored_share == pytest.approx(1 - labelled / 240, abs=1e-6)


def test_sizes_are_those_of_the_upright_images(source):
    for stem, size in (("b", (20, 5)), ("c", (30, 5)), ("d", (40, 7))):
        make_image(7, size).save(source / f"train/images/{stem}.png")
    split = check(source).splits[0]
    assert (split.width.smallest, split.width.median, split.width.largest) == (10, 20, 40)
    assert (split.height.smallest, split.height.median, split.height.largest) == (5, 5, 7)
    assert split.image_modes == {"RGB": 4}
    assert split.mask_modes == {"L": 4}


def test_counts_of_wrong_ids_are_exact_and_examples_few(tmp_path):
    write_pairs(tmp_path / "train", [f"{index:03d}" for index in range(MAX_EXAMPLES + 5)])
    for path in (tmp_path / "train/masks").iterdir():
        Image.fromarray(np.array([[0, 1, 2, 9, 9, 200]] * 6, dtype=np.uint8)).save(path)
    (tmp_path / "classes.json").write_text('["sky", "road", "tree"]')
    report = check(tmp_path)
    wrong = problem(report, Kind.WRONG_ID)
    assert (wrong.count, len(wrong.examples)) == (MAX_EXAMPLES + 5, MAX_EXAMPLES)
    assert report.wrong_ids == [WrongId(9, 12 * 25, 25), WrongId(200, 6 * 25, 25)]


def test_a_depth_map_in_place_of_a_mask_does_not_fill_the_memory():
    classes = ClassList.parse(["sky", "road"], "x")
    image = RawFile("a", encoded(make_image(0, (100, 100))))
    summaries = []
    for start in (0, 5000):
        depth = Image.fromarray(np.arange(start, start + 10_000, dtype=np.uint16).reshape(100, 100))
        summaries.append(Summary("train"))
        summaries[-1].check(image, RawFile("m", encoded(depth)), classes, quick=False)
    summaries[1].merge(summaries[0])
    assert sorted(summaries[1].wrong_pixels) == [id for id in range(2, MAX_WRONG_IDS + 3) if id != 255]


@pytest.mark.parametrize(
    ("content", "wrong", "zero_occurs", "fix"),
    [
        (["a", "b", "c"], [3], False, '"do_reduce_labels": true'),
        (["a", "b", "c"], [3], True, '"ignore_index": 3'),
        (["a", "b", "c"], [99], True, '"ignore_index": 99'),
        ({"classes": ["a", "b", "c"], "do_reduce_labels": True}, [7], False, '"ignore_index": 7'),
        ({"classes": ["a", "b", "c"], "ignore_index": 99}, [3], True, "name what 3 mean"),
        (["a", "b", "c"], [3, 4, 5], True, "name what 3 to 5 mean"),
        (["a", "b", "c"], [29, 76, 150], True, "grey levels or colours"),
    ],
)
def test_fix_for_wrong_ids_is_guessed_from_them(content, wrong, zero_occurs, fix):
    guess = wrong_id_fix(ClassList.parse(content, "x"), [WrongId(value, 1, 1) for value in wrong], zero_occurs)
    assert fix in guess


@pytest.mark.parametrize(
    ("ids", "setting"), [((1, 2, 3), {"do_reduce_labels": True}), ((0, 1, 9), {"ignore_index": 9})]
)
def test_fix_for_wrong_ids_does_fix_them(source, ids, setting):
    for path in source.rglob("masks/*.png"):
        Image.fromarray(np.array([ids] * 6, dtype=np.uint8).repeat(4, axis=1)[:, :10]).save(path)
    fix = problem(check(source), Kind.WRONG_ID).fix
    (key,) = setting
    assert f'"{key}": {json.dumps(setting[key])}' in fix
    (source / "classes.json").write_text(json.dumps({"classes": ["sky", "road", "tree"], **setting}))
    assert check(source).errors == 0


def test_groups_of_equal_images_are_counted_once_each(source):
    for path in ("train/images/b.png", "train/images/c.png", "val/images/a.png"):
        (source / path).write_bytes((source / "train/images/a.png").read_bytes())
    assert found(check(source)) == {"duplicate": 2, "shared_image": 1}


def test_unreadable_images_are_not_equal(source):
    for stem in "abc":
        (source / f"train/images/{stem}.png").write_bytes(b"")
    assert found(check(source)) == {"bad_image": 3}


def test_quick_leaves_out_the_pixels_of_images_alone(source):
    copy_in_another_split(source)
    wrong_id(source)
    (source / "train/images/c.png").write_bytes(encoded(make_image(2))[:-30])  # damaged
    mask_of(3, size=(12, 6)).save(source / "train/masks/d.png")
    assert found(check(source, "--quick")) == {"wrong_id": 1, "size_mismatch": 1}
    assert found(check(source)) == {"wrong_id": 1, "shared_image": 1, "bad_image": 1, "size_mismatch": 1}


@pytest.fixture
def table(tables):
    """Write a parquet file of encoded images and masks."""
    tables.mkdir()
    (tables / "classes.json").write_text('["sky", "road", "tree"]')

    def write(name: str, pairs: list[tuple[bytes | None, bytes | None]]) -> Path:
        rows = [
            {"image": {"bytes": image, "path": None}, "mask": {"bytes": mask, "path": None}} for image, mask in pairs
        ]
        datasets.Dataset.from_list(rows).to_parquet(tables / name)
        return tables / name

    return write


def good(seed: int) -> tuple[bytes, bytes]:
    return encoded(make_image(seed)), encoded(mask_of(seed))


def test_tables_are_checked_row_by_row(table):
    rows = [good(0), (good(1)[0][:-40], good(1)[1]), (good(2)[0], encoded(make_image(2))), good(3), good(0)]
    rows.append((good(5)[0], encoded(mask_of(5, 9))))
    rows.append((good(6)[0], None))
    report = check(table("train-0.parquet", rows))
    assert [split.name for split in report.splits] == ["train"]
    kinds = ["bad_image", "bad_mask", "no_label_map", "wrong_id", "duplicate"]
    assert found(report) == dict.fromkeys(kinds, 1)
    assert problem(report, Kind.BAD_IMAGE).examples[0].name == "row 1, column 'image'"


def test_all_splits_of_a_folder_of_tables_are_checked(table):
    path = table("train-00000.parquet", [good(0), good(1)])
    table("validation-00000.parquet", [good(2), good(0)])
    report = check(path.parent, "--workers", "2")
    assert {split.name: split.pairs for split in report.splits} == {"train": 2, "validation": 2}
    assert found(report) == {"shared_image": 1}


def test_table_of_another_split_is_checked_as_that(table):
    assert [split.name for split in check(table("val.parquet", [good(0)])).splits] == ["val"]


def test_tables_and_folders_have_the_same_statistics(table, source):
    pairs = [
        ((source / f"train/images/{stem}.png").read_bytes(), (source / f"train/masks/{stem}.png").read_bytes())
        for stem in "abcd"
    ]
    assert check(table("train.parquet", pairs)).splits[0] == check(source).splits[0]


def test_zip_is_read_as_training_reads_it(tmp_path, tables):
    write_pairs(tmp_path / "unpacked", ["a", "b"])
    lines = [{"file_name": f"images/{stem}.png", "mask_file_name": f"masks/{stem}.png"} for stem in "ab"]
    (tmp_path / "unpacked" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "classes.json").write_text('["sky", "road", "tree"]')
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for path in sorted((tmp_path / "unpacked").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "unpacked"))
    report = check(tmp_path / "train.zip")
    assert [split.pairs for split in report.splits] == [2]
    assert not any(problem.severity == "error" for problem in report.problems)
