"""Tables of scores in Markdown: methods side by side, class by class, and what the networks cost."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from lclipseg.lab.comparisons.finished import FinishedTable, Setting
from lclipseg.lab.comparisons.spread import PairedDifference, Spread
from lclipseg.prediction.metrics import percent

NOTHING = "–"
SHARED_PREFIX = "lclipseg-"  # of all presets; left out in headings
MACHINE_KEYS = ("processor", "cpu_count", "torch_threads", "gpu")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose first `text_columns` columns are flush left, the others flush right."""
    rules = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (escaped[0], rules, *escaped[1:]))


def show_spread(spread: Spread | None) -> str:
    """`52.31 ± 0.42 (3)` in percent; a single run has no ±."""
    if spread is None:
        return NOTHING
    deviation = "" if spread.deviation is None else f" ± {percent(spread.deviation)}"
    return f"{percent(spread.mean)}{deviation} ({spread.count})"


def show_difference(difference: PairedDifference | None) -> str:
    """`-1.20 [-2.31, -0.09] (3)` in points, bold where the interval excludes zero."""
    if difference is None:
        return NOTHING
    if difference.interval is None:
        return f"{_points(difference.mean)} (1 pair, no interval)"
    low, high = map(_points, difference.interval)
    text = f"{_points(difference.mean)} [{low}, {high}] ({difference.pairs})"
    return f"**{text}**" if difference.excludes_zero else text


def score_tables(finished: FinishedTable) -> str:
    """A row for each variant: mean IoU, and the difference to the reference. With one setting this is one table; with
    several it is one of scores and one of differences, which has a column over all pairs; with several data sets and
    backbones a third one has the differences over the pairs of each."""
    scores = {_heading(setting): _score_column(finished, setting) for setting in finished.settings}
    differences = {_heading(setting): _difference_column(finished, [setting]) for setting in finished.settings}
    minus = f"minus {finished.table.reference}"
    if len(scores) == 1:
        ((heading, score_column),), (difference_column,) = scores.items(), differences.values()
        return _column_table(heading, finished.variants, {"mIoU": score_column, minus: difference_column})
    differences["all pairs"] = _difference_column(finished, finished.settings)
    tables = {"mIoU": scores, minus: differences}
    if len(finished.data) > 1 and len(finished.backbones) > 1:
        tables[f"{minus}, all of"] = {
            name.removeprefix(SHARED_PREFIX): _difference_column(finished, [s for s in finished.settings if name in s])
            for name in (*finished.data, *finished.backbones)
        }
    return "\n\n".join(_column_table(corner, finished.variants, columns) for corner, columns in tables.items())


def summary_table(finished: FinishedTable) -> str:
    """The scores of [`score_tables`], with the difference to the reference over all pairs beside them."""
    columns = {_heading(setting): _score_column(finished, setting) for setting in finished.settings}
    columns[f"minus {finished.table.reference}, all pairs"] = _difference_column(finished, finished.settings)
    return _column_table("mIoU", finished.variants, columns)


def _score_column(finished: FinishedTable, setting: Setting) -> list[str]:
    return [show_spread(finished.spread(variant, setting)) for variant in finished.variants]


def _difference_column(finished: FinishedTable, settings: Sequence[Setting]) -> list[str]:
    return [
        "reference" if variant == finished.table.reference else show_difference(finished.difference(variant, settings))
        for variant in finished.variants
    ]


