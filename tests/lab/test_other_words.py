"""Other words for the classes of a checkpoint: the lists, the scores, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_model import NAMES, tiny_model
from written_data import write_data

from lclipseg.console.errors import InputError
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.words import other_words
from lclipseg.lab.words.other_words import OtherWordsArguments, load_words, parse
from lclipseg.prediction.evaluate import evaluate_model
from modeling_lclipseg import LClipSegImageProcessor, WordBank

LISTS = sorted((Path(__file__).resolve().parents[2] / "configuration" / "other_words").glob("*.yaml"))


@pytest.fixture
def options(tmp_path) -> OtherWordsArguments:
    """Other words: one with the very vector of a class, and one of its own."""
    vectors = tiny_model().class_embeddings
    WordBank(("air", "lorry"), torch.stack([vectors[0], -vectors[2]])).save(tmp_path / "bank.safetensors")
    (tmp_path / "same.yaml").write_text("words: {Sky: air}\n")
    (tmp_path / "new.yaml").write_text("words: {car: lorry}\n")
    return OtherWordsArguments(
        data=str(write_data(tmp_path / "data")),
        words=[str(tmp_path / "same.yaml"), str(tmp_path / "new.yaml")],
        bank=str(tmp_path / "bank.safetensors"),
        out=str(tmp_path / "scores.jsonl"),
    )


def test_own_words_come_first_and_every_list_twice_and_the_same_vector_changes_nothing(checkpoint, options):
    rows = other_words.main(str(checkpoint), options)
    kinds = [(words, vectors) for words in ("same", "new") for vectors in ("as they are", "projected")]
    assert [(row.words, row.vectors) for row in rows] == [("own", "own"), *kinds]
    assert rows[0].scores == rows[1].scores == rows[2].scores


def test_scores_are_those_of_a_model_with_the_words_vectors(checkpoint, options):
    vectors = tiny_model().class_embeddings.clone()
    vectors[2] *= -1
    data = load_segmentation_data(options.data, "test")
    expected = evaluate_model(tiny_model().set_classes(NAMES, vectors), LClipSegImageProcessor(do_resize=False), data)
    rows = other_words.main(str(checkpoint), options)
    assert rows[3].scores == expected
    assert rows[3].scores != rows[0].scores


def test_cosines_are_with_the_nearest_own_word(checkpoint, options):
    own, same, _, new, _ = other_words.main(str(checkpoint), options)
    assert own.cosines == pytest.approx([1, 1, 1], abs=1e-5)
    assert same.cosines == pytest.approx([1, 1, 1], abs=1e-5)
    assert new.cosines[:2] == pytest.approx([1, 1], abs=1e-5)
    vectors = torch.nn.functional.normalize(tiny_model().class_embeddings, dim=1)  # the tiny model has no centre
    assert new.cosines[2] == pytest.approx(float((-vectors[2] @ vectors.T).max()), abs=1e-5)


def test_lines_are_added_with_what_made_them(checkpoint, options):
    rows = other_words.main(str(checkpoint), replace(options, limit=2))
    other_words.main(str(checkpoint), options)
    lines = [json.loads(line) for line in Path(options.out).read_text().splitlines()]
    assert len(lines) == 2 * len(rows)
    assert lines[1]["scores"] == rows[1].scores.to_dict()
    assert (lines[1]["words"], lines[1]["vectors"], lines[1]["num_images"]) == ("same", "as they are", 2)
    assert (lines[1]["model"], lines[1]["guidance"], lines[1]["split"]) == (str(checkpoint), "fusion", "test")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("words: {lake: pond}", r"\['lake'\].*it has \['sky', 'road', 'car'\]"),
        ("words: [air]", "must be `words"),
        ("words: {sky: 3}", "must be `words"),
        ("words: {sky", "not valid YAML"),
    ],
)
def test_list_of_another_form_is_refused(tmp_path, text, said):
    (tmp_path / "words.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_words(tmp_path / "words.yaml", NAMES)


def test_missing_list_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        load_words(tmp_path / "none.yaml", NAMES)


@pytest.mark.parametrize(("guidance", "said"), [("fusion", "'heaven'"), ("none", "bound to the 3 classes")])
def test_word_without_a_vector_and_closed_vocabulary_are_refused(checkpoint, options, guidance, said):
    Path(options.words[0]).write_text("words: {sky: heaven}")
    tiny_model(guidance=guidance).save_pretrained(checkpoint)
    with pytest.raises(InputError, match=said):
        other_words.main(str(checkpoint), options)


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_lists_of_the_project_can_be_read(path):
    content = path.read_text(encoding="utf-8")
    names = [line.split(":")[0].strip() for line in content.split("words:\n")[1].splitlines()]
    assert len(set(load_words(path, names))) == len(names)


def test_command_line_is_parsed():
    given = ["--data", "d", "--words", "a.yaml", "b.yaml", "--bank", "b.safetensors", "--split", "val"]
    expected = OtherWordsArguments("d", ["a.yaml", "b.yaml"], "b.safetensors", split="val")
    assert parse(["runs/a/best", *given]) == ("runs/a/best", expected)
