"""The checkpoint that ships with the repository: small, complete, without a tower, and it knows a street."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.prediction.segment import segment_images

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"


@pytest.fixture(scope="module")
def loaded():
    return load_model(CHECKPOINT)


def test_weights_are_under_8_megabytes_and_hold_no_tower():
    weights = CHECKPOINT / "model.safetensors"
    assert weights.stat().st_size < 8e6
    with safe_open(weights, framework="pt") as file:
        assert not [name for name in file.keys() if name.startswith("text_model")]  # noqa: SIM118  not a dict


def test_all_checkpoints_together_are_under_30_megabytes():
    sizes = [path.stat().st_size for path in CHECKPOINT.parent.glob("*/model.safetensors")]
    assert len(sizes) > 1 and max(sizes) < 8e6 and sum(sizes) < 30e6


def test_photograph_of_a_street_has_its_sky_above_its_road(loaded):
    model, processor = loaded
    ids = segment_images(model, processor, [Image.open(ROOT / "docs" / "demo" / "street.jpg")])[0].numpy()
    label2id = model.config.label2id
    assert np.mean(ids[:80] == label2id["sky"]) > 0.8
    assert np.mean(ids[-100:, 250:750] == label2id["road"]) > 0.8


def test_classes_can_be_chosen_by_name(loaded):
    model, processor = loaded
    chosen = [model.config.label2id[name] for name in ("road", "sky")]
    image = Image.open(ROOT / "docs" / "demo" / "street.jpg")
    ids = segment_images(model, processor, [image], class_embeddings=model.class_embeddings[chosen])[0].numpy()
    assert np.mean(ids[:80] == 1) > 0.9
    assert np.mean(ids[-100:, 250:750] == 0) > 0.9


@torch.no_grad()
def test_other_images_of_a_batch_change_little_where_they_add_little_padding(loaded):
    """They change something, for the network sees the padding; what the others show makes no difference."""
    model, processor = loaded
    image = Image.open(ROOT / "docs" / "demo" / "street.jpg").resize((256, 192))
    others = [Image.new("RGB", (288, 224), colour) for colour in ("black", "white")]
    alone = model(**processor(image, do_resize=False, return_tensors="pt")).logits[0]
    black, white = (
        model(**processor([image, other], do_resize=False, return_tensors="pt")).logits[0, :, :48, :64]
        for other in others
    )
    torch.testing.assert_close(black, white)
    assert (alone.argmax(dim=0) == black.argmax(dim=0)).float().mean() > 0.95


@pytest.mark.slow
def test_camvid_test_score_is_the_published_one(loaded, real_data, tmp_path):
    import json

    from lclipseg.data.arguments import PrepareArguments
    from lclipseg.data.open import load_segmentation_data
    from lclipseg.data.prepare import prepare

    prepare("camvid", PrepareArguments(source=str(real_data / "camvid"), out=str(tmp_path / "camvid")))
    scores = evaluate_model(*loaded, load_segmentation_data(tmp_path / "camvid", "test"))
    published = json.loads((ROOT / "docs" / "results" / "lclipseg-mbv3s-camvid.json").read_text())["scores"]
    assert scores.mean_iou == pytest.approx(published["mean_iou"], abs=1e-4)
