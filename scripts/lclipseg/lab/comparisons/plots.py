"""Plots as PNG: mean IoU against cost; gains class by class, by list of classes, and by number of labels."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lclipseg.lab.comparisons.asked import ListGain
from lclipseg.lab.comparisons.finished import FinishedTable
from lclipseg.lab.comparisons.labels import Gains
from lclipseg.lab.comparisons.spread import Spread

WIDTH = 9.0  # inches: 900 pixels at 100 dots an inch
DOTS_PER_INCH = 200  # twice that, for fine screens
# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GAIN, LOSS = "#0072B2", "#D55E00"


def plot_scores_and_costs(finished: FinishedTable, path: Path) -> None:
    """Mean IoU against multiply-accumulates: a panel for each data set, a marker for each variant, a colour for each
    backbone, error bars of one standard deviation over seeds."""
    colours = dict(zip(finished.table.backbones, _repeated(COLOURS, len(finished.table.backbones)), strict=True))
    markers = dict(zip(finished.table.variants, _repeated(MARKERS, len(finished.table.variants)), strict=True))
    figure = Figure(figsize=(WIDTH, 4.2), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(finished.data), squeeze=False)[0]
    for panel, data in zip(panels, finished.data, strict=True):
        for variant in finished.variants:
            for backbone in finished.table.backbones:
                spread = finished.spread(variant, (data, backbone))
                if spread is not None:
                    error = None if spread.deviation is None else 100 * spread.deviation
                    style = {"marker": markers[variant], "color": colours[backbone]}
                    gmacs = _gmacs(finished, data, backbone, variant)
                    panel.errorbar(gmacs, 100 * spread.mean, error, capsize=3, markersize=7, alpha=0.85, **style)
        panel.set(title=data, xlabel="GMACs of one prediction", ylabel="test mIoU, %")
        tidy(panel)
    handles = [_key(variant, marker=markers[variant], color="0.35") for variant in finished.variants]
    shown = [backbone for backbone in colours if any(place.backbone == backbone for place in finished.lines)]
    handles += [_key(backbone, marker="o", color=colours[backbone]) for backbone in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)
    save_figure(figure, path)


def plot_class_gains(finished: FinishedTable, data: str, path: Path) -> bool:
    """
    IoU of each class, reference minus rival, sorted: a panel for each rival. Bars are means over the runs that all
    variants have, error bars one standard deviation over seeds within a backbone.

    Returns:
        `bool`: whether there was anything to draw: a run of the reference and of a rival.
    """
    runs, reference = finished.common_runs(data), finished.table.reference
    present = next(iter(runs.values()), {})
    rivals = [variant for variant in finished.variants if variant in present and variant != reference]
    if reference not in present or not rivals:
        return False
    gains = {rival: class_gains(finished, data, rival) for rival in rivals}
    height = 1.7 + 0.19 * max(map(len, gains.values()))
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(rivals), squeeze=False, sharex=True)[0]
    for panel, (rival, by_class) in zip(panels, gains.items(), strict=True):
        ordered = sorted(by_class.items(), key=lambda item: item[1].mean)
        names, means = [name for name, _ in ordered], [100 * spread.mean for _, spread in ordered]
        errors = [100 * (spread.deviation or 0.0) for _, spread in ordered]
        panel.barh(names, means, xerr=errors, color=[GAIN if mean >= 0 else LOSS for mean in means], ecolor="0.25")
        panel.axvline(0, color="black", linewidth=0.8)
        title = "\n".join(textwrap.wrap(f"{reference} minus {rival}", width=16))  # what a panel holds
        panel.set(title=title, xlabel="gain in IoU, points", ylim=(-0.7, len(names) - 0.3))
        tidy(panel)
    figure.suptitle(data)
    save_figure(figure, path)
    return True


def class_gains(finished: FinishedTable, data: str, rival: str) -> dict[str, Spread]:
    """IoU of the reference minus the rival's by class, over the runs that all variants have; the spread is that over
    seeds within a backbone. Classes that a run does not count are left out of it, and those of no run altogether."""
    gains: dict[str, dict[str, list[float]]] = {}
    for (backbone, _), lines in finished.common_runs(data).items():
        ours, theirs = (lines[name]["scores"]["per_class"] for name in (finished.table.reference, rival))
        for name in ours:
            if ours[name] is not None and theirs[name] is not None:
                gains.setdefault(name, {}).setdefault(backbone, []).append(ours[name] - theirs[name])
    return {name: Spread.within(list(by_backbone.values())) for name, by_backbone in gains.items()}


def plot_gains_by_list(gains: Mapping[str, Sequence[ListGain]], path: Path) -> None:
    """Gain on each list of classes against its number of classes, a colour for each entry of `gains`; filled where
    training had the data set."""
    figure = Figure(figsize=(WIDTH, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    panel = figure.subplots()
    for (label, by_list), colour in zip(gains.items(), _repeated(COLOURS, len(gains)), strict=True):
        for index, one in enumerate(by_list):
            fill = colour if one.known else "none"
            panel.plot(one.classes, 100 * one.gain.mean, "o", color=colour, markerfacecolor=fill, markersize=7)
            if len(gains) == 1:
                offset = (7, -9 if index % 2 else 4)  # names of neighbours above and below each other
                place = (one.classes, 100 * one.gain.mean)
                panel.annotate(one.name, place, offset, textcoords="offset points", fontsize=7, color="0.4")
        panel.plot([], [], "o", color=colour, label=label)
    panel.axhline(0, color="black", linewidth=0.8)
    panel.set(xscale="log", xlabel="classes in the list", ylabel="gain in mIoU, points")
    ticks = [5, 10, 20, 50, 100]
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.legend(frameon=False)
    tidy(panel)
    save_figure(figure, path)


def plot_gains_by_labels(gains: Gains, path: Path) -> None:
    """Gain over ImageNet weights against the number of labelled images, a line for each data set and start; error
    bars are 95 % intervals over the seeds."""
    figure = Figure(figsize=(WIDTH, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    panel = figure.subplots()
    for place, (name, by_images) in enumerate(gains.items()):
        numbers = [number * 1.04 ** (place - len(gains) / 2) for number in by_images]  # side by side
        means = [100 * one.mean for one in by_images.values()]
        errors = [100 * (one.interval[1] - one.mean) if one.interval else 0.0 for one in by_images.values()]
        style: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "color": COLOURS[place % len(COLOURS)]}
        panel.errorbar(numbers, means, errors, capsize=3, label=name, alpha=0.85, **style)
    panel.axhline(0, color="black", linewidth=0.8)
    ticks = sorted({number for by_images in gains.values() for number in by_images})
    panel.set(xscale="log", xlabel="labelled images", ylabel="gain in mIoU, points")
    panel.set_xticks(ticks, [str(number) for number in ticks], minor=False)
    panel.minorticks_off()
    panel.legend(frameon=False)
    tidy(panel)
    save_figure(figure, path)


def _gmacs(finished: FinishedTable, data: str, backbone: str, variant: str) -> float:
    """Billions of multiply-accumulates, which the seeds share."""
    wanted = (..., backbone, data, None, variant)
    return fmean(line["macs"] for place, line in finished.lines.items() if place.matches(wanted)) / 1e9


def _repeated(styles: tuple[str, ...], count: int) -> list[str]:
    return [styles[index % len(styles)] for index in range(count)]


def _key(label: str, **style: Any) -> Line2D:
    return Line2D([], [], linestyle="none", label=label, **style)


def tidy(panel: Axes) -> None:
    panel.grid(color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})  # without the version, the same numbers make the same file
