"""A published run, loaded from a Hub and from a folder by a stranger's process, and published again; the checkpoints
that ship here, loaded by the code that each folder leads to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import finished_run
import pytest
import torch
from finished_run import REPO
from huggingface_hub import ModelCard
from loopback_hub import LoopbackHub, running_hub
from PIL import Image
from stranger import stranger
from tiny_model import NAMES
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from lclipseg.publishing.arguments import PublishArguments
from lclipseg.publishing.publish import publish
from lclipseg.publishing.repository import files_below

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))


@contextmanager
def connected_to(hub: LoopbackHub):
    """This very process takes the server for the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            patch.setattr(f"huggingface_hub.constants.{name}", value)
        patch.setenv("HF_TOKEN", "hf_loopback")
        yield


@pytest.fixture(scope="module")
def hub(base):
    """A Hub on which the run has been published."""
    with running_hub() as hub:
        with connected_to(hub):
            publish_copy(base, REPO)
        yield hub


@pytest.fixture
def connected(hub) -> Iterator[LoopbackHub]:
    with connected_to(hub):
        yield hub


def publish_copy(base: Path, repo: str, **options) -> None:
    out = base.with_name(f"publishing-{repo.replace('/', '-')}")
    publish(str(finished_run.finished_run(base)), PublishArguments(repo=repo, out=str(out), **options))


@pytest.fixture(scope="module")
def load_elsewhere(hub, tmp_path_factory) -> Iterator[Callable[..., list[dict]]]:
    cache = tmp_path_factory.mktemp("stranger")
    with stranger(cache, **hub.environment(str(cache))) as load:
        yield load


@pytest.fixture(scope="module")
def found(load_elsewhere) -> dict:
    """What a stranger gets from the Hub."""
    return load_elsewhere(REPO)[0]


@pytest.fixture(scope="module")
def found_here(load_elsewhere) -> dict[Path, dict]:
    """What a stranger gets from each folder that ships here, offline."""
    return dict(zip(SHIPPED, load_elsewhere(*map(str, SHIPPED), offline=True), strict=True))


def test_everything_is_published_in_one_commit(hub, folder):
    assert hub.repositories[REPO].messages == ["initial commit", "mIoU 11.11 on data, test"]
    assert set(hub.files(REPO)) == {".gitattributes", *map(str, files_below(folder))}


def test_card_passes_the_hub_s_validation(connected, folder):
    ModelCard.load(folder / "README.md").validate()
    assert connected.requests[-1] == ("POST", "/api/validate-yaml")


def test_stranger_gets_the_code_from_the_repository(found):
    assert all(name.startswith("transformers_modules.some_hyphen_org.tiny_hyphen_street") for name in found["modules"])
    assert (found["model_type"], found["classes"]) == ("lclipseg", dict(enumerate(NAMES)))


def test_stranger_gets_the_same_logits(found, original_logits):
    torch.testing.assert_close(found["logits"], original_logits)


def test_both_auto_classes_give_the_same_weights(found):
    assert found["state"].keys() == found["base_state"].keys()
    assert all(torch.equal(tensor, found["base_state"][name]) for name, tensor in found["state"].items())


def test_processor_prepares_images_as_its_image_processor_does(found):
    torch.testing.assert_close(found["processor_pixel_values"], found["pixel_values"])


def test_pipeline_is_ours_and_takes_classes(found):
    assert found["pipeline"] == "LClipSegPipeline"
    assert set(found["labels"]) <= set(NAMES)
    assert found["chosen"] == ["car"]


def test_what_a_stranger_saves_is_loaded_again(found):
    torch.testing.assert_close(found["saved"]["logits"], found["logits"], atol=1e-4, rtol=1e-3)


def test_code_of_the_card_runs(found):
    assert found["label_map"].shape == (64, 96)
    assert found["masks"] >= 1


def test_cache_and_folder_are_enough_without_a_network(found, hub, load_elsewhere, folder, original_logits):
    asked = len(hub.requests)
    for again in load_elsewhere(REPO, str(folder), offline=True):
        torch.testing.assert_close(again["logits"], original_logits)
        assert again["pipeline"] == "LClipSegPipeline"
        assert again["base_state"].keys() == again["state"].keys()
    assert len(hub.requests) == asked


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_stranger_s_auto_classes_give_the_same_logits(found_here, folder):
    inputs = AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (96, 64), "green"), return_tensors="pt")
    with torch.no_grad():
        expected = AutoModelForSemanticSegmentation.from_pretrained(folder)(**inputs).logits
    given = found_here[folder]
    assert all(name.startswith(("transformers_modules.", "transformers.pipelines")) for name in given["modules"])
    torch.testing.assert_close(given["logits"], expected, atol=1e-4, rtol=1e-3)  # threads may differ, so rounding does
    assert given["base_state"].keys() == given["state"].keys()
    assert given["labels"]


def test_what_a_stranger_saves_of_a_folder_is_loaded_by_its_own_code(found_here):
    given = found_here[SHIPPED[0]]
    saved = given["saved"]
    torch.testing.assert_close(saved["logits"], given["logits"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(saved["processor_pixel_values"], given["pixel_values"])
    assert not any("lclipseg_hyphen_" in name for name in saved["modules"])  # as their folders' code is called


def test_publishing_again_removes_what_is_stale_and_leaves_the_rest(connected, base):
    publish_copy(base, "some-org/again")
    repository = connected.repositories["some-org/again"]
    old, own = connected.store(b"old"), connected.store(b"own")
    files = repository.commits[repository.branches["main"]]
    repository.commit("main", {**files, "old_lclipseg.py": old, "onnx/model.onnx": old, "notes.txt": own}, "by hand")
    publish_copy(base, "some-org/again")
    assert set(connected.files("some-org/again")) == set(files) | {"notes.txt"}


def test_branch_is_made_and_main_left_alone(connected, base):
    publish_copy(base, "some-org/branches", revision="v2", private=True)
    assert set(connected.files("some-org/branches", "main")) == {".gitattributes"}
    assert "model.safetensors" in connected.files("some-org/branches", "v2")
    assert connected.repositories["some-org/branches"].private


def test_public_repository_is_not_taken_for_a_private_one(connected, base):
    publish_copy(base, "some-org/public")
    with pytest.raises(InputError, match="exists and is public"):
        publish_copy(base, "some-org/public", private=True)
