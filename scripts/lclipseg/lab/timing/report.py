"""What a benchmark says, as Markdown and as a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lclipseg.lab.timing.floor import PartCost, Rates
from lclipseg.lab.timing.label_map_speed import LabelMapRow
from lclipseg.lab.timing.peak_memory import PeakMemory
from lclipseg.lab.timing.step_speed import StepRow
from lclipseg.lab.timing.stopwatch import Ratio, Timing
from lclipseg.lab.timing.video_speed import VideoRow


@dataclass(frozen=True)
class PredictRow:
    """
    One contestant at one number of classes: height and width that its network sees, times in milliseconds, ratios to
    the first contestant.
    """

    model: str
    num_classes: int
    parameters: int
    input_size: tuple[int, int]
    prepare_ms: Timing
    forward_ms: Timing
    label_map_ms: Timing
    total_ms: Timing
    processor_ms: Timing
    total_ratio: Ratio
    forward_ratio: Ratio
    processor_ratio: Ratio
    memory_mb: PeakMemory | None


@dataclass(frozen=True)
class TrainRow:
    """One contestant in training; the share of its time spent waiting for data is 0 to 1."""

    model: str
    step_ms: Timing
    images_per_second: float
    data_share: float


@dataclass(frozen=True)
class PartsRow:
    """One network at one number of classes, part by part, and the machine's rates at that time."""

    model: str
    num_classes: int
    rates: Rates
    parts: list[PartCost]


