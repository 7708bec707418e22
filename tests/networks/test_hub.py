"""The Hub where it cannot be reached."""

import time

import pytest
from tiny_model import tiny_model

from lclipseg.console.errors import InputError
from lclipseg.data.files import check_source_exists
from lclipseg.data.open import load_segmentation_data
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import take_classes
from lclipseg.networks.folders import check_at_hand
from lclipseg.networks.presets import check_weights_at_hand


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


def test_offline_a_repository_is_looked_for_in_the_cache_before_torch_is_imported(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="a/b is no folder, and not in the cache of the Hub"):
        check_at_hand("a/b")
    kept = tmp_path / "models--a--b"
    for path, text in {"refs/v1": "1" * 40, f"snapshots/{'1' * 40}/config.json": "{}"}.items():
        (kept / path).parent.mkdir(parents=True)
        (kept / path).write_text(text)
    check_at_hand("a/b", "v1")
    with pytest.raises(InputError, match="not in the cache"):
        check_at_hand("a/b")


def test_offline_data_are_looked_for_in_both_caches_before_torch_is_imported(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "made"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_folder").mkdir()
    with pytest.raises(InputError, match=r"no data source my_foldr: .*\(did you mean my_folder\?\)"):
        check_source_exists("my_foldr")
    for name, kept in {"a/b": "hub/datasets--a--b", "c/d": "made/c___d"}.items():
        with pytest.raises(InputError, match="not in the caches"):
            check_source_exists(name)
        (tmp_path / kept).mkdir(parents=True)
        check_source_exists(name)


@pytest.mark.parametrize("given", [None, "timm/another"])
def test_offline_the_weights_of_a_backbone_are_too(given, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"backbone weights: timm/.* is no folder, .* or 'none'"):
        check_weights_at_hand("lclipseg-mbv3", given)
    check_weights_at_hand("lclipseg-mbv3", "none")


def test_what_can_be_no_repository_is_said(tmp_path):
    with pytest.raises(InputError, match="a model is neither a folder nor the name of a repository"):
        check_at_hand("a model")
