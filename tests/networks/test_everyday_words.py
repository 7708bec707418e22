"""The words that ship here: who may use them, what comes before them, and what is said of a word that is not there."""

import pytest
import torch
from tiny_model import NAMES, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.networks.class_embeddings import EVERYDAY_WORDS, everyday_words, take_classes
from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

TOWER = {
    "class_embed_dim": 512,
    "text_model_name_or_path": "openai/clip-vit-base-patch16",
    "prompt_templates": ["a photo of a {}"],
}


@pytest.fixture
def bank() -> WordBank:
    return WordBank.load(EVERYDAY_WORDS)


def test_bank_names_its_tower_and_has_every_word_once(bank):
    assert (bank.text_model, list(bank.prompt_templates)) == (
        TOWER["text_model_name_or_path"],
        TOWER["prompt_templates"],
    )
    assert len({fold_name(word) for word in bank.names}) == len(bank.names) == 360
    assert EVERYDAY_WORDS.stat().st_size < 800_000


def test_own_class_keeps_its_vector_and_another_word_has_that_of_the_bank(bank):
    model = tiny_model(**TOWER)
    own = model.class_embeddings[0].clone()
    take_classes(model, ["cat", "Sky"])
    assert torch.equal(model.class_embeddings[1], own)
    torch.testing.assert_close(model.class_embeddings[0], bank.lookup(["cat"])[0])


def test_class_of_several_words_has_their_mean(bank):
    model = tiny_model(**TOWER)
    take_classes(model, ["pet", "sky"], [["cat", "dog"], "sky"])
    expected = torch.nn.functional.normalize(bank.lookup(["cat", "dog"]).mean(dim=0), dim=0)
    torch.testing.assert_close(model.class_embeddings[0], expected)


def test_bank_that_is_given_comes_instead(bank, tmp_path):
    WordBank(("cat",), bank.lookup(["dog"]), bank.text_model).save(tmp_path / "mine.safetensors")
    model = tiny_model(**TOWER)
    take_classes(model, ["cat"], bank=str(tmp_path / "mine.safetensors"))
    torch.testing.assert_close(model.class_embeddings, bank.lookup(["dog"]))


@pytest.mark.parametrize(
    "other",
    [
        {"text_model_name_or_path": "openai/clip-vit-base-patch32"},
        {"text_model_name_or_path": None},
        {"prompt_templates": ["a drawing of a {}"]},
        {"class_embed_dim": 32},
    ],
    ids=str,
)
def test_checkpoint_of_another_tower_does_not_use_them(other):
    assert everyday_words(tiny_model(**{**TOWER, **other})) is None


def test_tower_in_a_folder_of_its_name_is_the_same():
    assert everyday_words(tiny_model(**{**TOWER, "text_model_name_or_path": "/models/clip-vit-base-patch16/"}))


def test_classes_of_the_checkpoint_are_not_among_them():
    names = everyday_words(tiny_model(**TOWER)).names
    assert not {fold_name(name) for name in NAMES} & {fold_name(name) for name in names}


def test_word_that_is_nowhere_is_answered_with_the_nearest_one(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"no vector for 'elefant'.*did you mean 'elephant'"):
        take_classes(tiny_model(**TOWER), ["elefant", "cat"])
