"""How well pixels and words are aligned, before and behind the blocks."""

import pytest
import torch
from tiny_model import NAMES, save_checkpoint, tiny_model
from written_data import write_data

from lclipseg.console.errors import InputError
from lclipseg.lab.words import alignment
from lclipseg.lab.words.alignment import AlignmentArguments


@pytest.fixture
def data(tmp_path) -> str:
    return str(write_data(tmp_path / "data", list(NAMES)))


def planted(first_best: bool):
    """Every place looks most like the first class before the blocks, and like none more than another behind them."""

    def scores(model, inputs, vectors):
        height, width = inputs["pixel_values"].shape[-2:]
        ranks = torch.arange(len(vectors), 0, -1.0) if first_best else torch.zeros(len(vectors))
        affinity = ranks[:, None, None].expand(-1, height // 16, width // 16)
        return affinity, torch.zeros(len(vectors), height // 4, width // 4)

    return scores


def test_share_is_that_of_the_words_that_look_less_like_a_place(checkpoint, data, monkeypatch):
    monkeypatch.setattr(alignment, "_scores", planted(first_best=True))
    found = alignment.main(str(checkpoint), AlignmentArguments(data=[data], trained=[]))
    assert len(found) > 1
    for one in found:
        below = len(NAMES) - 1 - list(NAMES).index(one.name)
        assert one.before == pytest.approx(below / (len(NAMES) - 1)) and one.behind == 0 and not one.seen


def test_words_of_the_trained_sets_are_seen_and_drawn(checkpoint, data, tmp_path, capsys):
    plot = tmp_path / "alignment.png"
    found = alignment.main(str(checkpoint), AlignmentArguments(data=[data], trained=[data], plot=str(plot)))
    assert all(one.seen and 0 <= one.before <= 1 and 0 <= one.behind <= 1 for one in found)
    assert f"| mean of {len(found)} | seen |" in capsys.readouterr().out and plot.is_file()


def test_network_without_an_affinity_is_refused(tmp_path, data):
    with pytest.raises(InputError, match="guidance 'none'"):
        alignment.main(str(save_checkpoint(tmp_path, tiny_model(guidance="none"))), AlignmentArguments(data=[data]))
