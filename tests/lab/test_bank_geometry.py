"""The geometry of class embeddings against cases worked out by hand."""

import math

import pytest
import torch

from lclipseg.console.errors import InputError
from lclipseg.lab.words import bank_geometry
from modeling_lclipseg import WordBank


def test_orthogonal_vectors_use_every_direction():
    row = bank_geometry.measure(torch.eye(4), lambda rows: torch.zeros(4))
    assert (row.mean, row.lowest, row.highest) == (0, 0, 0)
    assert row.effective_rank == pytest.approx(4)
    assert row.kept_lowest == pytest.approx(1)


def test_list_mean_of_orthogonal_vectors_gives_a_simplex():
    row = bank_geometry.measure(torch.eye(4), lambda rows: rows.mean(dim=0))
    assert row.mean == pytest.approx(-1 / 3)
    # By hand: (2, -1, -1, 0) / sqrt(6) times (3, -1, -1, -1) / sqrt(12).
    assert row.kept_mean == pytest.approx(8 / math.sqrt(72))


def test_command_measures_the_words_of_a_bank(tmp_path, capsys):
    common = torch.ones(8)
    WordBank(tuple("abcdefgh"), common + torch.eye(8)).save(tmp_path / "bank.safetensors")
    rows = bank_geometry.main(bank_geometry.GeometryArguments(str(tmp_path / "bank.safetensors"), "a, b, c"))
    assert rows["as they are"].mean > 0.8
    assert rows["minus the mean of the bank"].kept_lowest == pytest.approx(1)
    assert "bank of 8 words" in capsys.readouterr().out


def test_words_of_another_bank_are_held_against_both_means(tmp_path, capsys):
    WordBank(("a", "b", "c"), torch.tensor([[3.0, 4, 0], [3, -4, 0], [1, 0, 0]])).save(tmp_path / "one.safetensors")
    WordBank(("d",), torch.tensor([[0.0, 0, 2]])).save(tmp_path / "two.safetensors")
    paths = [str(tmp_path / name) for name in ("one.safetensors", "two.safetensors")]
    bank_geometry.main(bank_geometry.GeometryArguments(paths[0], "a, b, c", paths[1]))
    printed = capsys.readouterr().out
    assert "| words of the first | 0.60 to 1.00 | 0.00 to 0.00 |" in printed
    assert "| words of the other | 0.00 to 0.00 | 1.00 to 1.00 |" in printed


def test_too_few_classes_are_refused():
    with pytest.raises(InputError, match="three"):
        bank_geometry.main(bank_geometry.GeometryArguments("bank.safetensors", "a, b"))
