"""Training that begins with a checkpoint: its weights, with the data's classes, or with another head."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import save_checkpoint, tiny_model
from tiny_run import run
from transformers import AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.networks.class_embeddings import EVERYDAY_WORDS
from lclipseg.training.arguments import ModelArguments, RunArguments, settle_defaults
from lclipseg.training.start import Start, begin
from modeling_lclipseg import WordBank


def start(
    source: Path, *names: str, shortest_edge: int | None = None, prompts: dict | None = None, **options
) -> Start:
    classes = ClassList(names, tuple(tuple((prompts or {}).get(name, [name])) for name in names))
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


@pytest.mark.parametrize(
    ("model", "given", "settled"),
    [
        ({}, {}, (1e-3, "synced")),
        ({"start_from": "x"}, {}, (5e-4, "frozen")),
        ({"start_from": "x", "guidance": "none"}, {}, (1e-3, "synced")),
        ({"start_from": "x", "config": ["num_fusion_layers=1"]}, {}, (1e-3, "synced")),
        ({"start_from": "x"}, {"learning_rate": 1e-3, "batch_norm": "synced"}, (1e-3, "synced")),
    ],
)
def test_rate_and_statistics_are_gentle_with_a_checkpoint_that_is_taken_whole(model, given, settled):
    run_arguments = RunArguments(output_dir="run", **given)
    settle_defaults(ModelArguments(**model), run_arguments)
    assert (run_arguments.learning_rate, run_arguments.batch_norm) == settled


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


# ------------------------------------------------------------------------------------------------ words that ship here

TOWER = {"class_embed_dim": 512, "text_model_name_or_path": "openai/clip-vit-base-patch16"}


@pytest.fixture(scope="module")
def shipped() -> WordBank:
    return WordBank.load(EVERYDAY_WORDS)


@pytest.fixture(scope="module")
def everyday(tmp_path_factory, shipped) -> Path:
    """A checkpoint of the tower of the words that ship here, whose "sky" has left its word."""
    model = tiny_model(**TOWER).set_class_center(shipped.embeddings)
    model.set_classes(["sky", "sign symbol"], shipped.lookup(["clouds", "traffic sign"])).remember_classes()
    return save_checkpoint(tmp_path_factory.mktemp("everyday"), model)


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        ("cat", ["cat"], "cat"),
        ("sky", ["sky"], "clouds"),  # the checkpoint's own comes before the bank's
        ("pet", ["cat", "dog"], ("cat", "dog")),
        ("heaven", ["sky", "fog"], "clouds"),  # as the checkpoint alone would have it
        ("sign symbol", ["pictogram"], "traffic sign"),  # its name is a class of the checkpoint
        ("sign symbol", ["sky"], "clouds"),  # but its prompt comes first
    ],
)
def test_checkpoint_of_that_tower_takes_a_word_it_lacks_from_them(everyday, shipped, name, prompt, expected, caplog):
    begun = start(everyday, name, prompts={name: prompt})
    vector = shipped.lookup([expected] if isinstance(expected, str) else expected).mean(0)
    torch.testing.assert_close(begun.model.class_embeddings[0], torch.nn.functional.normalize(vector, dim=0))
    assert begun.origin["word_bank"]["file"] == "vitb16.safetensors"
    assert "no vector" not in caplog.text


def test_word_that_none_of_them_has_is_learned_from_the_words_inside_it(everyday, shipped, caplog):
    model = start(everyday, "left mirror").model
    assert "no vector is known for 'left mirror'" in caplog.text and model.class_embeddings.requires_grad
    assert model.class_embeddings[0] @ shipped.lookup(["mirror"])[0] > 0.9


@pytest.mark.parametrize("other", ["name", "vectors", "option"])
def test_checkpoint_of_another_tower_does_not_take_them(everyday, tmp_path, other):
    model = AutoModelForSemanticSegmentation.from_pretrained(everyday)
    if other == "name":
        model.config.text_model_name_or_path = "another/tower"
    elif other == "vectors":
        model.set_class_center(torch.eye(512)[:1])
    save_checkpoint(tmp_path / "other", model)
    begun = start(tmp_path / "other", "cat", text_model="another/tower" if other == "option" else None)
    assert begun.origin["word_bank"] is None and begun.model.class_embeddings.requires_grad


def test_name_of_a_class_of_the_checkpoint_comes_after_the_words_of_a_bank(trained, workspace):
    begun = start(
        trained, "sky", "road", prompts={"sky": ["heaven"], "road": ["car"]}, bank=str(workspace / "bank.safetensors")
    )
    expected = WordBank.load(workspace / "bank.safetensors").lookup(["sky", "car"])
    torch.testing.assert_close(begun.model.class_embeddings, expected)


def test_preset_of_that_tower_takes_them_if_they_are_all_there(workspace, shipped):
    preset = ModelArguments(model=str(workspace / "tiny.yaml"))
    begun = begin(preset, ClassList(("sky", "pet"), (("sky",), ("cat", "dog"))), set(), None, seed=0)
    torch.testing.assert_close(begun.model.class_embeddings[0], shipped.lookup(["sky"])[0])
    torch.testing.assert_close(begun.model.class_center, shipped.center)
    assert begun.model.config.text_model_name_or_path == TOWER["text_model_name_or_path"]
    assert len(begun.origin["word_bank"]["sha256"]) == 64


def test_preset_asks_the_tower_where_one_word_is_not_there(workspace):
    preset = ModelArguments(model=str(workspace / "tiny.yaml"))
    with pytest.raises(InputError, match=r"clip-vit-base-patch16.*--bank"):
        begin(preset, ClassList(("sky", "zebu"), (("sky",), ("zebu",))), set(), None, seed=0)


def test_run_says_which_bank_was_used(workspace, trained):
    record = json.loads((trained / "run.json").read_text())["word_bank"]
    assert record["file"] == str(workspace / "bank.safetensors") and len(record["sha256"]) == 64
