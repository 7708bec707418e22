"""The segment command, and where it takes the vectors of the classes from."""

import copy
import json

import numpy as np
import pytest
import torch
from photos import save_photo
from PIL import Image
from tiny_model import NAMES, save_checkpoint

from lclipseg.commands import segment
from lclipseg.console.errors import InputError
from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction import checkpoint_segmenter, files
from modeling_lclipseg import WordBank, folding_lclipseg
from modeling_lclipseg.visualization_lclipseg import class_palette

WIDTH = 32  # of the tiny model's class embeddings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), shortest_edge=32)


@pytest.fixture(scope="module")
def loaded(checkpoint):
    return load_model(checkpoint)


@pytest.fixture
def run(checkpoint, loaded, tmp_path, monkeypatch):
    """Run the command; its results go to the folder `out`. The checkpoint is read once for all tests."""
    monkeypatch.setattr(checkpoint_segmenter, "load_runnable", lambda source, revision: copy.deepcopy(loaded))
    return lambda *arguments: segment.main(
        *segment.parse([*map(str, arguments), "--model", str(checkpoint), "--out", str(tmp_path / "out")])
    )


@pytest.fixture
def written(tmp_path):
    """Names of the images that have results, below `out`."""
    out = tmp_path / "out"
    return lambda: {str(path.relative_to(out).with_suffix("")) for path in out.rglob("*.json")}


def bank(folder, words, text_model=None, width=WIDTH) -> str:
    vectors = torch.randn(len(words), width, generator=torch.Generator().manual_seed(3))
    WordBank(tuple(words), vectors, text_model).save(folder / "bank.safetensors")
    return str(folder / "bank.safetensors")


# --------------------------------------------------------------------------------------------------------- the results


def test_each_image_gets_its_three_files(run, tmp_path):
    photo = save_photo(tmp_path / "street.png")
    assert run(photo) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "street.json",
        "street_mask.png",
        "street_overlay.png",
    ]


def test_record_agrees_with_the_mask(run, tmp_path, checkpoint):
    run(save_photo(tmp_path / "street.png"))
    record = json.loads((tmp_path / "out" / "street.json").read_text())
    ids = np.array(Image.open(tmp_path / "out" / "street_mask.png"))
    assert (record["height"], record["width"]) == ids.shape == (30, 40)
    assert record["id2label"] == {str(class_id): name for class_id, name in enumerate(NAMES)}
    assert record["model"] == str(checkpoint)
    shares = {share["name"]: share["share"] for share in record["shares"]}
    assert shares == {name: (ids == class_id).mean() for class_id, name in enumerate(NAMES) if (ids == class_id).any()}


def test_pixels_below_the_least_score_are_none_of_the_classes(run, tmp_path):
    photo = save_photo(tmp_path / "street.png")
    assert run(photo, "--least_score", "1e9", "--annotations", "coco") == 0
    assert (np.asarray(Image.open(tmp_path / "out" / "street_mask.png")) == 255).all()
    record = json.loads((tmp_path / "out" / "street.json").read_text())
    assert record["shares"] == [{"class_id": None, "name": "unlabelled", "share": 1.0}]
    assert json.loads((tmp_path / "out" / "annotations.coco.json").read_text())["annotations"] == []


def test_mask_shows_the_colours_of_the_overlay(run, tmp_path):
    run(save_photo(tmp_path / "street.png"))
    mask = Image.open(tmp_path / "out" / "street_mask.png")
    ids = np.array(mask)
    assert mask.mode == "P"
    assert np.array_equal(np.array(mask.convert("RGB")), class_palette(len(NAMES))[ids])


def test_few_images_get_a_line_each(run, tmp_path, capsys):
    run(save_photo(tmp_path / "street.png"))
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'street.png'}: ")
    assert "%" in first
    assert last.startswith("1 of 1 images segmented")


