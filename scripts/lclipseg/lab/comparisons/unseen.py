"""Tables of classes that training did not see: seen, unseen and harmonic mean, fold by fold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lclipseg.lab.comparisons.finished import FinishedTable, Setting
from lclipseg.lab.comparisons.spread import PairedDifference
from lclipseg.lab.comparisons.tables import NOTHING, markdown_table, show_difference
from lclipseg.prediction.metrics import percent

ABOUT = """\
Mean IoU in percent over the seen classes, over the unseen ones, and the harmonic mean H of the two. The calibration is
what is subtracted from the logits of the seen classes. "projected": of an unseen word's vector only the part in the
span of the seen words is kept; training is the same. First without calibration; then with the one that has the best
mean H over the *other* folds of the same variant, so that a fold's own result has no part in the choice. (The test
images are the same in all folds, with other classes held out.) "–": there is no other fold to choose by."""


@dataclass(frozen=True)
class UnseenScores:
    """Mean IoU over seen and over unseen classes and the harmonic mean, 0 to 1; NaN where nothing was counted."""

    seen: float
    unseen: float
    harmonic: float

    @classmethod
    def mean(cls, scores: Sequence["UnseenScores"]) -> "UnseenScores":
        """The mean of at least one; of the harmonic means, not the harmonic mean of the means."""
        return cls(*(fmean(getattr(one, name) for one in scores) for name in ("seen", "unseen", "harmonic")))

    def cells(self) -> list[str]:
        return [percent(self.seen), percent(self.unseen), percent(self.harmonic)]


Curve = Mapping[float, UnseenScores]  # by calibration


def read_curve(lines: Sequence[Mapping[str, Any]], projected: bool) -> Curve:
    """The scores at every calibration that all lines (the seeds of one fold) have, mean over the lines."""
    rows = [
        {row["calibration"]: _scores(row) for row in line["zero_shot"]["rows"] if row["projected"] == projected}
        for line in lines
    ]
    shared = sorted(set.intersection(*map(set, rows)))
    return {calibration: UnseenScores.mean([row[calibration] for row in rows]) for calibration in shared}


def choose_calibration(curves: Mapping[str, Curve], fold: str) -> float | None:
    """
    The calibration for one fold: the best mean of the harmonic mean over the other folds; of equals the smallest.

    Args:
        curves (`dict[str, Curve]`): One variant's curves by fold.
        fold (`str`): The fold that it is for, whose own scores are not looked at.

    Returns:
        `float`, or `None` where there is no other fold, or no calibration that all have and whose mean is a number.
    """
    others = [curve for name, curve in curves.items() if name != fold]
    shared = sorted(set.intersection(*map(set, curves.values()))) if others else []
    means = {calibration: fmean(curve[calibration].harmonic for curve in others) for calibration in shared}
    counted = [calibration for calibration in shared if not math.isnan(means[calibration])]
    return max(counted, key=means.__getitem__, default=None)


def unseen_tables(finished: FinishedTable) -> str:
    """For every setting a table of folds, and one of differences in H to the reference, paired by fold."""
    parts = [ABOUT]
    for setting in finished.settings:
        results = {
            f"{variant}, projected" if projected else variant: _FoldResults.of(finished, setting, variant, projected)
            for variant in finished.variants
            for projected in (False, True)
        }
        parts += [f"{', '.join(setting)}:", _fold_table(results)]
        if len(results) > 1 and finished.table.reference in results:
            parts.append(_difference_table(results, finished.table.reference))
    return "\n\n".join(parts)


@dataclass(frozen=True)
class _FoldResults:
    """One variant in one setting, by fold: without calibration, and with the one chosen on the other folds."""

    plain: Mapping[str, UnseenScores]
    chosen: Mapping[str, tuple[float, UnseenScores]]

    @classmethod
    def of(cls, finished: FinishedTable, setting: Setting, variant: str, projected: bool) -> "_FoldResults":
        lines: dict[str, list[Mapping[str, Any]]] = {}
        for place, line in finished.lines.items():
            if (place.data, place.backbone) == setting and place.variant == variant:
                lines.setdefault(str(place.held_out), []).append(line)
        curves = {fold: read_curve(of_fold, projected) for fold, of_fold in sorted(lines.items())}
        choices = {fold: choose_calibration(curves, fold) for fold in curves}
        return cls(
            plain={fold: curve[0.0] for fold, curve in curves.items()},
            chosen={fold: (best, curves[fold][best]) for fold, best in choices.items() if best is not None},
        )

    def harmonic_means(self) -> list[dict[str, float]]:
        """By fold: without calibration, and with the chosen one."""
        plain = {fold: scores.harmonic for fold, scores in self.plain.items()}
        return [plain, {fold: scores.harmonic for fold, (_, scores) in self.chosen.items()}]


def _fold_table(results: Mapping[str, _FoldResults]) -> str:
    rows: list[list[str]] = []
    for variant, result in results.items():
        for fold, plain in result.plain.items():
            calibration, scores = result.chosen.get(fold, (None, None))
            shown = [NOTHING] * 4 if scores is None else [f"{calibration:g}", *scores.cells()]
            rows.append([variant, fold, *plain.cells(), *shown])
        if result.plain:
            chosen = [scores for _, scores in result.chosen.values()]
            means = UnseenScores.mean(list(result.plain.values())).cells()
            chosen_means = UnseenScores.mean(chosen).cells() if chosen else [NOTHING] * 3
            rows.append([variant, f"**mean, n = {len(result.plain)}**", *means, "", *chosen_means])
    header = ("", "held out", "seen", "unseen", "H", "calibration", "seen", "unseen", "H")
    return markdown_table(header, rows, text_columns=2)


def _difference_table(results: Mapping[str, _FoldResults], reference: str) -> str:
    rows = []
    for variant, result in results.items():
        pairs = zip(result.harmonic_means(), results[reference].harmonic_means(), strict=True)
        differences = [show_difference(PairedDifference.between(*pair)) for pair in pairs]
        rows.append([variant, *(["reference"] * 2 if variant == reference else differences)])
    return markdown_table((f"H minus that of {reference}", "no calibration", "chosen calibration"), rows)


def _scores(row: Mapping[str, Any]) -> UnseenScores:
    ratios = (row[name] for name in ("seen_mean_iou", "unseen_mean_iou", "harmonic_mean"))
    return UnseenScores(*(math.nan if ratio is None else ratio for ratio in ratios))
