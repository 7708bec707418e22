"""The Hub where it cannot be reached."""

import time

import pytest
from tiny_model import tiny_model

from lclipseg.console.errors import InputError
from lclipseg.data.open import load_segmentation_data
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import take_classes


@pytest.mark.parametrize(
    "asked",
    [
        lambda: load_model("nobody/nothing"),
        lambda: load_segmentation_data("nobody/photos", "train"),
        lambda: take_classes(tiny_model(text_model_name_or_path="nobody/tower"), ["a word of no bank"]),
    ],
)
def test_a_hub_that_does_not_answer_is_told_at_once(asked, monkeypatch, caplog):
    from huggingface_hub import constants

    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)  # between attempts
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(InputError, match="nobody/"):
        asked()
    assert not waited
    assert "127.0.0.1 cannot be reached (Connection refused)" in caplog.text
    assert "HF_HUB_OFFLINE=1 does so without asking" in caplog.text
