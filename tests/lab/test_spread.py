"""Spreads and intervals against values worked out by hand."""

from math import sqrt

import pytest

from lclipseg.lab.comparisons.spread import PairedDifference, Spread


def test_deviation_divides_by_one_less_than_the_count():
    spread = Spread.of([1.0, 2.0, 6.0])  # squares 4, 1 and 9
    assert (spread.mean, spread.deviation, spread.count) == (3.0, pytest.approx(sqrt(14 / 2)), 3)


def test_deviation_within_groups_does_not_see_how_far_they_lie_apart():
    spread = Spread.within([[1.0, 3.0], [101.0, 103.0, 105.0]])  # squares 2 and 8 with 1 and 2 degrees of freedom
    assert spread.deviation == pytest.approx(sqrt(10 / 3))
    assert (spread.mean, spread.count) == (pytest.approx(62.6), 5)


def test_interval_of_three_pairs():
    difference = PairedDifference.of([5.0, 7.0, 12.0], [4.0, 5.0, 6.0])  # 1, 2 and 6
    half = 4.3027 * sqrt(7) / sqrt(3)
    assert difference.mean == 3.0
    assert difference.interval == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert difference.pairs == 3


def test_what_both_methods_share_in_a_pair_cancels():
    """A hard seed is hard for both: the interval is that of the differences, not of the scores."""
    difference = PairedDifference.of([1.1, 50.1, 9.1], [1.0, 50.0, 9.0])
    assert difference.interval == pytest.approx((0.1, 0.1))


def test_single_value_has_no_deviation_and_a_single_pair_no_interval():
    assert Spread.of([0.4]) == Spread(0.4, None, 1)
    difference = PairedDifference.of([2.0], [1.5])
    assert difference == PairedDifference(0.5, None, 1)
    assert not difference.excludes_zero


@pytest.mark.parametrize(("interval", "excludes"), [((0.1, 0.2), True), ((-0.2, -0.1), True), ((-0.1, 0.2), False)])
def test_interval_excludes_zero_on_one_side_of_it(interval, excludes):
    assert PairedDifference(0.0, interval, 3).excludes_zero is excludes


def test_lists_of_unequal_length_are_no_pairs():
    with pytest.raises(ValueError):
        PairedDifference.of([1.0, 2.0], [1.0])


def test_pairs_are_only_where_both_exist():
    difference = PairedDifference.between({"a": 3.0, "b": 5.0, "c": 100.0}, {"b": 4.0, "a": 1.0, "d": 100.0})
    assert (difference.mean, difference.pairs) == (1.5, 2)
    assert PairedDifference.between({"a": 1.0}, {"b": 1.0}) is None
