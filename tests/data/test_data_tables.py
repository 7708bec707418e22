"""Parquet files, archives, image folders and data sets of the Hub, as tables and as streams."""

import json
import tarfile
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from data_folders import make_image, mask_of, write_classes, write_pairs

from lclipseg.console.errors import InputError
from lclipseg.data.open import load_segmentation_data, stream_segmentation_data


def table(count: int = 3, mask_name: str = "mask", labels: datasets.Features | None = None) -> datasets.Dataset:
    columns = {
        "image": [make_image(seed) for seed in range(count)],
        mask_name: [mask_of(seed) for seed in range(count)],
        **{name: [[0, 1]] * count for name in labels or {}},
    }
    features = datasets.Features({"image": datasets.Image(), mask_name: datasets.Image(), **(labels or {})})
    return datasets.Dataset.from_dict(columns, features=features)


def write_table(path: Path, **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table(**kwargs).to_parquet(path)
    return path


def write_image_folder(folder: Path) -> Path:
    write_pairs(folder, ["a", "b"])
    (folder / "masks").rename(folder / "truth")
    lines = [{"file_name": f"images/{stem}.png", "mask_file_name": f"truth/{stem}.png"} for stem in "ab"]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def assert_pairs(samples, count: int) -> None:
    samples = list(samples)
    assert len(samples) == count
    for seed, sample in enumerate(samples):
        assert np.array_equal(sample.image, make_image(seed))
        assert np.array_equal(sample.mask, mask_of(seed))


@pytest.mark.parametrize("load", [load_segmentation_data, stream_segmentation_data])
@pytest.mark.parametrize("mask_name", ["mask", "label", "segmentation_map", "annotation", "ground truth"])
def test_parquet_file_with_class_list_beside_it(tables, mask_name, load):
    path = write_table(write_classes(tables) / "train.parquet", mask_name=mask_name)
    data = load(path, "train", **({"mask_column": mask_name} if mask_name == "ground truth" else {}))
    assert data.classes.names == ("sky", "road", "tree")
    assert_pairs(data, 3)


def test_parquet_folder_has_splits(tables):
    write_classes(tables)
    write_table(tables / "train-00000.parquet")
    write_table(tables / "validation-00000.parquet", count=2)
    assert_pairs(load_segmentation_data(tables, "val"), 2)


def test_image_folder_with_metadata(tables):
    write_image_folder(write_classes(tables) / "train")
    assert_pairs(load_segmentation_data(tables, "train"), 2)


def test_zip_with_metadata(tables):
    source = write_image_folder(write_classes(tables) / "unpacked")
    with zipfile.ZipFile(tables / "data.zip", "w") as archive:
        for path in sorted(source.rglob("*.*")):
            archive.write(path, path.relative_to(source))
    assert_pairs(load_segmentation_data(tables / "data.zip", "train"), 2)


def test_zip_without_metadata_says_what_it_needs(tables):
    tables.mkdir()
    with zipfile.ZipFile(tables / "data.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing here")
    with pytest.raises(InputError, match=r"data\.zip is a zip file without classes\.json and metadata\.jsonl"):
        load_segmentation_data(tables / "data.zip", "train")


@pytest.mark.parametrize(
    ("name", "split"), [("data", "train"), ("val", "validation"), ("validation_0", "val"), ("test.part", "test")]
)
def test_table_file_serves_the_split_of_its_name(tables, name, split):
    assert_pairs(load_segmentation_data(write_table(write_classes(tables) / f"{name}.parquet"), split), 3)


def test_column_by_argument_comes_before_a_usual_one(tables):
    path = write_classes(tables) / "train.parquet"
    columns = {"image": [make_image(0)], "mask": [mask_of(1)], "better": [mask_of(0)]}
    features = datasets.Features(dict.fromkeys(columns, datasets.Image()))
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    assert_pairs(load_segmentation_data(path, "train", mask_column="better"), 1)


NUMBERS = datasets.Features({"label": datasets.List(datasets.Value("int64"))})


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        (
            "train",
            {"mask_name": "target"},
            r"no column 'mask' or .*it has \['image', 'target'\]. Name one with mask_col",
        ),
        (
            "train",
            {"mask_name": "seg", "labels": NUMBERS},
            r"column 'label' .*not images\. Name another with mask_column",
        ),
        ("val", {}, r"no split 'train'; it has \['val'\]"),
    ],
)
def test_table_without_what_is_asked_for_says_what_it_has(tables, name, columns, message):
    path = write_table(write_classes(tables) / f"{name}.parquet", **columns)
    with pytest.raises(InputError, match=message):
        load_segmentation_data(path, "train")


