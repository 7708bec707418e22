"""Training and segmenting by a call each: the options are those of the command line, and as strictly checked."""

import json
import shutil
from pathlib import Path

import numpy as np
import photos
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from tiny_model import NAMES, save_checkpoint, tiny_model
from transformers.utils.logging import enable_progress_bar, is_progress_bar_enabled

import lclipseg
from lclipseg.console.errors import InputError
from modeling_lclipseg import WordBank


@pytest.fixture(scope="module")
def trained(workspace, tmp_path_factory) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    return lclipseg.train(
        data=workspace / "data", out=tmp_path_factory.mktemp("api") / "run", model=workspace / "tiny.yaml",
        bank=workspace / "bank.safetensors", crop_size=(32, 32), batch_size=2, epochs=1, eval_every=1,
        trackers="none", shortest_edge=48, flip=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), shortest_edge=64)


@pytest.fixture
def photo() -> Image.Image:
    return photos.photo(64, 48)


def test_training_returns_the_best_checkpoint_and_obeys_its_options(trained, workspace):
    assert (trained / "model.safetensors").is_file()
    options = json.loads((trained.parent / "run.json").read_text())["arguments"]
    assert (options["crop_size"], options["flip"], options["data"]) == ([32, 32], False, [str(workspace / "data")])


def test_what_was_trained_segments_an_image(trained, photo):
    result = lclipseg.segment(photo, model=trained)
    assert result.id2label == {0: "sky", 1: "road"}
    assert result.label_map.shape == (48, 64) and set(np.unique(result.label_map)) <= {0, 1}


def test_result_has_shares_and_an_overlay(checkpoint, photo):
    result = lclipseg.segment(photo, model=checkpoint)
    assert sum(result.shares.values()) == pytest.approx(1)
    assert list(result.shares.values()) == sorted(result.shares.values(), reverse=True)
    assert result.overlay(legend=False).size == photo.size


def test_classes_are_words_of_the_checkpoint_or_of_a_bank(checkpoint, photo, tmp_path):
    WordBank(("wolf",), torch.randn(1, 32), None).save(tmp_path / "bank.safetensors")
    own = lclipseg.segment(photo, model=checkpoint, classes=["road", "sky"])
    other = lclipseg.segment(photo, model=checkpoint, classes="wolf, sky", bank=tmp_path / "bank.safetensors")
    assert (own.id2label, other.id2label) == ({0: "road", 1: "sky"}, {0: "wolf", 1: "sky"})
    assert list(lclipseg.segment(photo, model=checkpoint).id2label.values()) == NAMES  # as before


def test_image_may_be_a_file_or_an_array(checkpoint, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    maps = [
        lclipseg.segment(image, model=checkpoint).label_map
        for image in (photo, np.asarray(photo), tmp_path / "photo.png", str(tmp_path / "photo.png"))
    ]
    assert all(np.array_equal(maps[0], other) for other in maps[1:])


def test_checkpoint_that_was_written_anew_is_loaded_anew(tmp_path, photo):
    for names in (NAMES, NAMES[::-1]):
        save_checkpoint(tmp_path, tiny_model().set_classes(names), shortest_edge=64)
        assert list(lclipseg.segment(photo, model=tmp_path).id2label.values()) == names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rat": 1}, "'learning_rate'"),
        ({"epochs": "many"}, "--epochs"),
        ({"epochs": 0}, "above 0"),
        ({"guidance": "magic"}, "fusion"),
        ({"start_from": "x", "model": "y"}, "leave --model"),
        ({"data": "nowhere-at-all/here"}, "nowhere-at-all"),
    ],
)
def test_training_refuses_what_the_command_line_refuses(options, said, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(InputError, match=said):
        lclipseg.train(**{"data": tmp_path, "out": tmp_path / "run", "trackers": "none", **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_pixel": 1}, "'max_pixels'"),
        ({"mode": "part"}, "slide"),
        ({"out": "folder"}, "writes no files"),
        ({"model": "nowhere/at/all"}, "nowhere"),
        ({"classes": ["rod"]}, "did you mean 'road'"),
        ({"classes": []}, "empty"),
        ({"image": "nothing.png"}, "nothing.png"),
        ({"image": 3}, "image"),
    ],
)
def test_segmenting_refuses_what_the_command_line_refuses(options, said, checkpoint, photo):
    with pytest.raises(InputError, match=said):
        lclipseg.segment(**{"image": photo, "model": checkpoint, **options})


def test_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'segmnt'"):
        lclipseg.segmnt  # noqa: B018


def test_no_bar_of_a_library_is_shown_and_those_of_the_program_come_back(checkpoint, photo, tmp_path, capsys):
    enable_progress_bar()
    lclipseg.segment(photo, model=shutil.copytree(checkpoint, tmp_path / "not_loaded_yet"))
    assert "Loading weights" not in capsys.readouterr().err
    assert is_progress_bar_enabled()
