"""Where the time of exported graphs goes in onnxruntime, operator by operator, on one thread.

    python scripts/graph_profile.py exported/float32 exported/int8 --out docs/results/int8-profile.md

The exports take turns in one process. The whole is measured in processor time of the thread that runs it, which other
work on the machine lengthens less than time by the clock: medians with quartiles, and how many times as fast as the
first export one is, as the median of the rounds' own ratios. An operator's time is what onnxruntime's profiler notes
for it by the clock, the least over the rounds, added up over the nodes. "The same class" is the share of the places of
that one photograph that get the class they have from the first export.
"""

import json
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.lab.timing.stopwatch import Ratio, Timing, in_turns
from lclipseg.networks.export_record import CLASS_EMBEDDINGS, MODEL_FILE
from lclipseg.networks.onnx_graph import OnnxGraph
from modeling_lclipseg import LClipSegImageProcessor

WARM_UP, PATIENCE = 3, 300.0
SMALLEST_SHOWN = 0.005  # milliseconds, of every export


@dataclass
class ProfileArguments:
    size: int = field(default=512, metadata={"help": "Height and width of the image in pixels."})
    image: str = field(
        default=str(project("docs", "demo", "street.jpg")), metadata={"help": "A photograph, brought to that size."}
    )
    rounds: int = field(default=30, metadata={"help": "Timed rounds, and as many profiled ones."})
    out: str = field(default="docs/results/int8-profile.md", metadata={"help": "The Markdown file to write."})

    def __post_init__(self) -> None:
        if self.rounds < 2 or self.size < 32:
            raise InputError(f"allowed: --rounds from 2, --size from 32; given {self.rounds} and {self.size}.")


@dataclass(frozen=True)
class GraphProfile:
    """
    One export.

    Args:
        name (`str`): Of its folder.
        megabytes (`float`): Size of the graph's file.
        total (`Timing`): Processor time of a run, in milliseconds.
        speed_up (`Ratio`): How many times as fast as the first export.
        same_class (`float`, *optional*): Share of the places with the class that they have from it; None where it has
            other places.
        operators (`dict[str, tuple[float, int]]`): Milliseconds and number of nodes of every operator.
    """

    name: str
    megabytes: float
    total: Timing
    speed_up: Ratio
    same_class: float | None
    operators: dict[str, tuple[float, int]]


def profile_exports(folders: Sequence[str], args: ProfileArguments) -> list[GraphProfile]:
    """Run exports in turns, then each with onnxruntime's profiler."""
    graphs = [OnnxGraph(Path(folder)) for folder in folders]
    sessions = [_session(graph) for graph in graphs]
    feeds = [feed_of(graph, args.image, args.size) for graph in graphs]

    def run(index: int) -> float:
        began = time.thread_time()
        sessions[index].run(None, feeds[index])
        return 1000 * (time.thread_time() - began)

    maps = [classes_of(session.run(None, feed)[0]) for session, feed in zip(sessions, feeds, strict=True)]
    turns = {str(index): lambda index=index: run(index) for index in range(len(folders))}
    times = list(in_turns(turns, args.rounds, WARM_UP, PATIENCE).values())
    return [
        GraphProfile(
            name=Path(folder).name,
            megabytes=(Path(folder) / MODEL_FILE).stat().st_size / 1e6,
            total=Timing.of(of_one),
            speed_up=Ratio.of(times[0], of_one),
            same_class=float((classes == maps[0]).mean()) if classes.shape == maps[0].shape else None,
            operators=operator_times(graph, feed, args.rounds),
        )
        for folder, graph, feed, of_one, classes in zip(folders, graphs, feeds, times, maps, strict=True)
    ]


def operator_times(graph: OnnxGraph, feed: dict[str, np.ndarray], rounds: int) -> dict[str, tuple[float, int]]:
    """Milliseconds and number of nodes of every operator of a graph, the dearest first."""
    with TemporaryDirectory() as folder:
        session = _session(graph, profile=str(Path(folder) / "profile"))
        for _ in range(rounds):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    least: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = (event["args"]["op_name"], event["name"])
            least[node] = min(least.get(node, np.inf), event["dur"] / 1000)
    operators: dict[str, list[float]] = defaultdict(list)
    for (operator, _), milliseconds in least.items():
        operators[operator].append(milliseconds)
    summed = {operator: (sum(of_one), len(of_one)) for operator, of_one in operators.items()}
    return dict(sorted(summed.items(), key=lambda item: -item[1][0]))