def test_many_images_get_one_summary(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "FEW_IMAGES", 1)
    run(save_photo(tmp_path / "in" / "a.png"), save_photo(tmp_path / "in" / "b.png"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2 of 2 images segmented")


def test_windows_are_possible(run, tmp_path, written):
    assert run(save_photo(tmp_path / "wide.png", size=(90, 40)), "--mode", "slide") == 0
    assert written() == {"wide"}


# ----------------------------------------------------------------------------------------------------- finding images


@pytest.mark.parametrize(
    ("files", "given", "found"),
    [
        (["a.png", "deep/er/b.jpg", "deep/a.png"], ".", {"a", "deep/er/b", "deep/a"}),
        (["a.png", "b.png", "c.jpg"], "*.png", {"a", "b"}),
        (["[a].png"], "[a].png", {"[a]"}),  # a name that looks like a pattern
    ],
)
def test_folder_is_searched_to_its_depth_and_a_pattern_is_expanded(run, tmp_path, written, files, given, found):
    for name in files:
        save_photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run(tmp_path / "in" / given) == 0
    assert written() == found


def test_what_a_folder_holds_besides_images_is_counted(run, tmp_path, written, caplog):
    save_photo(tmp_path / "in" / "a.png")
    for name in ("notes.txt", "__MACOSX/._a.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("no image")
    assert run(tmp_path / "in") == 0
    assert written() == {"a"}
    assert "__MACOSX/._a.png; 1 files of other kinds: notes.txt" in caplog.text


def test_links_to_folders_are_followed_and_those_that_lead_nowhere_fail(run, tmp_path, written, capsys):
    save_photo(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    assert run(tmp_path / "in") == 0
    assert written() == {"more/a"}
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "gone.png")
    assert run(tmp_path / "in") == 1
    assert "b.png: is one of links that lead nowhere" in capsys.readouterr().err


def test_same_stem_overwrites_nothing(run, tmp_path):
    photos = [tmp_path / name for name in ("x/a.jpg", "x/a.png", "x/A.bmp", "y/a.png")]
    for seed, photo in enumerate(photos):
        save_photo(photo, size=(40 + seed, 30))
    assert run(*photos) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    assert {record["image"]: record["width"] for record in records} == {
        str(photo): 40 + seed for seed, photo in enumerate(photos)
    }
    assert len(list((tmp_path / "out").rglob("*_mask.png"))) == 4


def test_image_given_twice_is_segmented_once(run, tmp_path, capsys):
    photo = save_photo(tmp_path / "in" / "a.png")
    run(photo, tmp_path / "in", tmp_path / "in" / "*.png")
    assert "1 of 1 images" in capsys.readouterr().out


def test_results_are_not_segmented_again(run, tmp_path, capsys):
    save_photo(tmp_path / "a.png")
    run(tmp_path)
    run(tmp_path)  # which now holds out/a_overlay.png
    assert capsys.readouterr().out.count("1 of 1 images") == 2


def test_folder_of_the_images_is_no_place_for_the_results(run, tmp_path):
    save_photo(tmp_path / "out" / "a.png")
    with pytest.raises(InputError, match="folder of the images"):
        run(tmp_path / "out")


def test_image_is_never_overwritten_by_a_result(run, tmp_path):
    photos = [save_photo(tmp_path / "out" / name) for name in ("a.png", "a_mask.png")]
    before = photos[1].read_bytes()
    with pytest.raises(InputError, match="would overwrite"):
        run(*photos)
    assert photos[1].read_bytes() == before


# --------------------------------------------------------------------------------------------------------- what fails


def test_bad_file_is_named_and_the_others_go_on(run, tmp_path, written, capsys):
    broken = tmp_path / "in" / "b.png"
    photos = [save_photo(tmp_path / "in" / name) for name in ("a.png", "b.png", "c.png")]
    broken.write_bytes(broken.read_bytes()[:500])
    assert run(*photos) == 1
    assert written() == {"a", "c"}
    captured = capsys.readouterr()
    assert f"failed: {broken}: damaged or cut short" in captured.err
    assert "2 of 3 images" in captured.out


@pytest.mark.parametrize(
    ("given", "reason"),
    [("gone.png", "there is no such file"), ("*.tif", "no file matches"), ("empty", "the folder holds no images")],
)
def test_input_without_images_is_named_and_the_others_go_on(run, tmp_path, written, capsys, given, reason):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / given, save_photo(tmp_path / "a.png")) == 1
    assert written() == {"a"}
    assert f"failed: {tmp_path / given}: {reason}" in capsys.readouterr().err


def test_image_of_too_many_pixels_is_refused(run, tmp_path, capsys):
    assert run(save_photo(tmp_path / "a.png"), "--max_pixels", "1000") == 1
    assert "40 x 30 pixels are more than the 1,000 allowed" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a.png"], ["a.png", "--model", "m", "--colour", "red"]])
def test_wrong_arguments_end_with_status_2(arguments):
    with pytest.raises(SystemExit) as ended:
        segment.parse(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(("files", "status"), [(["a.png"], 0), (["a.png", "gone.png"], 1)])
def test_command_ends_with_the_status_of_the_run(checkpoint, tmp_path, monkeypatch, files, status):
    save_photo(tmp_path / "a.png")
    paths = [str(tmp_path / name) for name in files]
    monkeypatch.setattr("sys.argv", ["segment", *paths, "--model", str(checkpoint), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        segment.command()
    assert ended.value.code == status


def test_out_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="cannot be made a folder"):
        run(save_photo(tmp_path / "a.png"))


# --------------------------------------------------------------------------------------------------------- the classes


def test_chosen_classes_are_those_of_the_result(run, tmp_path):
    arguments = ["--classes", " Car, tree ,sky", "--bank", bank(tmp_path, ["tree", "dog"])]
    assert run(save_photo(tmp_path / "a.png"), *arguments) == 0
    record = json.loads((tmp_path / "out" / "a.json").read_text())
    assert record["id2label"] == {"0": "Car", "1": "tree", "2": "sky"}


def test_own_classes_in_another_order_give_the_same_map(run, tmp_path):
    photo = save_photo(tmp_path / "a.png")
    run(photo)
    ids = np.array(Image.open(tmp_path / "out" / "a_mask.png"))
    run(photo, "--classes", "car, sky, road")
    reordered = np.array(Image.open(tmp_path / "out" / "a_mask.png"))
    new_id = np.array([["car", "sky", "road"].index(name) for name in NAMES])
    assert (new_id[ids] == reordered).mean() > 0.99  # but for ties in rounding


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "sky,,car"], "[Cc]lass name"),
        (["--classes", "sky, SKY"], "[Cc]lass name"),
        (["--classes", " "], "[Cc]lass name"),
        (["--classes", "tree", "--bank", "gone.safetensors"], r"gone\.safetensors"),
        (["--bank", "bank.safetensors"], "add --classes"),
    ],
)
def test_unusable_classes_are_refused(run, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(save_photo(tmp_path / "a.png"), *options)


def test_checkpoint_without_class_embeddings_says_what_to_give(run, loaded, tmp_path, monkeypatch):
    model = copy.deepcopy(loaded[0])
    model.class_embeddings.zero_()
    monkeypatch.setattr(checkpoint_segmenter, "load_runnable", lambda source, revision: (model, loaded[1]))
    photo = save_photo(tmp_path / "a.png")
    with pytest.raises(InputError, match="no class embeddings; give --classes"):
        run(photo)
    assert run(photo, "--classes", "tree", "--bank", bank(tmp_path, ["tree"])) == 0


def test_model_that_cannot_be_folded_is_used_as_it_is(run, tmp_path, monkeypatch, caplog):
    photo = save_photo(tmp_path / "a.png")
    run(photo)
    expected = np.array(Image.open(tmp_path / "out" / "a_mask.png"))
    monkeypatch.setattr(folding_lclipseg, "TOLERANCE", -1.0)  # no error is small enough
    assert run(photo) == 0
    assert "cannot be folded" in caplog.text
    assert (np.array(Image.open(tmp_path / "out" / "a_mask.png")) == expected).mean() > 0.99
