"""`lclipseg suggest`: the images of which a network is least sure."""

import csv

import pytest
from photos import photo, save_photo
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.prediction.arguments import SuggestArguments
from lclipseg.prediction.inference_mode import InferenceMode
from lclipseg.prediction.segment import predict_probabilities, uncertainty
from lclipseg.prediction.suggest import suggest
from modeling_lclipseg import LClipSegImageProcessor


def ranked(tmp_path, checkpoint, **options) -> list[list[str]]:
    args = SuggestArguments(model=str(checkpoint), out=str(tmp_path / "out.csv"), **options)
    assert suggest([str(tmp_path / "photos")], args) == 0
    return list(csv.reader((tmp_path / "out.csv").open(encoding="utf-8")))


@pytest.fixture
def photos(tmp_path):
    for seed, stem in enumerate("abc"):
        save_photo(tmp_path / "photos" / f"{stem}.png", (48, 32), seed)
    return tmp_path / "photos"


def test_uncertainty_is_what_the_probabilities_leave_to_other_classes(model):
    processor, image = LClipSegImageProcessor(do_resize=False), photo(48, 32)
    (probabilities,) = predict_probabilities(model, processor, [image], InferenceMode())
    expected = 1 - probabilities.max(dim=0).values.mean().item()
    assert uncertainty(model, processor, image) == pytest.approx(expected, abs=1e-5)
    assert 0 < expected < 2 / 3


def test_least_certain_image_comes_first(tmp_path, checkpoint, photos):
    head, *rows = ranked(tmp_path, checkpoint)
    assert head == ["image", "uncertainty"] and len(rows) == 3
    values = [float(value) for _, value in rows]
    assert values == sorted(values, reverse=True)


def test_as_many_are_named_as_asked_for(tmp_path, checkpoint, photos):
    assert ranked(tmp_path, checkpoint, count=2) == ranked(tmp_path, checkpoint)[:3]


@pytest.mark.parametrize(
    "mask", ["train/masks/b.png", "Masks/val/b.PNG", "train/masks/b_mask.png", "train/b-label.png"]
)
def test_labelled_images_are_left_out(tmp_path, checkpoint, photos, mask):
    path = tmp_path / "data" / mask
    path.parent.mkdir(parents=True)
    Image.new("L", (2, 2)).save(path)
    rows = ranked(tmp_path, checkpoint, labelled=str(tmp_path / "data"))
    assert sorted(name for name, _ in rows[1:]) == [str(photos / "a.png"), str(photos / "c.png")]


def test_image_that_cannot_be_read_is_named_and_the_others_are_ranked(tmp_path, checkpoint, photos, caplog):
    (photos / "d.png").write_bytes(b"x")
    args = SuggestArguments(model=str(checkpoint), out=str(tmp_path / "out.csv"))
    assert suggest([str(photos)], args) == 1
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4 and "d.png" in caplog.text


def test_no_image_is_an_error(tmp_path, checkpoint):
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="no image is left to rank"):
        ranked(tmp_path, checkpoint)
