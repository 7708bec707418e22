"""Training that begins with a checkpoint: its weights, with the data's classes, or with another head."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.training.arguments import ModelArguments
from lclipseg.training.start import Start, begin
from modeling_lclipseg import WordBank


def start(source: Path, *names: str, shortest_edge: int | None = None, **options) -> Start:
    classes = ClassList(names, tuple((name,) for name in names))
    return begin(ModelArguments(start_from=str(source), **options), classes, set(names), shortest_edge, seed=0)


def differing(model, checkpoint: Path) -> set[str]:
    """Tensors of the model that the checkpoint lacks or has with other values."""
    stored = load_file(checkpoint / "model.safetensors")
    return {
        name
        for name, value in model.state_dict().items()
        if name not in stored or stored[name].shape != value.shape or not torch.equal(stored[name], value)
    }


@pytest.fixture(scope="module")
def trained(whole_runs) -> Path:
    """The folder of a finished run, with the classes sky and road."""
    return whole_runs["alone"]


@pytest.fixture(scope="module")
def classifier(workspace, tmp_path_factory) -> Path:
    """A run without text."""
    folder = tmp_path_factory.mktemp("classifier") / "run"
    run(workspace, folder, "--guidance", "none", "--epochs", "0.4")
    return folder


def test_run_stands_for_its_best_checkpoint(trained):
    begun = start(trained, "sky", "road")
    assert differing(begun.model, trained / "best") == set()
    assert begun.origin["started_from"]["model"] == str(trained / "best")
    assert "config" in begun.origin["preset"]


@pytest.mark.parametrize(("asked", "expected"), [(None, 48), (64, 64), (0, None)])
def test_images_have_the_size_of_the_checkpoint_unless_another_or_their_own_is_asked_for(trained, asked, expected):
    processor = start(trained, "sky", "road", shortest_edge=asked).image_processor
    assert (processor.size.shortest_edge if processor.do_resize else None) == expected


def test_classes_of_the_data_take_their_vectors_from_the_bank(workspace, trained, tmp_path):
    words = WordBank.load(workspace / "bank.safetensors")
    bank = WordBank(words.names, words.embeddings.roll(1, dims=0))  # others than the checkpoint has
    bank.save(tmp_path / "bank.safetensors")
    model = start(trained, "tree", "sky", bank=str(tmp_path / "bank.safetensors")).model
    assert differing(model, trained / "best") == {"class_embeddings"}
    assert model.config.id2label == {0: "tree", 1: "sky"}
    torch.testing.assert_close(model.class_embeddings.data, bank.lookup(["tree", "sky"]))


def test_word_that_nobody_knows_is_named_and_learned(workspace, trained, tmp_path, caplog):
    """The second data set's "street" is the "road" that the checkpoint knows; its "tree" is new."""
    run(workspace, tmp_path / "run", "--start_from", str(trained), "--data", str(workspace / "other"))
    assert "no vector is known for 'tree'" in caplog.text and "street" not in caplog.text
    vectors = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last").class_embeddings
    before = AutoModelForSemanticSegmentation.from_pretrained(trained / "best").class_embeddings
    begun = start(trained, "road", "tree").model.class_embeddings
    torch.testing.assert_close(vectors[0], before[1], rtol=0, atol=0)
    assert (vectors[1] - begun[1]).abs().max() > 1e-4


@pytest.mark.parametrize("guidance", ["lseg", "denseclip", "none"])
def test_another_guidance_takes_over_what_both_have_and_names_the_rest(trained, caplog, guidance):
    model = start(trained, "sky", "road", guidance=guidance).model
    assert model.config.guidance == guidance
    new = differing(model, trained / "best")
    assert not any(name.startswith("backbone.") for name in new)
    assert all(name.rsplit(".", 1)[0].startswith(tuple(anew_of(caplog.text))) for name in new - {"class_embeddings"})


def anew_of(text: str) -> list[str]:
    """The modules that a warning names; an empty name where there is none, which every name begins with."""
    return text.split("these begin anew: ")[1].strip().split(", ") if "begin anew" in text else []


def test_classifier_is_trained_on_with_its_own_classes(classifier):
    assert differing(start(classifier, "sky", "road").model, classifier / "best") == set()


def test_classifier_has_no_text_space_for_another_guidance(classifier):
    with pytest.raises(InputError, match=r"has guidance 'none'.*train it on as --guidance none"):
        start(classifier, "sky", "road", guidance="fusion")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lclipseg-mbv3"}, "brings its own network; leave --model lclipseg-mbv3 out"),
        ({"backbone_weights": "none"}, "brings all weights; leave --backbone_weights out"),
        ({"config": ["hidden_size=15"]}, r"cannot be built with .*hidden_size"),
    ],
)
def test_what_does_not_go_with_a_checkpoint_is_an_input_error(trained, options, message):
    with pytest.raises(InputError, match=message):
        start(trained, "sky", "road", **options)


def test_run_without_a_checkpoint_is_told(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="is a run without a checkpoint yet"):
        start(tmp_path, "sky")


def test_bank_of_another_width_is_refused(trained, tmp_path):
    WordBank(("sky", "road"), torch.randn(2, 16)).save(tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match=r"has vectors of width 16, but --start_from .* takes 32"):
        start(trained, "sky", "road", bank=str(tmp_path / "narrow.safetensors"))


@pytest.fixture
def centred(trained, tmp_path) -> Path:
    """A checkpoint whose text tower's common direction is the first axis, and whose "road" has left it."""
    model = AutoModelForSemanticSegmentation.from_pretrained(trained / "best")
    first, second = torch.eye(model.config.class_embed_dim)[:2]
    model.set_class_center(first[None]).class_embeddings = torch.stack([first, second])
    model.save_pretrained(tmp_path / "centred")
    shutil.copy(trained / "best" / "preprocessor_config.json", tmp_path / "centred")
    return tmp_path / "centred"


def test_learned_class_is_trained_on_wherever_its_vector_has_gone(centred):
    model = start(centred, "road", "sky").model
    torch.testing.assert_close(model.class_embeddings.detach(), torch.eye(32)[[1, 0]])


def test_bank_of_another_tower_is_refused(centred, tmp_path):
    WordBank(("sky", "road"), torch.eye(32)[2:4], "another/tower").save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors.*do not come from this checkpoint's text tower"):
        start(centred, "sky", "road", bank=str(tmp_path / "other.safetensors"))
