"""Word banks, tiny and made here."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import NAMES

from modeling_lclipseg import WordBank


def write_bank(folder: Path, tensors: dict[str, torch.Tensor], names: dict[str, list[str]], **content) -> Path:
    save_file(tensors, folder / "bank.safetensors")
    (folder / "bank_names.json").write_text(json.dumps({"names": names, **content}), encoding="utf-8")
    return folder / "bank.safetensors"


def random_rows(count: int, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


def test_lookup_follows_the_asked_order_whatever_case_and_white_space():
    bank = WordBank(("sky", "Traffic light", "car"), torch.eye(3))
    assert torch.equal(bank.lookup([" CAR", "traffic   LIGHT"]), torch.eye(3)[[2, 1]])


def test_of_a_word_that_stands_twice_the_first_row_counts():
    bank = WordBank(("sky", "car", "Sky"), torch.eye(3))
    assert torch.equal(bank.lookup(["sky"]), torch.eye(3)[:1])


def test_missing_words_are_all_named_with_the_closest_ones_and_the_ways_out():
    bank = WordBank(("aerosol_can", "sky", "Road"), torch.eye(3))
    with pytest.raises(ValueError, match=r"lacks 3 of the 4.*`lclipseg embed WORDS.*a word bank that") as error:
        bank.lookup(["aerosol can", "sky", "roads", "zzz"])
    for said in ("'aerosol can' (closest: 'aerosol_can')", "'roads' (closest: 'Road')", "'zzz' (closest: none)"):
        assert said in str(error.value)


def test_center_is_the_mean_of_the_unit_rows():
    bank = WordBank(("sky", "car"), torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    torch.testing.assert_close(bank.center, torch.tensor([0.3, 0.9]))


@pytest.mark.parametrize(("names", "rows"), [((), torch.zeros(0, 3)), (("sky",), torch.eye(2))])
def test_a_bank_has_a_word_for_every_row(names, rows):
    with pytest.raises(ValueError, match=f"{len(names)} words for {len(rows)} vectors"):
        WordBank(names, rows)


def test_a_bank_comes_back_as_it_was_saved(tmp_path):
    bank = WordBank(("sky", "café"), random_rows(2), "openai/clip-vit-base-patch16", ("a photo of a {}",))
    bank.save(tmp_path / "words.safetensors")
    found = WordBank.load(tmp_path / "words.safetensors")
    assert (found.names, found.text_model) == (("sky", "café"), "openai/clip-vit-base-patch16")
    assert found.prompt_templates == ("a photo of a {}",)
    torch.testing.assert_close(found.embeddings, bank.embeddings)


def test_saving_replaces_a_bank_and_leaves_nothing_else(tmp_path):
    WordBank(("sky", "car"), torch.eye(2)).save(tmp_path / "words.safetensors", key="old")
    WordBank(("road",), torch.ones(1, 2)).save(tmp_path / "words.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["words.safetensors", "words_names.json"]
    assert list(load_file(tmp_path / "words.safetensors")) == ["words"]
    assert WordBank.load(tmp_path / "words.safetensors").names == ("road",)


def test_a_failed_save_leaves_the_old_bank(tmp_path, monkeypatch):
    WordBank(("sky", "car"), torch.eye(2)).save(tmp_path / "words.safetensors")

    def disk_full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_text", disk_full)
    with pytest.raises(OSError, match="no space left"):
        WordBank(("road",), torch.ones(1, 2)).save(tmp_path / "words.safetensors")
    assert WordBank.load(tmp_path / "words.safetensors").names == ("sky", "car")
    assert sorted(os.listdir(tmp_path)) == ["words.safetensors", "words_names.json"]


def test_vectors_of_a_new_bank_never_stand_beside_the_words_of_the_old_one(tmp_path, monkeypatch):
    WordBank(("sky", "car"), torch.eye(2)).save(tmp_path / "words.safetensors")
    replace = os.replace

    def interrupted_at_the_words(source, target):
        if str(target).endswith("_names.json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("os.replace", interrupted_at_the_words)
    with pytest.raises(KeyboardInterrupt):
        WordBank(("road", "tree"), torch.eye(2)).save(tmp_path / "words.safetensors")
    with pytest.raises(ValueError, match=r"words_names\.json does not exist"):
        WordBank.load(tmp_path / "words.safetensors")


def test_rows_of_any_length_in_half_precision_are_read(tmp_path):
    rows = (12 * random_rows(3, width=512)).half()
    path = write_bank(tmp_path, {"a": rows}, {"a": NAMES})
    expected = rows.double() / rows.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(WordBank.load(path).embeddings, expected.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("keys", "ask", "chosen"),
    [
        (["any"], "", "any"),
        (["other", "words", "bank.single"], "", "words"),
        (["other", "bank.single"], "", "bank.single"),
        (["words", "other"], "#other", "other"),
    ],
)
def test_the_tensor_is_the_one_asked_for_or_the_default(tmp_path, keys, ask, chosen):
    path = write_bank(tmp_path, {key: torch.eye(1) for key in keys}, {key: [f"word of {key}"] for key in keys})
    assert WordBank.load(f"{path}{ask}").names == (f"word of {chosen}",)


@pytest.mark.parametrize(("ask", "said"), [("", "No key is chosen"), ("#c", "There is no key 'c'")])
def test_without_a_clear_tensor_the_keys_are_listed(tmp_path, ask, said):
    path = write_bank(tmp_path, {key: torch.eye(1) for key in "ab"}, {key: ["sky"] for key in "ab"})
    with pytest.raises(ValueError, match=rf"{said}.*#KEY with one of: a, b"):
        WordBank.load(f"{path}{ask}")


def test_the_text_tower_of_a_bank_may_be_unknown(tmp_path):
    path = write_bank(tmp_path, {"words": torch.eye(1)}, {"words": ["sky"]})
    assert WordBank.load(path).text_model is None


NO_WORDS = ["{", "[]", '{"names": ["sky"]}', '{"names": {"other": ["sky"]}}', '{"names": {"words": [5]}}']


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        *(("bank_names.json", content, r"The list of words .*bank_names\.json") for content in NO_WORDS),
        ("bank.safetensors", "damaged", r"bank\.safetensors cannot be read as safetensors"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, file, content, said):
    path = write_bank(tmp_path, {"words": torch.eye(1)}, {"words": ["sky"]})
    (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=said):
        WordBank.load(path)


@pytest.mark.parametrize(
    ("words", "fields", "said"),
    [
        (["sky", "car"], {}, r"bank\.safetensors, key 'words': 2 words for 1 vectors"),
        (["sky"], {"text_model": 5}, r"In .*bank_names\.json, `text_model` must be a name"),
        (["sky"], {"prompt_templates": "a {}"}, r"In .*bank_names\.json, `text_model` must be a name"),
    ],
)
def test_what_does_not_go_with_the_vectors_is_an_error_that_names_the_file(tmp_path, words, fields, said):
    path = write_bank(tmp_path, {"words": torch.eye(1)}, {"words": words}, **fields)
    with pytest.raises(ValueError, match=said):
        WordBank.load(path)


@pytest.mark.parametrize(
    ("source", "said"),
    [("no.safetensors", "no.safetensors does not"), ("no/b.safetensors", "no of"), ("b.npz", "ends")],
)
def test_a_bank_that_is_not_there_is_an_error_that_names_it(tmp_path, source, said):
    with pytest.raises(ValueError, match=said):
        WordBank.load(tmp_path / source)
