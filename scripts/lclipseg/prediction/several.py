"""Scores of one model on several data sets, each among its own classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lclipseg.prediction.metrics import SegmentationScores


@dataclass(frozen=True)
class SeveralScores:
    """
    Args:
        of_sets (`dict[str, SegmentationScores]`): The scores by the name of the data set.
    """

    of_sets: Mapping[str, SegmentationScores]

    @property
    def mean_iou(self) -> float:
        """Mean over the data sets of their mean IoU, 0 to 1."""
        return sum(scores.mean_iou for scores in self.of_sets.values()) / len(self.of_sets)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the mean, and everything of each set."""
        sets = {name: scores.to_dict() for name, scores in self.of_sets.items()}
        return {"mean_iou": self.mean_iou, "data": sets}
