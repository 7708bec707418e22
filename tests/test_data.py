import json
import sys
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

import scripts.toolkit
from scripts.toolkit.class_list import ClassList
from scripts.toolkit.cli import InputError
from scripts.toolkit.data import class_ids, load_segmentation_data, stream_segmentation_data

SIZE = (10, 6)  # width, height


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def mask_of(seed: int, high: int = 3, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, high, (size[1], size[0]), dtype=np.uint8))


def write_pairs(folder: Path, stems: list[str], masks: str = "masks") -> None:
    for seed, stem in enumerate(stems):
        for path, image in ((folder / "images", picture(seed)), (folder / masks, mask_of(seed))):
            path = path / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def write_classes(folder: Path, content: object = ("sky", "road", "tree")) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.json").write_text(json.dumps(content))
    return folder


def folder_with(tmp_path: Path, mask: Image.Image, image: Image.Image | None = None, classes: object = None) -> Path:
    """A folder with one pair in the split "train"."""
    write_classes(tmp_path, classes or ["sky", "road", "tree"])
    write_pairs(tmp_path / "train", ["a"])
    mask.save(tmp_path / "train" / "masks" / "a.png")
    if image is not None:
        image.save(tmp_path / "train" / "images" / "a.png")
    return tmp_path


# Class lists


@pytest.mark.parametrize(
    "content", [["sky", "road"], {"1": "road", "0": "sky"}, {"classes": [" sky", "road"], "anything else": 1}]
)
def test_class_list_reads_every_form(tmp_path, content):
    classes = ClassList.load(write_classes(tmp_path, content) / "classes.json")
    assert classes.id2label == {0: "sky", 1: "road"}
    assert classes.prompts == ("sky", "road")


def test_class_list_reads_prompts_by_class(tmp_path):
    classes = ClassList.parse({"classes": ["sign symbol", "road"], "prompts": {"sign symbol": "traffic sign"}}, "x")
    assert classes.prompts == ("traffic sign", "road")


def test_class_list_survives_saving(tmp_path):
    content = {"classes": ["a", "b"], "ignore_index": 9, "palette": [[0, 1, 2], [3, 4, 255]], "prompts": {"b": "bee"}}
    classes = ClassList.parse({**content, "do_reduce_labels": True}, "x")
    classes.save(tmp_path / "classes.json")
    assert ClassList.load(tmp_path / "classes.json") == classes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "empty"),
        (["sky", "Sky"], "Sky"),
        (["sky", " "], "name 2 of 2"),
        ({}, "must be"),
        ("sky", "must be"),
        ({"0": "sky", "2": "road"}, "without gaps"),
        ({"classes": ["a"], "palette": [[0, 0, 0], [1, 1, 1]]}, "each of the 1 classes, got 2"),
        ({"classes": ["a"], "palette": [[0, 0, 256]]}, "0 to 255"),
        ({"classes": ["a"], "prompts": {"b": "bee"}}, r"\['b'\]"),
        ({"classes": ["a", "b"], "prompts": {"b": "a"}}, "prompts"),
        ({"classes": ["a"], "ignore_index": "1"}, "whole number"),
        ({"classes": ["a", "b"], "ignore_index": 1}, "class 'b'"),
        ({"classes": ["a"], "do_reduce_labels": 1}, "true or false"),
        ([f"class {index}" for index in range(256)], "at most 255"),
    ],
)
def test_class_list_rejects(tmp_path, content, message):
    path = write_classes(tmp_path, content) / "classes.json"
    with pytest.raises(InputError, match=message) as error:
        ClassList.load(path)
    assert str(path) in str(error.value)


def test_class_list_rejects_broken_json(tmp_path):
    (tmp_path / "classes.json").write_text('["sky",')
    with pytest.raises(InputError, match=r"classes\.json is not valid JSON"):
        ClassList.load(tmp_path / "classes.json")


def test_subset_numbers_classes_anew():
    classes = ClassList.parse({"classes": ["a", "b", "c"], "prompts": {"c": "sea"}, "palette": [[0] * 3] * 3}, "x")
    kept = classes.subset(["c", "a"], "x")
    assert (kept.names, kept.prompts, len(kept.palette)) == (("c", "a"), ("sea", "a"), 2)


# Mask ids


@pytest.mark.parametrize("content", [{"ignore_index": 300}, {"do_reduce_labels": True}, {"ignore_index": 7}])
def test_class_ids_agree_with_a_table_of_the_rule(content):
    classes = ClassList.parse({"classes": ["a", "b", "c"], **content}, "x")
    if classes.do_reduce_labels:
        expected = {0: 255, 1: 0, 2: 1, 3: 2, 255: 255}
    else:
        expected = {0: 0, 1: 1, 2: 2, 255: 255, content["ignore_index"]: 255}
    values = np.random.default_rng(0).choice(list(expected), size=(9, 7)).astype(np.uint16)
    ids = class_ids(values, classes, "mask")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[expected[value] for value in row] for row in values.tolist()]


