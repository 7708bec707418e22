"""Folders as people have them: the same splits and pairs are found in each, and whatever is not used is counted."""

import json
import logging
import sys
import unicodedata
from pathlib import Path

import pytest
from checked_data import check, found, problem
from data_folders import make_image, mask_of, write_classes

from lclipseg.commands import evaluate
from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Kind
from lclipseg.data.files import LeftOut, Why, walk
from lclipseg.data.labelled import FolderData
from lclipseg.data.open import load_splits
from lclipseg.prediction.arguments import EvaluateArguments

STEMS = {"train": ["a", "b", "c"], "val": ["d", "e"]}
NAMED_TWICE = unicodedata.normalize("NFC", "gr\u00fcn")


def save(path: Path, seed: int = 0, is_mask: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (mask_of(seed) if is_mask else make_image(seed)).save(path)
    return path


def write(root: Path, images: str, masks: str) -> Path:
    """Pairs whose paths are these patterns, of `split` and `stem`; image and mask of a pair are told by the seed."""
    write_classes(root)
    for split, stems in STEMS.items():
        for stem in stems:
            save(root / images.format(split=split, stem=stem), ord(stem))
            save(root / masks.format(split=split, stem=stem), ord(stem), is_mask=True)
    return root


def opened(root: Path) -> list[FolderData]:
    return load_splits(root, ["train", "val"])


def seeds(data: FolderData) -> list[str]:
    """The letters of the pairs, by what the files hold."""
    letters = {make_image(ord(letter)).tobytes(): letter for letter in "abcde"}
    of_masks = {mask_of(ord(letter)).tobytes(): letter for letter in "abcde"}
    found = []
    for index in range(len(data)):
        sample = data[index]
        letter = letters[sample.image.tobytes()]
        assert of_masks[sample.mask.tobytes()] == letter
        found.append(letter)
    return found


# --------------------------------------------------------------------------------------------------- where splits are

LAYOUTS = {
    "a folder a split": ("{split}/images/{stem}.png", "{split}/masks/{stem}.png"),
    "YOLO's order": ("images/{split}/{stem}.png", "masks/{split}/{stem}.png"),
    "labels": ("images/{split}/{stem}.png", "labels/{split}/{stem}.png"),
    "annotations": ("{split}/images/{stem}.png", "{split}/annotations/{stem}.png"),
    "Cityscapes": (
        "leftImg8bit/{split}/ulm/{stem}_leftImg8bit.png",
        "gtFine/{split}/ulm/{stem}_gtFine_labelIds.png",
    ),
    "one folder of masks": ("images/{split}/{stem}.png", "masks/{stem}.png"),
    "siblings": ("{split}/{stem}.png", "{split}_masks/{stem}.png"),
    "SegNet": ("{split}/{stem}.png", "{split}annot/{stem}.png"),
    "side by side": ("{split}/{stem}.png", "{split}/{stem}_mask.png"),
    "a camera's names": ("images/{split}/IMG_{stem}.png", "masks/{split}/IMG_{stem}_mask.png"),
    "a camera's names side by side": ("{split}/IMG_{stem}.png", "{split}/IMG_{stem}_mask.png"),
    "other words before the number": ("images/{split}/image_{stem}.png", "masks/{split}/mask_{stem}.png"),
    "capitals": ("Images/{split}/{stem}.PNG", "Masks/{split}/{stem}.PNG"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_splits_of_every_layout_are_found(tmp_path, name):
    data = opened(write(tmp_path, *LAYOUTS[name]))
    assert [seeds(split) for split in data] == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_checked_without_a_problem_of_names(tmp_path, name):
    report = check(write(tmp_path, *LAYOUTS[name]))
    assert {split.name: split.pairs for split in report.splits} == {"train": 3, "val": 2}
    assert report.problems == []


@pytest.mark.parametrize(("train", "val"), [("training", "validation"), ("Train", "valid"), ("TRAIN", "dev")])
def test_splits_may_be_called_otherwise(tmp_path, train, val):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{split}/{stem}.png")
    for part in ("images", "masks"):
        (root / part / "train").rename(root / part / train)
        (root / part / "val").rename(root / part / val)
    assert [len(split) for split in opened(root)] == [3, 2]


def test_folder_without_splits_may_hold_both_side_by_side(tmp_path):
    train, val = opened(write(tmp_path, "{stem}.png", "{stem}_mask.png"))
    assert sorted(seeds(train) + seeds(val)) == list("abcde")


def test_copy_of_the_data_beside_images_is_no_split(tmp_path):
    root = write(tmp_path, "images/{stem}.png", "masks/{stem}.png")
    write(root / "backup", "images/{stem}.png", "masks/{stem}.png")
    train, val = opened(root)
    assert sorted(train.names + val.names) == list("abcde")


def test_data_one_folder_deeper_is_named(tmp_path):
    write(tmp_path / "my_data", "images/{stem}.png", "masks/{stem}.png")
    with pytest.raises(InputError, match=r"no split 'train'.*my_data is a data set of its own, give that"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("train", r"no split 'val'; it has \['train'\]\. Name one of them"),
        ("val", r"no split 'train'; it has \['val'\]"),
    ],
)
def test_missing_split_is_said_with_those_there(tmp_path, there, said):
    root = write(tmp_path, "{split}/images/{stem}.png", "{split}/masks/{stem}.png")
    (root / ("val" if there == "train" else "train")).rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    with pytest.raises(InputError, match=said):
        opened(root)


# ------------------------------------------------------------------------------------------------- which mask it is of

NAMES = [
    ("x.jpg", "x_mask.png"),
    ("x.jpg", "x_label.png"),
    ("x.jpg", "x-seg.png"),
    ("x.jpg", "x_gtFine_labelTrainIds.png"),
    ("x.jpg", "x.jpg.png"),
    ("x.jpg", "X.png"),
    ("x_leftImg8bit.png", "x_gtFine_labelIds.png"),
    ("x_image.png", "x_mask.png"),
    ("x_sat.jpg", "x_mask.png"),
    ("image_01.jpg", "mask_01.png"),
    ("x  1.jpg", "x 1.png"),
    ("x\u00a01.jpg", "x 1.png"),
    (f"{NAMED_TWICE}.jpg", f"{unicodedata.normalize('NFD', NAMED_TWICE)}.png"),
    ("x.JPG", "x.PNG"),
    ("x.webp", "x.gif"),
]


@pytest.mark.parametrize(("image", "mask"), NAMES)
def test_names_that_say_the_same_are_a_pair(tmp_path, image, mask):
    write_classes(tmp_path)
    save(tmp_path / "train/images" / image)
    save(tmp_path / "train/masks" / mask, is_mask=True)
    (data,) = load_splits(tmp_path, ["train"])
    assert data.names == [Path(image).stem]
    assert data.pairs == [(tmp_path / "train/images" / image, tmp_path / "train/masks" / mask)]


def test_equal_names_come_before_those_that_look_alike(tmp_path):
    """A mask may be called after another image with a word behind it."""
    write_classes(tmp_path)
    for stem in ("road", "road_label"):
        save(tmp_path / "train/images" / f"{stem}.png")
        save(tmp_path / "train/masks" / f"{stem}.png", is_mask=True)
    (data,) = load_splits(tmp_path, ["train"])
    assert [mask.stem for _, mask in data.pairs] == data.names == ["road", "road_label"]


def test_two_masks_that_could_be_meant_are_both_named(tmp_path):
    write_classes(tmp_path)
    save(tmp_path / "train/images/x.png")
    for word in ("labelIds", "labelTrainIds"):
        save(tmp_path / f"train/masks/x_gtFine_{word}.png", is_mask=True)
    with pytest.raises(InputError, match=r"x_gtFine_labelIds\.png and .*x_gtFine_labelTrainIds\.png.*say the same"):
        load_splits(tmp_path, ["train"])
    assert problem(check(tmp_path), Kind.SAME_STEM).count == 1


def test_names_that_do_not_match_are_shown_on_both_sides(tmp_path):
    root = write(tmp_path, "images/{stem}.png", "masks/scene-{stem}.png")
    with pytest.raises(
        InputError, match=r"5 of 5 .*images/a\.png.*and 2 more.*without an image: .*scene-a\.png.*and 2"
    ):
        opened(root)
    report = check(root)
    assert (found(report)["no_mask"], found(report)["unused_mask"], report.splits) == (5, 5, [])
    assert "scene-a.png" in problem(report, Kind.NO_MASK).examples[0].detail


def test_jpeg_masks_are_refused_for_what_they_are(tmp_path):
    root = write(tmp_path, "images/{stem}.png", "masks/{stem}.jpg")
    with pytest.raises(InputError, match=r"masks/a\.jpg.* and 2 more\), whose compression changes ids: .*PNG"):
        opened(root)
    assert found(check(root))["lossy_mask"] == 5


# --------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    "line",
    [
        "b",
        "b.png",
        "images/b.png",
        "./images/b.png",
        "data/set/images/b.png",
        r"images\b.png",
        "images/b.png masks/b.png",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_list_may_name_an_image_in_any_way(tmp_path, line, encoding):
    root = write(tmp_path, "images/{stem}.png", "masks/{stem}.png")
    (root / "train.txt").write_text(f"{line}\r\nc\r\n", encoding=encoding)
    (data,) = load_splits(root, ["train"])
    assert data.names == ["b", "c"]


def test_list_of_a_split_comes_before_its_folder(tmp_path):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{split}/{stem}.png")
    (root / "train.txt").write_text("images/train/c.png\na")
    assert [data.names for data in opened(root)] == [["train/c", "train/a"], ["d", "e"]]


def test_byte_order_mark_of_the_class_list_is_no_error(tmp_path):
    root = write(tmp_path, "images/{stem}.png", "masks/{stem}.png")
    (root / "classes.json").write_text(json.dumps(["sky", "road", "tree"]), encoding="utf-8-sig")
    assert opened(root)[0].classes.names == ("sky", "road", "tree")


# ----------------------------------------------------------------------------------------------- nothing without count


def spoil(root: Path) -> None:
    """One thing of each kind that is not used."""
    (root / "notes.txt").write_text("no image")
    (root / "images/train/a.xmp").write_text("no image")
    save(root / "__MACOSX/images/._a.png")
    save(root / "images/train/._a.png")
    save(root / "more/f.png")
    save(root / "masks/train/z.png", is_mask=True)
    (root / "images/train/loop").symlink_to(root / "images", target_is_directory=True)


COUNTS = {Why.HIDDEN: 2, Why.OTHER_KIND: 2, Why.CYCLE: 1, Why.NO_IMAGE: 1, Why.NO_SPLIT: 1}


def test_whatever_is_not_used_is_counted_and_named(tmp_path, caplog):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{split}/{stem}.png")
    spoil(root)
    with caplog.at_level(logging.WARNING):
        assert [len(data) for data in opened(root)] == [3, 2]
    for why, count in COUNTS.items():
        assert f"{count} {why.value}: " in caplog.text
    for name in ("notes.txt", "a.xmp", "__MACOSX/images/._a.png", "more/f.png", "masks/train/z.png", "train/loop"):
        assert name in caplog.text


def test_what_lies_in_a_folder_of_two_splits_counts_once(tmp_path, caplog):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{stem}.png")
    (root / "masks/.DS_Store").write_text("")
    opened(root)
    assert f"1 {Why.HIDDEN.value}: masks/.DS_Store" in caplog.text


def test_check_counts_what_is_not_used(tmp_path):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{split}/{stem}.png")
    spoil(root)
    expected = {"hidden": 2, "other_file": 2, "cycle": 1, "unused_mask": 1, "no_split": 1}
    assert found(check(root)) == expected


def test_links_to_folders_are_followed(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", "images/{stem}.png", "masks/{stem}.png")
    root = write_classes(tmp_path / "data")
    for part in ("images", "masks"):
        (root / "train" / part).mkdir(parents=True)
        (root / "train" / part / "more").symlink_to(elsewhere / part, target_is_directory=True)
    (data,) = load_splits(root, ["train"])
    assert data.names == [f"more/{stem}" for stem in "abcde"]


def test_link_that_leads_nowhere_is_said_with_its_name(tmp_path):
    root = write(tmp_path, "images/{split}/{stem}.png", "masks/{split}/{stem}.png")
    (root / "images/train/b.png").unlink()
    (root / "images/train/b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"1 files are links that lead nowhere: .*images/train/b\.png\. Bring back"):
        opened(root)
    assert problem(check(root), Kind.DEAD_LINK).count == 1


def test_links_in_a_circle_end(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
        (tmp_path / name / "link").symlink_to(tmp_path / other, target_is_directory=True)
    left_out = LeftOut(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, left_out)] == [
        "a/file", "a/link/file", "b/file", "b/link/file",
    ]  # fmt: skip
    assert left_out.counts == {Why.CYCLE: 2}


def test_that_a_tenth_is_held_out_is_told_once(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="lclipseg")
    for seed, stem in enumerate("ab"):
        save(tmp_path / f"images/{stem}.png", seed)
        save(tmp_path / f"masks/{stem}.png", seed, is_mask=True)
    load_splits(write_classes(tmp_path), ["train", "val"])
    assert caplog.text.count("has no splits: 1 of 2 images are held out as 'val'") == 1


def test_a_split_that_is_missing_is_told_before_torch_is_imported(source, saved_checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "lclipseg.prediction.scoring", None)  # whose import brings torch
    with pytest.raises(InputError, match=r"has no split 'test'; it has \['train', 'val'\]"):
        evaluate.main(str(saved_checkpoint), EvaluateArguments(data=str(source)))


def test_splits_of_one_meaning_are_told_with_the_one_that_is_used(tmp_path, caplog):
    for split, stem in (("train", "a"), ("val", "b"), ("valid", "c")):
        save(tmp_path / f"both/{split}/images/{stem}.png")
        save(tmp_path / f"both/{split}/masks/{stem}.png", is_mask=True)
    data = load_splits(write_classes(tmp_path / "both"), ["train", "val"])
    assert data[1].names == ["b"]
    assert "the splits val, valid, which mean the same: 'val' is used" in caplog.text
    assert found(check(tmp_path / "both"))["same_split"] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_lists_and_classes_as_editors_of_windows_write_them(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    for stem in ("gr\u00fcn", "b"):
        save(tmp_path / f"images/{stem}.png")
        save(tmp_path / f"masks/{stem}.png", is_mask=True)
    texts = {"train.txt": "gr\u00fcn\r\n", "val.txt": "b\r\n", "classes.json": '["sky", "road", "tree"]'}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(f"{mark}{text}".encode(encoding))
    train, _ = load_splits(tmp_path, ["train", "val"])
    assert (train.names, train.classes.names) == (["gr\u00fcn"], ("sky", "road", "tree"))
