"""One word bank from several tensors: cleaned words, the first tensor's vectors, and what stands in the file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lclipseg.commands.merge_banks import parse
from lclipseg.console.errors import InputError
from lclipseg.data.sources.recipe import Recipe
from lclipseg.networks.arguments import MergeArguments
from lclipseg.networks.word_banks import clean_word, merge_banks, merge_tensors
from modeling_lclipseg import WordBank

TOWER = "openai/clip-vit-base-patch32"


def write_published(folder: Path, **names_file) -> str:
    """Tensors "a" and "b"; each row is a unit vector of its own, longer than 1 as published ones may be."""
    names = {"a": ["Hat", "Suit", "Wine Glass"], "b": ["suit_(clothing)", "tank_top_(clothing)", "hat", "tie"]}
    tensors = {"a": 9 * torch.eye(4)[:3], "b": 7 * torch.eye(4).flip(0)}
    save_file({key: tensor.half() for key, tensor in tensors.items()}, folder / "published.safetensors")
    (folder / "published_names.json").write_text(json.dumps({"names": names, **names_file}))
    return str(folder / "published.safetensors")


@pytest.fixture
def published(tmp_path) -> str:
    return write_published(tmp_path)


@pytest.fixture
def options(tmp_path) -> MergeArguments:
    return MergeArguments(["a", "b"], TOWER, "a {}", str(tmp_path / "merged.safetensors"))


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("legging_(clothing)", "legging"),
        ("Drum (musical instrument)", "Drum"),
        ("tank_top_(clothing)", "tank top"),
        ("pan_(for_cooking)_lid", "pan lid"),
        ("hot-air  balloon", "hot-air balloon"),
        ("(unknown)", ""),
    ],
)
def test_names_are_cleaned(given, cleaned):
    assert clean_word(given) == cleaned


def test_words_of_all_keys_are_there_once(published, options):
    assert merge_tensors(published, options).names == ("Hat", "Suit", "Wine Glass", "tank top", "tie")


def test_first_key_gives_the_vector(published, options):
    wanted = ["suit", "tank top"]
    assert merge_tensors(published, options).lookup(wanted).tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    turned = merge_tensors(published, replace(options, keys=["b", "a"]))
    assert turned.lookup(wanted).tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]


def test_name_without_a_word_is_left_out():
    bank = WordBank(("(unknown)", "hat"), torch.eye(2))
    merged, counts = merge_banks([bank], TOWER, "a {}")
    assert (merged.names, counts) == (("hat",), [1])


def test_written_bank_says_what_made_it(published, options):
    merged = merge_tensors(published, options)
    written = WordBank.load(options.out)
    assert (written.names, written.text_model, written.prompt_templates) == (merged.names, TOWER, ("a {}",))
    assert torch.equal(written.embeddings, merged.embeddings)


def test_words_of_each_key_are_counted(published, options, caplog):
    with caplog.at_level("INFO", logger="lclipseg"):
        merge_tensors(published, options)
    assert caplog.messages[:2] == ["a: 3 of 3 words", "b: 2 of 4 words"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ["a", "c"]}, "no key 'c'.*one of: a, b"),
        ({"template": "a photo"}, "must hold"),
        ({"out": "merged.pt"}, "ends in .safetensors"),
        ({"text_model": "openai/clip-vit-base-patch16"}, "says that it comes from 'openai/clip-vit-base-patch32'"),
    ],
)
def test_mistakes_are_named(tmp_path, options, change, message):
    published = write_published(tmp_path, text_model=TOWER)
    with pytest.raises(InputError, match=message):
        merge_tensors(published, replace(options, **change))


def test_vectors_of_different_widths_are_refused():
    narrow, wide = WordBank(("hat",), torch.ones(1, 4)), WordBank(("tie",), torch.ones(1, 5))
    with pytest.raises(ValueError, match=r"one width, got \[4, 5\]"):
        merge_banks([narrow, wide], TOWER, "a {}")


def test_command_line_is_parsed():
    options = ["--keys", "a", "b", "--text_model", TOWER, "--template", "a {}", "--out", "x.safetensors"]
    assert parse(["bank.safetensors", *options]) == (
        "bank.safetensors",
        MergeArguments(["a", "b"], TOWER, "a {}", "x.safetensors"),
    )


def test_published_file_has_every_prompt_of_ccp(real_data, options):
    published = real_data / "clip_text" / "clip_vitb32_text.safetensors"
    keys = ["oid500.a", "objects365.a", "coco80.a", "lvis1203.a"]
    bank = merge_tensors(str(published), replace(options, keys=keys))
    assert bank.lookup([word for (word,) in Recipe.load("ccp").kept.prompts]).shape == (36, 512)