def _column_table(corner: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> str:
    return markdown_table((corner, *columns), list(zip(names, *columns.values(), strict=True)))


def class_table(finished: FinishedTable, data: str) -> str | None:
    """Mean IoU of every class and variant on one data set, over the runs that all variants have; `None` where there
    is no such run."""
    runs = finished.common_runs(data)
    if not runs:
        return None
    lines = list(runs.values())
    variants = [variant for variant in finished.variants if variant in lines[0]]
    ious = {variant: mean_class_ious([line[variant] for line in lines]) for variant in variants}
    rows = [[name, *(percent(ious[variant][name]) for variant in variants)] for name in ious[variants[0]]]
    means = [percent(fmean(line[variant]["scores"]["mean_iou"] for line in lines)) for variant in variants]
    backbones, seeds = (len({run[part] for run in runs}) for part in (0, 1))
    about = (
        f"{data}: IoU of each class in percent, mean over the {len(runs)} runs that every method here has (seeds: "
        f"{seeds}, backbones: {backbones})."
    )
    return f"{about}\n\n{markdown_table(('class', *variants), [*rows, ['mean IoU', *means]])}"


def mean_class_ious(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean IoU, 0 to 1, of every class over the lines that count it; NaN where none does."""
    names = lines[0]["scores"]["per_class"]
    counted = {
        name: [line["scores"]["per_class"][name] for line in lines if line["scores"]["per_class"][name] is not None]
        for name in names
    }
    return {name: fmean(values) if values else math.nan for name, values in counted.items()}


def cost_table(costs: Mapping[str, Any]) -> str:
    """What the networks cost, from costs.json, with the machine that was timed."""
    size = costs["size"]
    rows = []
    for row in costs["rows"]:
        low, high = row["latency_ms_spread"]
        rows.append(
            [
                f"`{row['backbone']}`",
                row["method"],
                str(row["num_classes"]),
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['macs'] / 1e9:.2f}",
                f"{row['macs_ratio']:.2f}",
                f"{row['latency_ms']:.1f} [{low:.1f}, {high:.1f}]",
                _show_ratio(row["latency_ratio"], row["latency_ratio_interval"]),
            ]
        )
    times = f"times {costs['reference']}"
    counted, timed = ("parameters, M", "GMACs", f"GMACs, {times}"), ("latency, ms", f"latency, {times}")
    header = ("preset", "method", "classes", *counted, *timed)
    about = (
        f"One image of {size}x{size} pixels. Parameters and multiply-accumulates are counted, without a text tower; "
        f"latency is that of networks folded for use (`model.fold()`), the median of {costs['rounds']} forward "
        f"passes and, in brackets, their quartiles. The last column is the median ratio to {costs['reference']} in "
        "the same round, with its 95 % interval (bootstrap over rounds). On "
        f"{machine_in_words(costs['machine'])}, {costs['date'][:10]}; {versions_in_words(costs['versions'])}."
    )
    return f"{about}\n\n{markdown_table(header, rows, text_columns=2)}"


def machine_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Where, with which versions and when the lines were measured: a row for each machine and set of versions. The
    time is that of the runs that went through without a stop; of others it is not known."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((machine_in_words(line["machine"]), versions_in_words(line["versions"])), []).append(line)
    rows = []
    for (machine, versions), members in sorted(groups.items()):
        days = sorted(line["date"][:10] for line in members)
        period = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
        minutes = [line["train_seconds"] / 60 for line in members if line["train_seconds"] is not None]
        duration = f"{median(minutes):.1f}" if minutes else NOTHING
        rows.append([machine, versions, period, str(len(members)), duration])
    header = ("machine", "versions", "dates", "runs", "training, minutes (median)")
    return markdown_table(header, rows, text_columns=3)


def machine_in_words(machine: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 cores, 1 thread a run, no GPU`."""
    processor, cores, threads, gpu = (machine[key] for key in MACHINE_KEYS)
    return f"{processor}, {_count(cores, 'core')}, {_count(threads, 'thread')} a run, {gpu or 'no GPU'}"


def versions_in_words(versions: Mapping[str, str]) -> str:
    """`python 3.11.9, torch 2.7.1`."""
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _heading(setting: Setting) -> str:
    data, backbone = setting
    return f"{data} {backbone.removeprefix(SHARED_PREFIX)}"


def _show_ratio(ratio: float, interval: Sequence[float] | None) -> str:
    return f"{ratio:.2f}" if interval is None else f"{ratio:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _points(ratio: float) -> str:
    return f"{100 * ratio:+.2f}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
