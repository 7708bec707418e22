"""The check of a data set: each kind of problem is found and named, and the statistics are those of a plain count."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from multiprocessing import get_start_method
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from scripts import check_data
from scripts.toolkit.class_list import ClassList
from scripts.toolkit.cli import InputError
from scripts.toolkit.data import load_segmentation_data, read_sample
from scripts.toolkit.data_check import MAX_EXAMPLES, MAX_WRONG_IDS, Kind, RawFile, Summary
from scripts.toolkit.data_check_report import DataReport, Problem, WrongId, wrong_id_fix
from scripts.toolkit.data_check_run import Checker

SIZE = (10, 6)  # width, height
ROOT = Path(__file__).resolve().parents[1]


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def mask_of(seed: int, high: int = 3, size: tuple[int, int] = SIZE) -> Image.Image:
    ids = np.random.default_rng(seed).integers(0, high, (size[1], size[0]), dtype=np.uint8)
    ids[0, :3] = 0, 1, 2  # every class in every mask
    return Image.fromarray(ids)


def write_pairs(folder: Path, stems: list[str], first_seed: int = 0) -> None:
    for seed, stem in enumerate(stems, start=first_seed):
        for path, image in ((folder / "images", picture(seed)), (folder / "masks", mask_of(seed))):
            path.mkdir(parents=True, exist_ok=True)
            image.save(path / f"{stem}.png")


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.fixture
def source(tmp_path) -> Path:
    """A clean folder: four pairs in the split "train", two in "val"."""
    write_pairs(tmp_path / "data" / "train", ["a", "b", "c", "d"])
    write_pairs(tmp_path / "data" / "val", ["a", "b"], first_seed=10)
    (tmp_path / "data" / "classes.json").write_text('["sky", "road", "tree"]')
    return tmp_path / "data"


def check(source: Path | str, *arguments: str) -> DataReport:
    return check_data.main(*check_data.parse([str(source), "--workers", "1", *arguments]))


def found(report: DataReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def problem(report: DataReport, kind: Kind) -> Problem:
    return next(problem for problem in report.problems if problem.kind == kind.name.lower())


def loads(source: Path) -> bool:
    """Whether training could read every sample."""
    try:
        for split in ("train", "val"):
            data = load_segmentation_data(source, split)
            for index in range(len(data)):
                data[index]
    except InputError:
        return False
    return True


def test_clean_folder_has_no_problems(source):
    report = check(source)
    assert report.problems == []
    assert {split.name: split.pairs for split in report.splits} == {"train": 4, "val": 2}


# Each kind of problem. A damage changes the folder; what it leads to are the problem's kind, name and detail.


def no_mask(data):
    (data / "train/masks/b.png").unlink()


def same_stem(data):
    picture(20).save(data / "train/images/b.jpg")


def empty_image(data):
    (data / "train/images/b.png").write_bytes(b"")


def truncated_image(data):
    content = encoded(picture(20, (200, 100)))
    (data / "train/images/b.png").write_bytes(content[:-2000])


def truncated_jpeg(data):
    (data / "train/images/b.png").unlink()
    (data / "train/images/b.jpg").write_bytes(encoded(picture(20), "JPEG")[:-60])


def text_as_image(data):
    (data / "train/images/b.png").write_text("<html>not found</html>")


def huge_image(data):
    (data / "train/images/b.png").unlink()
    (data / "train/images/b.ppm").write_bytes(b"P5 100000 100000 255\n")


def nan_image(data):
    (data / "train/images/b.png").unlink()
    Image.fromarray(np.full((6, 10), np.nan, dtype=np.float32)).save(data / "train/images/b.tif")


def empty_mask(data):
    (data / "train/masks/b.png").write_bytes(b"")


def truncated_mask(data):
    content = encoded(mask_of(1, 255, (200, 100)))
    (data / "train/masks/b.png").write_bytes(content[:-2000])


def coloured_mask(data):
    picture(20).save(data / "train/masks/b.png")


def larger_mask(data):
    mask_of(1, size=(12, 6)).save(data / "train/masks/b.png")


def mask_before_exif(data):
    (data / "train/images/b.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(20).save(data / "train/images/b.jpg", exif=exif)


def wrong_id(data):
    mask_of(1, 4).save(data / "train/masks/b.png")


def unknown_stem(data):
    for name in ("images", "masks"):
        (data / "train" / name).rename(data / name)
    for name in ("images", "masks"):
        for file in (data / "val" / name).iterdir():
            file.rename(data / name / f"val-{file.name}")
        (data / "val" / name).rmdir()
    (data / "train.txt").write_text("a\nb\nnowhere\n")
    (data / "val.txt").write_text("val-a\nval-b\n")


def split_without_masks(data):
    (data / "val/masks").rename(data / "val/truth")


def broken_list(data):
    unknown_stem(data)
    (data / "train.txt").write_text("a\nb\n")
    (data / "val.txt").write_bytes(b"\xff\xfe")


def blank_class(data):
    (data / "classes.json").write_text('["sky", " ", "tree"]')


def doubled_class(data):
    (data / "classes.json").write_text('{"0": "sky", "1": "road", "2": "Road"}')


ERRORS = [
    (no_mask, Kind.NO_MASK, "train/images/b.png", "holds no b.png"),
    (same_stem, Kind.SAME_STEM, "train/images/b.png", "stem of b.jpg"),
    (empty_image, Kind.BAD_IMAGE, "train/images/b.png", "not an image"),
    (truncated_image, Kind.BAD_IMAGE, "train/images/b.png", "cut short"),
    (truncated_jpeg, Kind.BAD_IMAGE, "train/images/b.jpg", "cut short"),
    (text_as_image, Kind.BAD_IMAGE, "train/images/b.png", "not an image"),
    (huge_image, Kind.BAD_IMAGE, "train/images/b.ppm", "too large"),
    (nan_image, Kind.BAD_IMAGE, "train/images/b.tif", "NaN"),
    (empty_mask, Kind.BAD_MASK, "train/masks/b.png", "not an image"),
    (truncated_mask, Kind.BAD_MASK, "train/masks/b.png", "cut short"),
    (coloured_mask, Kind.NO_LABEL_MAP, "train/masks/b.png", r"mode 'RGB' \(3 channels\)"),
    (larger_mask, Kind.SIZE_MISMATCH, "train/masks/b.png", r"12 x 6, but train/images/b.png is 10 x 6"),
    (mask_before_exif, Kind.SIZE_MISMATCH, "train/masks/b.png", "before the image's EXIF orientation"),
    (wrong_id, Kind.WRONG_ID, "train/masks/b.png", r"holds 3 \(\d+ pixels\)"),
    (unknown_stem, Kind.UNKNOWN_STEM, "nowhere", "train.txt lists it"),
    (split_without_masks, Kind.UNUSABLE_SPLIT, "val", "'images' and 'masks'; it holds"),
    (broken_list, Kind.UNUSABLE_SPLIT, "val", "val.txt cannot be read"),
    (blank_class, Kind.CLASS_NAMES, "id 1 of classes.json", "' ' is no name"),
    (doubled_class, Kind.CLASS_NAMES, "id 2 of classes.json", "'road', 'Road'"),
]


@pytest.mark.parametrize(("damage", "kind", "name", "detail"), ERRORS, ids=[entry[0].__name__ for entry in ERRORS])
def test_damage_is_found_named_and_fatal_for_training(source, damage, kind, name, detail):
    damage(source)
    report = check(source)
    assert {key: count for key, count in found(report).items() if Kind[key.upper()].severity == "error"} == {
        kind.name.lower(): 1
    }
    (example,) = problem(report, kind).examples
    assert example.name == name
    assert re.search(detail, example.detail)
    assert not loads(source)


def unused_mask(data):
    mask_of(9).save(data / "train/masks/z.png")


def wrong_suffix(data):
    (data / "train/images/b.png").write_bytes(encoded(picture(20), "JPEG"))


def unlabelled(data):
    Image.new("L", SIZE, 255).save(data / "train/masks/b.png")


def absent_class(data):
    for path in (data / "val/masks").iterdir():
        Image.fromarray(np.array(mask_of(0)) % 2).save(path)


def only_0_and_255(data):
    for path in (data / "val/masks").iterdir():
        Image.fromarray((np.array(mask_of(0)) % 2) * 255).save(path)


def copy_in_the_split(data):
    (data / "train/images/b.png").write_bytes((data / "train/images/a.png").read_bytes())


def copy_in_another_split(data):
    (data / "val/images/b.png").write_bytes((data / "train/images/a.png").read_bytes())


def copy_in_another_format(data):
    (data / "val/images/b.png").unlink()
    picture(0).save(data / "val/images/b.bmp")


WARNINGS = [
    (unused_mask, Kind.UNUSED_MASK, "train/masks/z.png", "no image"),
    (wrong_suffix, Kind.WRONG_SUFFIX, "train/images/b.png", "holds JPEG"),
    (unlabelled, Kind.UNLABELLED, "train/images/b.png", "ignored"),
    (absent_class, Kind.ABSENT_CLASS, "tree", "no pixel of it in 'val'"),
    (only_0_and_255, Kind.ONLY_0_AND_255, "val", "nothing but 'sky' and ignored"),
    (copy_in_the_split, Kind.DUPLICATE, "train/images/a.png of 'train'", "train/images/b.png of 'train'"),
    (copy_in_another_split, Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.png of 'val'"),
    (copy_in_another_format, Kind.SHARED_IMAGE, "train/images/a.png of 'train'", "val/images/b.bmp of 'val'"),
]


@pytest.mark.parametrize(("damage", "kind", "name", "detail"), WARNINGS, ids=[one[0].__name__ for one in WARNINGS])
def test_oddity_is_found_and_named_and_does_not_stop_training(source, damage, kind, name, detail):
    damage(source)
    report = check(source)
    assert report.errors == 0
    (example,) = problem(report, kind).examples
    assert example.name == name
    assert detail in example.detail
    assert loads(source)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged metadata
def test_check_and_training_agree_on_files_with_changed_bytes(tmp_path):
    """Whatever Pillow makes of them, and whatever it raises."""
    random, classes = np.random.default_rng(0), ClassList.parse(["sky", "road", "tree"], "x")
    exif = Image.Exif()
    exif[0x0112] = 8
    originals = [encoded(picture(0, (6, 10)), "JPEG", exif=exif), encoded(picture(0, (6, 10)), exif=exif)]
    originals.append(encoded(mask_of(0)))
    agreed = []
    for round in range(150):
        content = bytearray(originals[round % 3])
        for position in random.integers(0, min(len(content), 120), 2):
            content[position] = random.integers(0, 256)
        contents = (bytes(content), originals[2]) if round % 3 < 2 else (originals[0], bytes(content))
        paths = [tmp_path / name for name in ("image.jpg", "mask.png")]
        for path, written in zip(paths, contents, strict=True):
            path.write_bytes(written)
        summary = Summary("train")
        summary.check(*(RawFile(path.name, path) for path in paths), classes, quick=False)
        try:
            read_sample(*paths, classes, "a")
            agreed.append(summary.problems.counts.total() == summary.problems.counts[Kind.UNLABELLED])
        except InputError:
            agreed.append(any(kind.severity == "error" for kind in summary.problems.counts))
    assert all(agreed)


def test_masks_stored_as_jpeg_are_found_by_suffix_and_by_content(source):
    (source / "train/masks/b.png").write_bytes(encoded(Image.new("L", SIZE, 1), "JPEG"))
    (source / "val/masks/a.png").unlink()
    mask_of(0).save(source / "val/masks/a.jpg")
    report = check(source)
    names = {example.name for example in problem(report, Kind.LOSSY_MASK).examples}
    assert names == {"train/masks/b.png", "val/masks/a.jpg"}


def test_all_problems_are_found_in_one_run(source):
    for damage in (no_mask, copy_in_another_split):
        damage(source)
    (source / "train/images/c.png").write_bytes(b"")
    mask_of(1, 5).save(source / "train/masks/d.png")
    picture(1).save(source / "val/masks/a.png")
    kinds = ["no_mask", "bad_image", "no_label_map", "wrong_id", "shared_image"]
    assert found(check(source)) == dict.fromkeys(kinds, 1)


def test_problems_of_folders_that_splits_share_count_once(source):
    unknown_stem(source)
    (source / "masks/c.png").unlink()
    assert found(check(source)) == {"unknown_stem": 1, "no_mask": 1}


def test_images_without_masks_on_a_list_are_not_unknown(source):
    unknown_stem(source)
    (source / "train.txt").write_text("a\nb\n")
    (source / "masks/b.png").unlink()
    assert found(check(source)) == {"no_mask": 1}


def test_one_stem_in_two_splits_is_no_problem(source):
    assert check(source).warnings == 0


def test_folder_without_splits_is_held_out_as_in_training(tmp_path):
    write_pairs(tmp_path, [f"{index:02d}" for index in range(20)])
    (tmp_path / "classes.json").write_text('["sky", "road", "tree"]')
    report = check(tmp_path)
    assert {split.name: split.pairs for split in report.splits} == {"train": 18, "val": 2}


def test_only_the_splits_asked_for_are_checked(source):
    empty_mask(source)
    assert [split.name for split in check(source, "--split", "val").splits] == ["val"]
    assert check(source, "--split", "val").problems == []


# Statistics


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
        picture(7, size).save(source / f"train/images/{stem}.png")
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
    image = RawFile("a", encoded(picture(0, (100, 100))))
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
    (source / "train/images/c.png").write_bytes(encoded(picture(2))[:-30])  # damaged
    mask_of(3, size=(12, 6)).save(source / "train/masks/d.png")
    assert found(check(source, "--quick")) == {"wrong_id": 1, "size_mismatch": 1}
    assert found(check(source)) == {"wrong_id": 1, "shared_image": 1, "bad_image": 1, "size_mismatch": 1}


# The command


@pytest.fixture
def command(monkeypatch):
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["check_data.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            check_data.command()
        return end.value.code

    return run


def test_exit_status_is_0_for_clean_data_and_for_warnings(source, command):
    assert command(source) == 0
    copy_in_another_split(source)
    assert command(source) == 0


def test_exit_status_is_1_for_errors(source, command):
    wrong_id(source)
    assert command(source) == 1


@pytest.mark.parametrize(
    "arguments", [["/no/such/folder"], ["{source}", "--workers", "0"], ["{source}", "--split", "x"]]
)
def test_exit_status_is_2_where_nothing_can_be_checked(source, command, arguments, capsys):
    assert command(*(argument.format(source=source) for argument in arguments)) == 2
    assert "error: " in capsys.readouterr().err


def test_missing_class_list_is_unusable_input(source):
    (source / "classes.json").unlink()
    with pytest.raises(InputError, match=r"has no classes\.json\. Write one"):
        check(source)


def test_number_of_processes_does_not_change_the_report(source):
    write_pairs(source / "train", [f"{index:03d}" for index in range(100)], first_seed=100)
    for stem in range(0, 100, 3):
        mask_of(stem, 6).save(source / f"train/masks/{stem:03d}.png")
    no_mask(source)
    copy_in_another_split(source)
    assert check(source, "--workers", "2") == check(source, "--workers", "1")


@pytest.mark.skipif(get_start_method() != "fork", reason="other processes would not inherit the change")
def test_a_killed_process_is_an_error_and_not_a_hang(source, monkeypatch):
    def killed(self, part):
        os.kill(os.getpid(), signal.SIGKILL)  # as systems do when memory runs out

    monkeypatch.setattr(Checker, "check", killed)
    with pytest.raises(InputError, match="one of 2 processes was killed"):
        check(source, "--workers", "2")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals to a group of processes are POSIX")
def test_interrupt_ends_all_processes_without_a_traceback(source):
    write_pairs(source / "train", [f"{index:03d}" for index in range(60)], first_seed=100)
    (source.parent / "slow.py").write_text(
        "import os, time\n"
        "from scripts import check_data\n"
        "from scripts.toolkit.data_check_run import Checker\n"
        "def slow(self, part):\n"
        "    os.write(1, b'started\\n')\n"
        "    time.sleep(600)\n"
        "Checker.check = slow\n"
        "if __name__ == '__main__':\n"
        "    check_data.command()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(source.parent / "slow.py"), str(source), "--workers", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does, the signal goes to the whole group
    )
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == check_data.INTERRUPTED
    assert "stopped before the end" in errors
    assert "Traceback" not in errors


# The report

HOSTILE = ["<script>x", "a|b", "line\nbreak", "`tick`", "[red]x[/red]", "](http:x)", "- item", "\x1b[31m", "\u202egpj"]


def test_names_of_files_cannot_break_the_report(source, capsys):
    for stem in HOSTILE:
        picture(1).save(source / "train/images" / f"{stem.replace('/', '')}.png")
    check(source, "--out", str(source / "report"))
    text = (source / "report/data_check.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- train/images")]
    assert len(lines) == len(HOSTILE)
    unescaped = re.sub(r"\\[^\w\s]|&\w+;", "", text)
    assert not re.search(r"<script|[`\x1b\u202e]|\]\(", unescaped)
    shown = capsys.readouterr().out
    assert "\u202e" not in shown
    assert "\x1b[31m" not in shown


def test_report_in_json_has_what_was_found(source):
    wrong_id(source)
    report = check(source, "--out", str(source / "report"))
    content = json.loads((source / "report/data_check.json").read_text())
    assert content["problems"][0]["kind"] == "wrong_id"
    assert content["problems"][0]["examples"][0]["name"] == "train/masks/b.png"
    assert content["splits"][0]["classes"][0]["pixels"] == report.splits[0].classes[0].pixels


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_in_no_encoding_can_be_written(source):
    name = os.fsencode(source / "train/images") + b"/\xff.png"
    Path(os.fsdecode(name)).write_bytes(encoded(picture(40)))
    report = check(source, "--out", str(source / "report"))
    content = json.loads((source / "report/data_check.json").read_text())
    assert content["problems"][0]["examples"][0]["name"] == report.problems[0].examples[0].name
    assert "udcff" in (source / "report/data_check.md").read_text(encoding="utf-8")


def test_out_that_cannot_be_a_folder_is_an_error(source):
    with pytest.raises(InputError, match=r"--out .*classes\.json cannot be written"):
        check(source, "--out", str(source / "classes.json"))


# Tables


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a parquet file of encoded images and masks; what `datasets` caches goes there too."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "classes.json").write_text('["sky", "road", "tree"]')

    def write(name: str, pairs: list[tuple[bytes | None, bytes | None]]) -> Path:
        rows = [
            {"image": {"bytes": image, "path": None}, "mask": {"bytes": mask, "path": None}} for image, mask in pairs
        ]
        datasets.Dataset.from_list(rows).to_parquet(folder / name)
        return folder / name

    return write


def good(seed: int) -> tuple[bytes, bytes]:
    return encoded(picture(seed)), encoded(mask_of(seed))


def test_tables_are_checked_row_by_row(table):
    rows = [good(0), (good(1)[0][:-40], good(1)[1]), (good(2)[0], encoded(picture(2))), good(3), good(0)]
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


def test_zip_is_read_as_training_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
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