def profile_markdown(profiles: Sequence[GraphProfile], args: ProfileArguments, call: str) -> str:
    """A table of the exports, and one of their operators."""
    machine, versions = environment.machine(torch.device("cpu")), environment.versions()
    lines = [
        "# Where the time of an exported graph goes",
        "",
        f"`{call}`, {machine['processor']}, one thread, onnxruntime {versions.get('onnxruntime')}, {args.size}x"
        f"{args.size} pixels, {environment.now()[:10]}. Runs: processor time, median [quartiles] of {args.rounds} "
        "rounds in turns; how many times as fast as the first: median of the rounds' ratios [95 % interval].",
        "",
        "| export | MB | a run, ms | times as fast | the same class, % |",
        "|---|---|---|---|---|",
    ]
    for one in profiles:
        low, high = one.total.quartiles
        interval = one.speed_up.interval
        within = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        lines.append(
            f"| {one.name} | {one.megabytes:.2f} | {one.total.median:.1f} [{low:.1f}, {high:.1f}] | "
            f"{one.speed_up.median:.2f}{within} | {'' if one.same_class is None else f'{one.same_class:.2%}'[:-1]} |"
        )
    shown = {
        operator: max(one.operators.get(operator, (0.0, 0))[0] for one in profiles)
        for profile in profiles
        for operator in profile.operators
    }
    lines += [
        "",
        "Milliseconds by operator (number of nodes): the least of each node over the rounds, by the clock.",
        "",
        "| operator | " + " | ".join(one.name for one in profiles) + " |",
        "|---|" + "---|" * len(profiles),
    ]
    for operator in sorted(shown, key=lambda name: -shown[name]):
        if shown[operator] >= SMALLEST_SHOWN:
            cells = (one.operators.get(operator) for one in profiles)
            lines.append(
                f"| {operator} | " + " | ".join(f"{cell[0]:.2f} ({cell[1]})" if cell else "" for cell in cells) + " |"
            )
    sums = (sum(milliseconds for milliseconds, _ in one.operators.values()) for one in profiles)
    lines.append("| all | " + " | ".join(f"{total:.1f}" for total in sums) + " |")
    return "\n".join(lines) + "\n"


def _session(graph: OnnxGraph, profile: str | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(str(graph.folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])


def classes_of(output: np.ndarray) -> np.ndarray:
    """Class ids of a graph's output: logits (1, K, h, w), or a label map (H, W)."""
    return output[0].argmax(0) if output.ndim == 4 else output


def feed_of(graph: OnnxGraph, file: str, size: int) -> dict[str, np.ndarray]:
    """A photograph brought to size x size pixels, as the graph takes it, and the export's own classes."""
    try:
        image = Image.open(file).convert("RGB").resize((size, size))
    except OSError as error:
        raise InputError(f"--image {file} cannot be read: {error}; give a photograph") from error
    if graph.record.label_map:
        values = np.asarray(image)
    else:
        processor = LClipSegImageProcessor.from_pretrained(graph.folder, do_resize=False)
        values = processor(images=image, return_tensors="np")["pixel_values"]
    feed = {graph.session.get_inputs()[0].name: values}
    if graph.words is not None:
        feed[CLASS_EMBEDDINGS] = graph.words.class_embeddings
    return feed


def main(folders: list[str], args: ProfileArguments) -> None:
    text = profile_markdown(profile_exports(folders, args), args, shlex.join(["graph_profile.py", *sys.argv[1:]]))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(text, encoding="utf-8")
    print(text)


def parse(argv: list[str] | None = None) -> tuple[list[str], ProfileArguments]:
    description = "Exported folders; what is said of speed is in comparison with the first."
    return arguments.parse_subject(__doc__, ProfileArguments, "exports", description, nargs="+", argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
