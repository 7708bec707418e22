"""The command that makes word banks, with a tiny text tower."""

import math

import numpy as np
import pytest
import torch
from tiny_tower import save_tower, tiny_tokenizer, tiny_tower

from lclipseg.commands import embed
from lclipseg.console.errors import InputError
from lclipseg.networks import embedding
from lclipseg.networks.arguments import EmbedArguments
from lclipseg.networks.embedding import embed_words, read_words, summarise_cosines
from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import embed_class_names


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> str:
    return str(save_tower(tmp_path_factory.mktemp("tower")))


def arguments(tmp_path, tower, **overrides) -> EmbedArguments:
    return EmbedArguments(**{"text_model": tower, "out": str(tmp_path / "words.safetensors"), **overrides})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("words.txt", "sky\n traffic light\ncar\n\n"),
        ("bom.txt", "\ufeffsky\r\ntraffic light\r\ncar"),
        ("list.json", '["sky", "traffic light", "car"]'),
        ("classes.json", '{"classes": ["sky", "sign", "car"], "prompts": {"sign": "traffic light"}}'),
    ],
)
def test_words_are_read_from_any_list(tmp_path, file, content):
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")
    assert read_words(str(tmp_path / file)) == ["sky", "traffic light", "car"]


@pytest.mark.parametrize("words", [["sky", "traffic light", "car"], [f"word {n}" for n in range(1000)]], ids=len)
def test_words_may_stand_on_the_command_line_though_they_be_longer_than_a_file_name(words):
    assert read_words(", ".join(words)) == words


@pytest.mark.parametrize("content", ["sky\n\ncar\n", "sky\ncar\nSKY\n", "", "\n"])
def test_blank_duplicate_or_no_words_in_a_file_are_errors_that_name_it(tmp_path, content):
    (tmp_path / "words.txt").write_text(content)
    with pytest.raises(InputError, match=r"words\.txt, one word a line: .*(blank|Duplicate|empty|every name)"):
        read_words(str(tmp_path / "words.txt"))


@pytest.mark.parametrize("source", ["", "sky,,car", "sky,car,sky"])
def test_blank_duplicate_or_no_words_on_the_command_line_are_errors(source):
    with pytest.raises(InputError, match="separated by commas: "):
        read_words(source)


@pytest.mark.parametrize("source", ["absent.txt", "absent.json", "some/where"])
def test_a_missing_file_is_not_taken_for_a_word(source):
    with pytest.raises(InputError, match=f"{source} is not a file"):
        read_words(source)


def test_a_file_that_is_no_text_is_an_error_that_names_it(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\x80\xff\x00")
    with pytest.raises(InputError, match=r"words\.txt cannot be read as UTF-8 text"):
        read_words(str(tmp_path / "words.txt"))


@pytest.mark.parametrize("count", [30, 1500])  # in one block, and in several
def test_cosines_are_those_of_all_pairs(count):
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(0))
    cosines = torch.cosine_similarity(rows[:, None], rows, dim=-1)[~torch.eye(count, dtype=torch.bool)]
    found = summarise_cosines(rows)
    expected = [cosines.mean(), cosines.min(), cosines.max()]
    np.testing.assert_allclose((found.mean, found.lowest, found.highest), expected, atol=1e-5)


def test_the_bank_holds_the_vectors_of_the_words(tmp_path, tower):
    templates = ["a photo of a {}", "the {}"]
    embed_words("sky,road", arguments(tmp_path, tower, templates=templates))
    bank = WordBank.load(tmp_path / "words.safetensors")
    assert (bank.names, bank.text_model, bank.prompt_templates) == (("sky", "road"), tower, tuple(templates))
    expected = embed_class_names(["sky", "road"], tiny_tower(), tiny_tokenizer(), templates)
    torch.testing.assert_close(bank.embeddings, expected)


def test_batches_do_not_change_the_vectors(tmp_path, tower, monkeypatch):
    words = ["sky", "road", "car", "tree", "sun"]
    monkeypatch.setattr(embedding, "BATCH_SIZE", 2)
    embed_words(",".join(words), arguments(tmp_path, tower))
    expected = embed_class_names(words, tiny_tower(), tiny_tokenizer(), ["a photo of a {}"])
    torch.testing.assert_close(WordBank.load(tmp_path / "words.safetensors").lookup(words), expected)


def test_the_report_tells_the_cosines_before_and_after_centring(tmp_path, tower, capsys):
    report = embed_words("sky,road,car", arguments(tmp_path, tower))
    bank = WordBank.load(tmp_path / "words.safetensors")
    different = ~np.eye(3, dtype=bool)
    for found, rows in (
        (report.raw, bank.embeddings),
        (report.centred, bank.embeddings - bank.embeddings.mean(dim=0)),
    ):
        cosines = torch.cosine_similarity(rows[:, None], rows, dim=-1).numpy()
        expected = [cosines[different].mean(), cosines[different].min(), cosines[different].max()]
        np.testing.assert_allclose((found.mean, found.lowest, found.highest), expected, atol=1e-5)
    printed = capsys.readouterr().out
    assert "3 words" in printed
    assert f"mean {report.raw.mean:.3f}" in printed and f"to {report.centred.highest:.3f}" in printed


def test_one_word_is_reported_without_cosines(tmp_path, tower, capsys):
    assert math.isnan(embed_words("sky", arguments(tmp_path, tower)).raw.mean)
    assert "no cosines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"out": "absent_folder/words.safetensors"}, "the folder absent_folder"),
        ({"out": "words.pt"}, r"words\.pt: a word bank is a file that ends in \.safetensors"),
        ({"templates": ["a photo"]}, r"hold \{\} once"),
        ({}, "'no-tower-here' cannot be loaded"),
    ],
)
def test_wrong_arguments_are_found_before_the_tower_is_loaded(tmp_path, overrides, said):
    with pytest.raises(InputError, match=said):
        embed_words("sky", arguments(tmp_path, "no-tower-here", **overrides))


def test_a_word_too_long_for_the_tower_leaves_no_file(tmp_path, tower):
    with pytest.raises(InputError, match="the text tower reads 16"):
        embed_words("sky,pedestrian", arguments(tmp_path, tower))
    assert not list(tmp_path.iterdir())


def test_the_command_line_is_words_and_options():
    options = ["--text-model", "t", "--out", "o.safetensors", "--templates", "a {}", "the {}"]
    words, parsed = embed.parse(["sky,road", *options])
    assert (words, parsed) == ("sky,road", EmbedArguments("t", "o.safetensors", ["a {}", "the {}"]))
    assert embed.parse(["sky", "--text-model", "t"])[1].templates == ["a photo of a {}"]


def test_the_command_reports_a_mistake_without_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["embed", "absent.txt", "--text-model", "t", "--out", str(tmp_path / "w.safetensors")]
    )
    with pytest.raises(SystemExit) as exit_status:
        embed.command()
    assert exit_status.value.code == 2
    assert capsys.readouterr().err.startswith("error: the list of words absent.txt")