def predict_markdown(content: Mapping[str, Any], rows: Sequence[PredictRow]) -> str:
    """The table of predictions, one part for every number of classes."""
    size = content["arguments"]["size"]
    lines = [
        "# From an image to its label map",
        "",
        f"An image of {size}x{size} pixels in, the class of each of its pixels out. {_circumstances(content)} "
        "Medians over rounds in which the contestants take turns, with quartiles in brackets; ratios are medians of "
        "the rounds' own ratios to the first contestant, with 95 % intervals. By the clock, which other programs on "
        "the machine lengthen; processor time is of the whole way, in all threads, waiting for one another included. "
        "Weights are random; batch normalisations are folded in ours (but for `unfolded`), lraspp, smp and yolo. "
        "Logits have the size that the network gives them: ours a quarter of the image's, yolo26n-sem's an eighth, "
        "lraspp's and smp's the image's own. Label maps are timed on the logits of a trained checkpoint for a "
        "photograph, of which "
        f"{content['unsettled_share']:.0%} lie along borders between classes. Text towers are not timed: class "
        "vectors are given. Every network has the input size that its own processor gives it; that of "
        "deeplabv3-mobilevit-small cuts off the borders. Memory is the largest resident size of a process that builds "
        "the network and predicts once, Python and torch included; in brackets what it has before, with its libraries "
        "loaded.",
    ]
    for num_classes in dict.fromkeys(row.num_classes for row in rows):
        lines += [
            "",
            f"## {num_classes} classes",
            "",
            "| model | parameters, M | input | rounds | prepare, ms | forward, ms | label map, ms | total, ms "
            "| total, ratio | forward, ratio | processor, ms | processor, ratio | memory, MB |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_predict_line(row) for row in rows if row.num_classes == num_classes]
    return "\n".join(lines) + "\n"


def _predict_line(row: PredictRow) -> str:
    cells = [
        row.model,
        f"{row.parameters / 1e6:.2f}",
        "x".join(map(str, row.input_size)),
        str(row.total_ms.count),
        f"{row.prepare_ms.median:.1f}",
        _timing(row.forward_ms),
        f"{row.label_map_ms.median:.1f}",
        _timing(row.total_ms),
        _ratio(row.total_ratio),
        _ratio(row.forward_ratio),
        f"{row.processor_ms.median:.1f}",
        _ratio(row.processor_ratio),
        "" if row.memory_mb is None else f"{row.memory_mb.total:.0f} ({row.memory_mb.libraries:.0f})",
    ]
    return f"| {' | '.join(cells)} |"


def train_markdown(content: Mapping[str, Any], rows: Sequence[TrainRow]) -> str:
    """The table of training speeds."""
    given = content["arguments"]
    lines = [
        "# Training",
        "",
        f"Crops of {given['size']}x{given['size']} pixels, {given['batch_size']} a step, all in one loop: reading, "
        f"augmentation, forward, backward, AdamW. {_circumstances(content)} {given['num_workers']} processes read "
        f"images, {_kept(given)}. Medians over steps, with "
        "quartiles in brackets.",
        "",
        "| model | step, ms | images/s | waiting for data |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.model} | {_timing(row.step_ms)} | {row.images_per_second:.1f} | {row.data_share:.1%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def parts_markdown(content: Mapping[str, Any], rows: Sequence[PartsRow]) -> str:
    """Where the time goes, one table for every network and number of classes."""
    size = content["arguments"]["size"]
    lines = [
        "# Where the time goes",
        "",
        f"The network alone, one image of {size}x{size} pixels. {_circumstances(content)} Medians over passes. The "
        "floor is what a part's multiply-accumulates would take at the rate of a large matrix product, or what its "
        "operations read and write would take at the rate of a large copy, whichever is longer; both rates are "
        "measured beside it.",
    ]
    for row in rows:
        lines += [
            "",
            f"## {row.model}, {row.num_classes} classes",
            "",
            f"Rates: {row.rates.macs / 1e6:.0f} GMACs/s, {row.rates.bytes / 1e6:.1f} GB/s.",
            "",
            "| part | time, ms | share | GMACs | MB read and written | floor, ms | times the floor |",
            "|---|---|---|---|---|---|---|",
        ]
        total = sum(part.milliseconds for part in row.parts)
        for part in row.parts:
            floor = part.floor(row.rates)
            lines.append(
                f"| {part.name} | {part.milliseconds:.1f} | {part.milliseconds / total:.0%} | {part.macs / 1e9:.2f} | "
                f"{part.bytes / 1e6:.0f} | {floor:.1f} | {part.milliseconds / floor:.1f} |"
            )
        floor = sum(part.floor(row.rates) for part in row.parts)
        lines.append(f"| all | {total:.1f} | | | | {floor:.1f} | {total / floor:.1f} |")
    return "\n".join(lines) + "\n"


def label_map_markdown(content: Mapping[str, Any], rows: Sequence[LabelMapRow]) -> str:
    """The table of label maps."""
    size = content["arguments"]["size"]
    lines = [
        "# The label map",
        "",
        f"From logits at a quarter of the size to the class of each of {size}x{size} pixels. "
        f"{_circumstances(content)} Medians over rounds in turns, with quartiles in brackets; ratios to the first of "
        "the same number of classes, with 95 % intervals. The logits are those of a trained checkpoint for a "
        f"photograph, of which {content['unsettled_share']:.0%} lie along borders between classes.",
        "",
        "| classes | method | time, ms | ratio | pixels with the first's label |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.num_classes} | {row.method} | {_timing(row.time_ms)} | {_ratio(row.ratio)} | {row.identical:.4%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def steps_markdown(content: Mapping[str, Any], rows: Sequence[StepRow]) -> str:
    """The table of training steps by classes and batch."""
    given = content["arguments"]
    lines = [
        "# Training steps by number of classes",
        "",
        f"{content['model']}, crops of {given['size']}x{given['size']} pixels, forward and backward alone. "
        f"{_circumstances(content)} The exact loss is of all pixels, the sampled one of one in sixteen, which is what "
        "training takes. Medians over steps in turns, with quartiles in brackets; ratios to the fewest classes with "
        "the same loss and batch, with 95 % intervals; memory is the most that a process of two steps took beyond its "
        "libraries.",
        "",
        "| images | classes | loss | step, ms | ratio | memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = "" if row.memory_mb is None else f"{row.memory_mb.total - row.memory_mb.libraries:.0f}"
        lines.append(
            f"| {row.batch_size} | {row.num_classes} | {row.loss} | {_timing(row.step_ms)} | {_ratio(row.ratio)} | "
            f"{memory} |"
        )
    return "\n".join(lines) + "\n"


def video_markdown(content: Mapping[str, Any], rows: Sequence[VideoRow]) -> str:
    """The table of a video's stages."""
    given = content["arguments"]
    width = round(given["size"] * 16 / 9 / 2) * 2
    lines = [
        "# Stages of a video",
        "",
        f"{given['rounds']} frames of {width}x{given['size']} pixels, onnxruntime with {given['threads']} threads. "
        f"{_circumstances(content)} Medians; by the clock, which other programs on the machine lengthen, and of the "
        "processor in all threads, which they hardly do.",
        "",
        "| stage | clock, ms | processor, ms |",
        "|---|---|---|",
        *(f"| {row.stage} | {row.clock_ms:.1f} | {row.processor_ms:.1f} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _kept(given: Mapping[str, Any]) -> str:
    if given["cache_on_device"]:
        return "kept and augmented on the device"
    return "kept decoded in memory" if given["cache"] else "decoded each time"


def _circumstances(content: Mapping[str, Any]) -> str:
    machine, given = content["machine"], content["arguments"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['cpu_count']} cores, {given['threads']} threads"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    compiled = ", compiled" if given["compile"] else ""
    return f"{where}, {given['dtype']}{compiled}, {content['date'][:10]}; {versions}."


def _timing(timing: Timing) -> str:
    low, high = timing.quartiles
    return f"{timing.median:.1f} [{low:.1f}, {high:.1f}]"


def _ratio(ratio: Ratio) -> str:
    interval = "" if ratio.interval is None else " [{:.2f}, {:.2f}]".format(*ratio.interval)
    return f"{ratio.median:.2f}{interval}"


def save_plot(rows: Sequence[PredictRow], path: Path) -> None:
    """Bars of the whole time; the axis is logarithmic, since the slowest takes hundreds of times the fastest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = list(dict.fromkeys(row.num_classes for row in rows))
    figure, axes = pyplot.subplots(1, len(counts), figsize=(4.2 * len(counts), 4.2), sharey=True, squeeze=False)
    for axis, num_classes in zip(axes[0], counts, strict=True):
        chosen = [row for row in rows if row.num_classes == num_classes]
        names = [row.model for row in chosen]
        axis.barh(names, [row.total_ms.median for row in chosen], color="#4c78a8")
        for index, row in enumerate(chosen):
            axis.text(row.total_ms.median * 1.08, index, f"{row.total_ms.median:.0f}", va="center", fontsize=8)
        axis.set(xscale="log", title=f"{num_classes} classes", xlabel="image to label map, ms")
        axis.set_xlim(right=axis.get_xlim()[1] * 2.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
