"""What a few repeated runs say: their spread, and the difference of two methods over paired runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any

from scipy.stats import t as student_t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """
    Mean and standard deviation of repeated measurements.

    Args:
        mean (`float`): Mean of all values.
        deviation (`float`, *optional*): Standard deviation of a single value, with n - 1; `None` where nothing was
            repeated.
        count (`int`): Number of values n.
    """

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Spread of at least one value."""
        return cls.within([values])

    @classmethod
    def within(cls, groups: Sequence[Sequence[float]]) -> "Spread":
        """
        Mean over all values, deviation within the groups alone: how far the groups' means lie apart does not enter.
        A group has at least one value; with seeds in a group and one group a backbone, this is the spread over seeds.
        """
        values = [value for group in groups for value in group]
        freedom = len(values) - len(groups)
        squares = sum((value - fmean(group)) ** 2 for group in groups for value in group)
        return cls(fmean(values), sqrt(squares / freedom) if freedom else None, len(values))


@dataclass(frozen=True)
class PairedDifference:
    """
    Mean difference over pairs of runs that share all but the method.

    Args:
        mean (`float`): Mean of value minus reference.
        interval (`tuple[float, float]`, *optional*): 95 % confidence interval of the mean by Student's t, lower end
            first. It takes the pairs as independent draws. `None` for a single pair, which has no spread.
        pairs (`int`): Number of pairs.
    """

    mean: float
    interval: tuple[float, float] | None
    pairs: int

    @classmethod
    def of(cls, values: Sequence[float], reference: Sequence[float]) -> "PairedDifference":
        """`values[i]` and `reference[i]` are a pair; at least one. Raises `ValueError` for lists of unequal length."""
        spread = Spread.of([value - other for value, other in zip(values, reference, strict=True)])
        if spread.deviation is None:
            return cls(spread.mean, None, spread.count)
        quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, spread.count - 1))
        half = quantile * spread.deviation / sqrt(spread.count)
        return cls(spread.mean, (spread.mean - half, spread.mean + half), spread.count)

    @classmethod
    def between(cls, values: Mapping[Any, float], reference: Mapping[Any, float]) -> "PairedDifference | None":
        """Pairs are the values of one key; keys that only one side has do not count. `None` without a pair."""
        shared = [key for key in values if key in reference]
        return cls.of([values[key] for key in shared], [reference[key] for key in shared]) if shared else None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; never for a single pair."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]
