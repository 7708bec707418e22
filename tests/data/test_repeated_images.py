"""Images that are drawn more often for the sake of their rarest class."""

from collections import Counter

import pytest
import torch

from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.mix import MixedClasses, MixedSamples
from lclipseg.data.samples import Repeats, TrainingSamples

PRESENT = torch.tensor([[True, False], [True, False], [True, False], [True, True]])  # the second class: in a quarter


@pytest.mark.parametrize(("threshold", "expected"), [(0.2, 1.0), (0.25, 1.0), (1.0, 2.0)])
def test_image_is_repeated_by_the_root_of_how_rare_its_rarest_class_is(threshold, expected):
    assert Repeats.by_rarest_class(PRESENT, threshold).factors == pytest.approx([1, 1, 1, expected])


def test_image_without_a_label_and_class_without_an_image_change_nothing():
    present = torch.cat([torch.cat([PRESENT, torch.zeros(4, 1, dtype=torch.bool)], 1), torch.zeros(1, 3).bool()])
    assert Repeats.by_rarest_class(present, 0.1).factors.tolist() == [1] * 5


def test_every_image_comes_as_often_as_it_shall_give_or_take_once():
    repeats = Repeats([1.0, 1.0, 1.0, 2.0])
    total = Counter()
    for seed in range(200):
        drawn = Counter(repeats.draw(seed).tolist())
        assert sum(drawn.values()) == 4
        assert all(drawn[index] in ((0, 1) if index < 3 else (1, 2)) for index in range(4))
        total += drawn
    assert [total[index] / 200 for index in range(4)] == pytest.approx([0.8, 0.8, 0.8, 1.6], abs=0.15)


def test_equal_images_come_once_each():
    assert Repeats([3.0] * 7).draw(5).tolist() == list(range(7))


class Unread(SegmentationData):
    """Images that nobody looks at."""

    def __init__(self, count: int):
        super().__init__(ClassList(("sky",), (("sky",),)), [str(index) for index in range(count)])

    def _read(self, index: int):
        raise NotImplementedError


def test_run_draws_images_as_often_as_its_samples_say():
    samples = TrainingSamples(Unread(4), None, seed=3, repeats=Repeats([1, 1, 1, 5]))
    found = Counter(samples.image_at(position) for position in range(4 * 200))
    assert [found[index] / 200 for index in range(4)] == pytest.approx(samples.draws()[0], abs=0.15)


def test_each_set_of_a_mix_keeps_its_share_and_repeats_its_own_images():
    data = [Unread(4), Unread(2)]
    mixed = MixedClasses.join([one.classes for one in data], "ab")
    samples = MixedSamples(data, mixed, None, 0, weights=[1, 1], repeats=[Repeats([1, 1, 1, 5]), Repeats([1, 1])])
    found = Counter(samples.image_at(position) for position in range(6 * 200))
    for index, often in enumerate(samples.draws()):
        assert sum(often) == pytest.approx(3)
        assert [found[index, image] / 200 for image in range(len(often))] == pytest.approx(often, abs=0.15)