def test_table_without_class_names_is_an_error(tables):
    with pytest.raises(InputError, match=r"does not say what its mask ids mean\. Give a classes\.json"):
        load_segmentation_data(write_table(tables / "train.parquet"), "train")


def test_class_names_come_from_the_features(tables):
    labels = datasets.Features({"present": datasets.List(datasets.ClassLabel(names=["x", "y", "z"]))})
    path = write_table(tables / "train.parquet", labels=labels)
    assert load_segmentation_data(path, "train").classes.names == ("x", "y", "z")


def test_wrong_id_in_a_table_names_the_row(tables):
    write_classes(tables, ["sky", "road"])
    data = load_segmentation_data(write_table(tables / "train.parquet"), "train")
    with pytest.raises(InputError, match=r"train-000001 of .*train\.parquet, column 'mask' holds the id 2"):
        data[1]


def test_broken_image_in_a_table_names_the_row(tables):
    broken = table().cast_column("image", datasets.Image(decode=False)).to_list()
    broken[1]["image"]["bytes"] = broken[1]["image"]["bytes"][:-40]
    write_classes(tables)
    datasets.Dataset.from_list(broken).to_parquet(tables / "train.parquet")
    data = load_segmentation_data(tables / "train.parquet", "train")
    assert np.array_equal(data[0].image, make_image(0))
    with pytest.raises(InputError, match=r"train-000001 of .*train\.parquet, column 'image': (damaged|not an image)"):
        data[1]


def test_shuffled_stream_has_the_same_rows_in_another_order(tables, monkeypatch):
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    path = write_table(write_classes(tables) / "train.parquet", count=8)
    straight, shuffled = (
        [sample.mask.tobytes() for sample in stream]
        for stream in (stream_segmentation_data(path, "train"), stream_segmentation_data(path, "train").shuffled(0))
    )
    assert straight != shuffled
    assert sorted(straight) == sorted(shuffled)


def test_hub_data_set_brings_its_class_list(tables, monkeypatch):
    from lclipseg.data import tables as table_data

    asked = []

    def download(repository: str, name: str, repo_type: str) -> str:
        asked.append((repository, name, repo_type))
        return str(write_classes(tables) / "classes.json")

    (tables / "made" / "someone___scenes").mkdir(parents=True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tables / "made"))
    monkeypatch.setattr(table_data, "hf_hub_download", download)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, data_files: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split, **_: table(2 if split == "validation" else 5))
    data = load_segmentation_data("someone/scenes", "val")
    assert_pairs(data, 2)
    assert asked == [("someone/scenes", "classes.json", "dataset")]


@pytest.mark.parametrize("suffixes", [("png", "mask.png"), ("image.png", "mask.png")])
def test_tar_in_the_form_of_webdataset_is_a_table(tables, suffixes):
    write_classes(tables)
    with tarfile.open(tables / "train.tar", "w") as tar:
        for seed in range(3):
            for suffix, image in zip(suffixes, (make_image(seed), mask_of(seed)), strict=True):
                image.save(tables / "one.png")
                tar.add(tables / "one.png", f"{seed}.{suffix}")
    assert_pairs(load_segmentation_data(tables / "train.tar", "train"), 3)
    assert_pairs(stream_segmentation_data(tables / "train.tar", "train"), 3)


@pytest.mark.parametrize(("train", "val"), [("train-0000{}.tar", "val-00000.tar"), ("train/{}.tar", "valid/0.tar")])
def test_folder_of_tars_has_their_splits(tables, train, val):
    write_classes(tables)
    for number, name in enumerate([train.format(0), train.format(1), val]):
        (tables / name).parent.mkdir(exist_ok=True)
        with tarfile.open(tables / name, "w") as tar:
            for suffix, image in (("png", make_image(number)), ("mask.png", mask_of(number))):
                image.save(tables / "one.png")
                tar.add(tables / "one.png", f"{number}.{suffix}")
    (tables / "one.png").unlink()
    assert_pairs(load_segmentation_data(tables, "train"), 2)
    assert len(load_segmentation_data(tables, "val")) == 1