def test_class_ids_at_255_classes_keep_the_last_class_apart_from_ignored():
    classes = ClassList.parse([f"class {index}" for index in range(255)], "x")
    assert class_ids(np.array([[254, 255]]), classes, "mask").tolist() == [[254, 255]]


@pytest.mark.parametrize(("mode", "dtype"), [("L", np.uint8), ("P", np.uint8), ("I;16", np.uint16), ("1", bool)])
def test_masks_of_every_single_channel_mode_keep_their_ids(tmp_path, mode, dtype):
    mask = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=dtype))
    if mode == "P":
        mask.putpalette([200, 0, 0, 0, 0, 90])
    assert mask.mode == mode
    source = folder_with(tmp_path, mask, picture(0, (2, 2)))
    assert load_segmentation_data(source, "train")[0].mask.tolist() == [[0, 1], [1, 0]]


def test_16_bit_mask_keeps_values_over_255(tmp_path):
    wide = Image.fromarray(np.array([[0, 1000], [2, 255]], dtype=np.uint16))
    source = folder_with(tmp_path, wide, picture(0, (2, 2)), {"classes": ["a", "b", "c"], "ignore_index": 1000})
    assert load_segmentation_data(source, "train")[0].mask.tolist() == [[0, 255], [2, 255]]


def test_wrong_id_names_file_id_and_range(tmp_path):
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    mask[2, 3] = 3
    data = load_segmentation_data(folder_with(tmp_path, Image.fromarray(mask)), "train")
    with pytest.raises(InputError, match=r"masks/a\.png holds the id 3, but the 3 classes have 0 to 2 .*ignore_index"):
        data[0]


def test_reduced_labels_name_the_range_of_the_file(tmp_path):
    mask = Image.fromarray(np.full((SIZE[1], SIZE[0]), 4, dtype=np.uint8))
    source = folder_with(tmp_path, mask, classes={"classes": ["a", "b", "c"], "do_reduce_labels": True})
    with pytest.raises(InputError, match="the id 4, but the 3 classes have 1 to 3"):
        load_segmentation_data(source, "train")[0]


def test_colour_mask_is_an_error(tmp_path):
    source = folder_with(tmp_path, picture(3))
    with pytest.raises(InputError, match=r"masks/a\.png: a mask must have one channel"):
        load_segmentation_data(source, "train")[0]


def test_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    source = folder_with(tmp_path, mask_of(0, size=(10, 5)))
    with pytest.raises(InputError, match=r"images/a\.png is 10 x 6 .*masks/a\.png is 10 x 5"):
        load_segmentation_data(source, "train")[0]


def test_truncated_mask_is_named(tmp_path):
    source = folder_with(tmp_path, mask_of(0))
    path = source / "train" / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"masks/a\.png: damaged"):
        load_segmentation_data(source, "train")[0]


