"""What a run leaves to be looked at, in its folder and in TensorBoard."""

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import run

from lclipseg.training.contact_sheet import SIDE


@pytest.fixture(scope="module")
def folder(workspace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets") / "run"
    run(workspace, folder, "--trackers", "tensorboard", "--max_images", "4")
    return folder


def test_first_batch_shows_crops_beside_their_masks(folder):
    with Image.open(folder / "first_batch.jpg") as sheet:
        assert sheet.size == (2 * 2 * 32, 32)  # two crops of 32, each beside its mask


def test_predictions_stand_beside_image_and_mask(folder, workspace):
    with Image.open(folder / "predictions.jpg") as sheet:
        assert sheet.width > 3 * 64 and sheet.height >= 2 * 48  # two images of 64x48, and legends
        shown = np.asarray(sheet.convert("RGB")).astype(int)
    with Image.open(workspace / "data" / "val" / "images" / "0.png") as image:
        assert np.abs(shown[:48, :64] - np.asarray(image)).mean() < 10  # a JPEG of it
    assert np.abs(shown[:48, 64:128] - shown[:48, :64]).mean() > 20  # in the colours of its classes


def test_tensorboard_has_both(folder):
    events = EventAccumulator(str(folder / "lclipseg"), size_guidance={"images": 0}).Reload()
    steps = {tag.split("/")[0]: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert steps == {"first_batch": [0], "predictions": [2, 4]}


def test_several_data_sets_share_the_sheet(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--data", str(workspace / "data"), str(workspace / "other"), "--epochs", "1")
    with Image.open(tmp_path / "run" / "predictions.jpg") as sheet:
        assert 4 * 48 <= sheet.height <= 4 * SIDE


def test_sheet_that_cannot_be_written_costs_no_run(workspace, tmp_path, caplog):
    (tmp_path / "run" / "predictions.jpg").mkdir(parents=True)
    run(workspace, tmp_path / "run", "--epochs", "0.4")
    assert "predictions.jpg could not be made, and is left out" in caplog.text
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()
