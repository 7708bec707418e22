"""How well scores tell words that are in an image from those that are not."""

import numpy as np
import pytest
import torch
from tiny_model import NAMES
from written_data import write_data

from lclipseg.console.errors import InputError
from lclipseg.lab.words import absent_words
from lclipseg.lab.words.absent_words import AbsentWordsArguments, compare
from modeling_lclipseg import WordBank


def test_area_is_the_share_of_pairs_in_which_the_right_one_is_higher():
    random = np.random.default_rng(0)
    right, wrong = random.integers(2, 9, 50) / 2, random.integers(0, 7, 40) / 2  # with ties
    pairs = np.sign(right[:, None] - wrong[None]) / 2 + 0.5
    assert compare(right, wrong)["auc"] == pytest.approx(pairs.mean())


def test_least_score_keeps_nine_of_ten_right_pixels():
    found = compare(np.arange(101.0), np.array([5.0, 9.5, 10.0, 50.0]))
    assert (found["least"], found["wrong_kept"]) == (pytest.approx(10), 0.5)


def test_both_scores_are_compared_on_the_images_that_lack_a_class(checkpoint, tmp_path, capsys):
    bank = str(tmp_path / "bank.safetensors")
    WordBank(("dog",), torch.randn(1, 32)).save(bank)
    data = str(write_data(tmp_path / "data", [*NAMES, "dog"]))
    found = absent_words.main(str(checkpoint), AbsentWordsArguments(data=data, split="test", absent=1, bank=bank))
    assert list(found) == ["highest logit", "highest probability"]
    assert found["highest probability"]["auc"] == 0  # of a single absent class it is always 1
    assert "| highest logit |" in capsys.readouterr().out
    with pytest.raises(InputError, match="lacks 2; give a lower --absent"):
        absent_words.main(str(checkpoint), AbsentWordsArguments(data=data, split="test", absent=2, bank=bank))