def test_photo_is_turned_as_its_exif_tag_says(tmp_path):
    upright = Image.new("RGB", (8, 16), "black")
    upright.paste((255, 255, 255), (0, 0, 8, 8))  # upper half white
    source = folder_with(tmp_path, Image.fromarray(np.zeros((16, 8), dtype=np.uint8)))
    (source / "train" / "images" / "a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn of 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(source / "train" / "images" / "a.jpg", exif=exif, quality=95)
    image = load_segmentation_data(source, "train")[0].image
    assert image.size == (8, 16)
    assert image.getpixel((4, 2))[0] > 200 > 60 > image.getpixel((4, 13))[0]


# Folders


@pytest.mark.parametrize(("folder", "asked"), [("val", "validation"), ("validation", "val"), ("train", "train")])
def test_split_by_folder(tmp_path, folder, asked):
    write_pairs(write_classes(tmp_path) / folder, ["b", "a"])
    data = load_segmentation_data(tmp_path, asked)
    assert data.names == ["a", "b"]
    assert np.array_equal(data[1].image, picture(0))
    assert np.array_equal(data[1].mask, mask_of(0))
    assert data.classes.names == ("sky", "road", "tree")


def test_missing_split_lists_those_there(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["a"])
    with pytest.raises(InputError, match=r"no split 'test'; it has \['train'\]"):
        load_segmentation_data(tmp_path, "test")


def test_split_by_list_keeps_its_order(tmp_path):
    write_pairs(write_classes(tmp_path), ["a", "b", "c"])
    (tmp_path / "train.txt").write_text("c\na\n\n")
    assert load_segmentation_data(tmp_path, "train").names == ["c", "a"]


def test_split_list_with_unknown_stems_is_an_error(tmp_path):
    write_pairs(write_classes(tmp_path), ["a"])
    (tmp_path / "train.txt").write_text("a\nx\ny")
    with pytest.raises(InputError, match=r"train\.txt lists 2 stems that no image has: x, y"):
        load_segmentation_data(tmp_path, "train")


def test_missing_split_list_is_an_error(tmp_path):
    write_pairs(write_classes(tmp_path), ["a"])
    (tmp_path / "train.txt").write_text("a")
    with pytest.raises(InputError, match=r"no list val\.txt; it has \['train\.txt'\]"):
        load_segmentation_data(tmp_path, "val")


def test_folder_without_splits_holds_out_a_tenth(tmp_path):
    stems = [f"{index:02d}" for index in range(30)]
    write_pairs(write_classes(tmp_path), stems)
    train, val = (load_segmentation_data(tmp_path, split).names for split in ("train", "val"))
    assert len(val) == 3
    assert sorted(train + val) == stems


def test_held_out_images_do_not_depend_on_the_run(tmp_path):
    write_pairs(write_classes(tmp_path), [f"{index:02d}" for index in range(20)])
    assert load_segmentation_data(tmp_path, "val").names == ["01", "04"]


def test_folder_without_splits_has_no_test_split(tmp_path):
    write_pairs(write_classes(tmp_path), ["a", "b"])
    with pytest.raises(InputError, match="no splits"):
        load_segmentation_data(tmp_path, "test")


def test_folder_of_masks_may_be_called_labels(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["a"], masks="labels")
    assert np.array_equal(load_segmentation_data(tmp_path, "train")[0].mask, mask_of(0))


def test_sub_folders_pair_by_path(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["city/a", "town/a"])
    assert load_segmentation_data(tmp_path, "train").names == ["city/a", "town/a"]


def test_stray_files_do_not_count(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["a"])
    write_pairs(tmp_path / "train" / "images" / ".checkpoints", ["b"])
    for name in ("train/images/._a.png", "train/images/notes.txt", "metadata.csv"):
        (tmp_path / name).write_text("not an image")
    assert load_segmentation_data(tmp_path, "train").names == ["a"]


def test_images_without_masks_are_listed(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", list("abcdefgh"))
    for stem in "bcdefgh":
        (tmp_path / "train" / "masks" / f"{stem}.png").unlink()
    with pytest.raises(InputError, match=r"7 of 8 images have no mask .*images/b\.png.*images/f\.png and 2 more"):
        load_segmentation_data(tmp_path, "train")


def test_two_images_of_one_stem_are_an_error(tmp_path):
    write_pairs(write_classes(tmp_path) / "train", ["a"])
    picture(1).save(tmp_path / "train" / "images" / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have the same stem"):
        load_segmentation_data(tmp_path, "train")


def test_missing_mask_folder_names_what_is_there(tmp_path):
    (write_classes(tmp_path) / "images").mkdir()
    (tmp_path / "targets").mkdir()
    with pytest.raises(InputError, match=r"'images' and 'masks'; it holds \['classes\.json', 'images', 'targets'\]"):
        load_segmentation_data(tmp_path, "train")


def test_empty_image_folder_is_an_error(tmp_path):
    for name in ("images", "masks"):
        (write_classes(tmp_path) / "train" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images"):
        load_segmentation_data(tmp_path, "train")


def test_missing_class_list_says_how_to_write_one(tmp_path):
    write_pairs(tmp_path / "train", ["a"])
    with pytest.raises(InputError, match=r'has no classes\.json\. Write one, such as {"classes"'):
        load_segmentation_data(tmp_path, "train")


def test_class_list_given_replaces_the_own(tmp_path):
    write_pairs(write_classes(tmp_path / "data") / "train", ["a"])
    other = write_classes(tmp_path / "other", ["x", "y", "z"]) / "classes.json"
    assert load_segmentation_data(tmp_path / "data", "train", classes=other).classes.names == ("x", "y", "z")


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "images.parquet", "a/b/c"])
def test_missing_path_is_not_looked_up_on_the_hub(source):
    with pytest.raises(InputError, match=f"{source} does not exist"):
        load_segmentation_data(source, "train")


# Cache


def test_cached_samples_are_not_read_again(tmp_path):
    source = folder_with(tmp_path, mask_of(0))
    data = load_segmentation_data(source, "train", cache=True)
    data[0]
    (source / "train" / "images" / "a.png").unlink()
    (source / "train" / "masks" / "a.png").unlink()
    assert np.array_equal(data[0].image, picture(0))
    assert np.array_equal(data[0].mask, mask_of(0))


def test_changing_a_sample_leaves_the_cache_alone(tmp_path):
    data = load_segmentation_data(folder_with(tmp_path, mask_of(0)), "train", cache=True)
    data[0].mask[:] = 255
    data[0].image.paste((0, 0, 0), (0, 0, *SIZE))
    assert np.array_equal(data[0].image, picture(0))
    assert np.array_equal(data[0].mask, mask_of(0))


# Tables


@pytest.fixture
def tables(tmp_path, monkeypatch) -> Path:
    """A folder for tables; what `datasets` caches goes there too."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return tmp_path / "tables"


def table(count: int = 3, mask_name: str = "mask", labels: datasets.Features | None = None) -> datasets.Dataset:
    columns = {
        "image": [picture(seed) for seed in range(count)],
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
        assert np.array_equal(sample.image, picture(seed))
        assert np.array_equal(sample.mask, mask_of(seed))


@pytest.mark.parametrize("mask_name", ["mask", "label", "segmentation_map", "annotation"])
def test_parquet_file_with_class_list_beside_it(tables, mask_name):
    path = write_table(write_classes(tables) / "train.parquet", mask_name=mask_name)
    data = load_segmentation_data(path, "train")
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
    with pytest.raises(InputError, match=r"data\.zip has no column 'mask' .*metadata\.jsonl"):
        load_segmentation_data(tables / "data.zip", "train")


@pytest.mark.parametrize(
    ("name", "split"), [("data", "train"), ("val", "validation"), ("validation_0", "val"), ("test.part", "test")]
)
def test_table_file_serves_the_split_of_its_name(tables, name, split):
    assert_pairs(load_segmentation_data(write_table(write_classes(tables) / f"{name}.parquet"), split), 3)


def test_table_file_serves_only_the_split_of_its_name(tables):
    path = write_table(write_classes(tables) / "val.parquet")
    with pytest.raises(InputError, match=r"no split 'train'; it has \['val'\]"):
        load_segmentation_data(path, "train")


def test_table_columns_by_argument(tables):
    path = write_table(write_classes(tables) / "train.parquet", mask_name="ground truth")
    assert_pairs(load_segmentation_data(path, "train", mask_column="ground truth"), 3)


def test_missing_column_names_those_there(tables):
    path = write_table(write_classes(tables) / "train.parquet", mask_name="target")
    with pytest.raises(
        InputError, match=r"no column 'mask' or .*it has \['image', 'target'\]. Name one with mask_col"
    ):
        load_segmentation_data(path, "train")


def test_column_without_images_is_an_error(tables):
    labels = datasets.Features({"label": datasets.List(datasets.Value("int64"))})
    path = write_table(write_classes(tables) / "train.parquet", mask_name="seg", labels=labels)
    with pytest.raises(InputError, match=r"column 'label' .*not images\. Name another with mask_column"):
        load_segmentation_data(path, "train")


def test_class_names_come_from_the_features(tables):
    labels = datasets.Features({"present": datasets.List(datasets.ClassLabel(names=["x", "y", "z"]))})
    path = write_table(tables / "train.parquet", labels=labels)
    assert load_segmentation_data(path, "train").classes.names == ("x", "y", "z")


def test_table_without_class_names_is_an_error(tables):
    with pytest.raises(InputError, match=r"does not say what its mask ids mean\. Give a classes\.json"):
        load_segmentation_data(write_table(tables / "train.parquet"), "train")


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
    assert np.array_equal(data[0].image, picture(0))
    with pytest.raises(InputError, match=r"train-000001 of .*train\.parquet, column 'image': (damaged|not an image)"):
        data[1]


def test_stream_gives_the_same_samples(tables):
    path = write_table(write_classes(tables) / "train.parquet")
    stream = stream_segmentation_data(path, "train")
    assert stream.classes.names == ("sky", "road", "tree")
    assert_pairs(stream, 3)


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
    from scripts.toolkit import table_data

    asked = []

    def download(repository: str, name: str, repo_type: str) -> str:
        asked.append((repository, name, repo_type))
        return str(write_classes(tables) / "classes.json")

    monkeypatch.setattr(table_data, "hf_hub_download", download)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, data_files: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split, **_: table(2 if split == "validation" else 5))
    data = load_segmentation_data("someone/scenes", "val")
    assert_pairs(data, 2)
    assert asked == [("someone/scenes", "classes.json", "dataset")]


def test_folders_work_without_the_datasets_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.delitem(sys.modules, "scripts.toolkit.table_data", raising=False)
    monkeypatch.delattr(scripts.toolkit, "table_data", raising=False)
    assert len(load_segmentation_data(folder_with(tmp_path, mask_of(0)), "train")) == 1
    with pytest.raises(InputError, match="pip install datasets"):
        load_segmentation_data("someone/scenes", "train")
