"""Label maps as files that labelling tools begin with, read back by `lclipseg import`."""

import json

import numpy as np
import pytest
from exports import imported, names_of, write_json
from photos import save_photo
from PIL import Image

from lclipseg.data.imports.label_studio import brush_pixels
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.files import segment_files
from lclipseg.prediction.preannotations import CocoAnnotations, LabelStudioPredictions, brush

NAMES = {0: "sky", 1: "road", 2: "car"}


def label_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (32, 48))


def as_annotated(tasks: list[dict]) -> list[dict]:
    """Tasks whose predictions somebody has accepted."""
    return [{**task, "annotations": task["predictions"]} for task in tasks]


@pytest.mark.parametrize(("kind", "accepted"), [(CocoAnnotations, dict), (LabelStudioPredictions, as_annotated)])
def test_label_maps_come_back_pixel_for_pixel(tmp_path, kind, accepted):
    written = kind()
    for seed, stem in enumerate("ab"):
        save_photo(tmp_path / "source" / f"{stem}.png", (48, 32))
        written.add(f"{stem}.png", label_map(seed), NAMES)
    write_json(tmp_path / "source" / "x.json", accepted(json.loads(json.dumps(written.content()))))
    found = names_of(imported(tmp_path))
    for seed, stem in enumerate("ab"):
        assert found[stem] == np.array(list(NAMES.values()))[label_map(seed)].tolist()


@pytest.mark.parametrize("covered", [np.zeros((3, 4)), np.ones((3, 4)), np.eye(7), np.ones((300, 200))])
def test_brush_strokes_of_any_length_are_read_back(covered):
    assert np.array_equal(brush_pixels(brush(covered.astype(bool)), *covered.shape, "here"), covered)


@pytest.mark.parametrize("annotations", ["coco", "label-studio"])
def test_segment_writes_one_file_for_all_images(tmp_path, checkpoint, annotations):
    for stem in "ab":
        save_photo(tmp_path / "photos" / f"{stem}.png", (48, 32))
    args = SegmentArguments(model=str(checkpoint), out=str(tmp_path / "out"), annotations=annotations)
    assert segment_files([str(tmp_path / "photos")], args) == 0
    (file,) = (tmp_path / "out").glob(f"*.{annotations}.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    given = content["images"] if annotations == "coco" else [task["data"] for task in content]
    assert [next(value for value in each.values() if isinstance(value, str)) for each in given] == [
        str(tmp_path / "photos" / f"{stem}.png") for stem in "ab"
    ]
    if annotations == "coco":
        mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
        areas = {each["category_id"] - 1: each["area"] for each in content["annotations"] if each["image_id"] == 1}
        assert areas == {int(value): int((mask == value).sum()) for value in np.unique(mask)}
