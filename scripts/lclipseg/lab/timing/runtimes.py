"""Exported graphs, and a checkpoint converted for other runtimes, against onnxruntime: the same classes, and how fast.

    python scripts/runtimes.py exported/float32 exported/int8 --checkpoint checkpoints/lclipseg-mbv3s-camvid

The first export as onnxruntime runs it is the reference: "the same class" is the share of the places that have its
class, for each photograph, "difference" the largest of the logits. Times are processor time of the process, on one
thread where a runtime can be told so, medians with quartiles of rounds in turns. What is not installed is named and
left out; what a runtime refuses is said in its words. Conversions take minutes and are kept in --files.
"""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.export.tracing import ConvertibleNetwork
from lclipseg.lab.timing.foreign import CONVERTED, ONNX_RUNTIME, OPENVINO, Runtime
from lclipseg.lab.timing.graph_profile import classes_of, feed_of
from lclipseg.lab.timing.stopwatch import Ratio, Timing, in_turns
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.export_record import MODEL_FILE
from lclipseg.networks.onnx_graph import OnnxGraph

WARM_UP, PATIENCE = 3, 300.0
PHOTOGRAPHS = tuple(str(project("docs", "demo", f"{name}.jpg")) for name in ("street", "cat"))


@dataclass
class RuntimesArguments:
    checkpoint: str | None = field(
        default=None, metadata={"help": "What the exports were made from: is converted for runtimes without ONNX."}
    )
    files: str = field(
        default=".cache/runtimes", metadata={"help": "Folder for converted files; those there are used."}
    )
    size: int = field(default=512, metadata={"help": "Height and width of the images in pixels."})
    rounds: int = field(default=20, metadata={"help": "Timed rounds."})
    out: str = field(default="docs/results/runtimes.md", metadata={"help": "The Markdown file to write."})

    def __post_init__(self) -> None:
        if self.rounds < 2 or self.size < 32:
            raise InputError(f"allowed: --rounds from 2, --size from 32; given {self.rounds} and {self.size}.")


@dataclass(frozen=True)
class Contestant:
    """
    A file in a runtime.

    Args:
        version (`str`): The runtime's package, and which.
        file (`Path`): What it reads.
        run (`Callable`): From the number of a photograph to logits (1, K, h, w), or a label map (H, W).
    """

    version: str
    file: Path
    run: Callable[[int], np.ndarray]


class Contest:
    """
    Everything that can be run, and why the rest cannot.

    Args:
        folders (sequence of `str`): Exports; the first one in onnxruntime is the reference.
        args ([`RuntimesArguments`]): What for.

    Attributes:
        contestants (`dict[str, Contestant]`): By title, the reference first.
        refusals (`dict[str, str]`): By title.
    """

    def __init__(self, folders: Sequence[str], args: RuntimesArguments):
        self.contestants: dict[str, Contestant] = {}
        self.refusals: dict[str, str] = {}
        graphs = [OnnxGraph(Path(folder)) for folder in folders]
        if args.checkpoint is not None and graphs[0].record.label_map:
            raise InputError(f"{folders[0]} gives label maps, and --checkpoint logits: give an export of logits first")
        for graph in graphs:
            feeds = [feed_of(graph, file, args.size) for file in PHOTOGRAPHS]
            file, name = graph.folder / MODEL_FILE, graph.folder.name
            self._add(f"ONNX Runtime, {name}", ONNX_RUNTIME, file, feeds)
            self._add(f"OpenVINO, {name}", OPENVINO, file, feeds)
        if args.checkpoint is not None:
            network = ConvertibleNetwork(load_model(args.checkpoint)[0])
            example = torch.zeros(1, 3, args.size, args.size)
            pixels = [{PIXEL_VALUES: feed_of(graphs[0], file, args.size)[PIXEL_VALUES]} for file in PHOTOGRAPHS]
            for title, runtime in CONVERTED.items():
                file = Path(args.files).absolute() / runtime.file
                if not runtime.missing and runtime.convert is not None and not file.exists():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with torch.no_grad():
                        runtime.convert(network, example, file)
                self._add(title, runtime, file, pixels)

    def _add(self, title: str, runtime: Runtime, file: Path, feeds: list[dict[str, np.ndarray]]) -> None:
        if runtime.missing:
            self.refusals[title] = f"not installed: pip install {' '.join(runtime.missing)}"
            return
        try:
            run = runtime.open(file)
        except Exception as error:  # every runtime has its own
            self.refusals[title] = f"{runtime.version}: {' '.join(str(error).split())}"
        else:
            self.contestants[title] = Contestant(runtime.version, file, lambda index: run(feeds[index]))

    def times(self, rounds: int) -> dict[str, list[float]]:
        """Milliseconds of processor time, of the first photograph."""

        def timed(contestant: Contestant) -> float:
            began = time.process_time()
            contestant.run(0)
            return 1000 * (time.process_time() - began)

        turns = {title: lambda one=one: timed(one) for title, one in self.contestants.items()}
        return in_turns(turns, rounds, WARM_UP, PATIENCE)


def markdown(contest: Contest, args: RuntimesArguments, call: str) -> str:
    """A table of the contestants, and what the others are kept by."""
    machine, times = environment.machine(torch.device("cpu")), contest.times(args.rounds)
    first = next(iter(contest.contestants))
    expected = [contest.contestants[first].run(index) for index in range(len(PHOTOGRAPHS))]
    lines = [
        "# Exports in other runtimes",
        "",
        f"`{call}`, {machine['processor']}, one thread, {args.size}x{args.size} pixels, {environment.now()[:10]}. "
        f"The same class: % of the places in {' and '.join(Path(file).name for file in PHOTOGRAPHS)}. A run: "
        f"processor time, median [quartiles] of {args.rounds} rounds in turns; times as long: median of the rounds' "
        "ratios [95 % interval].",
        "",
        "| runtime | version | MB | the same class, % | difference | a run, ms | times as long |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, one in contest.contestants.items():
        pairs = [(one.run(index), output) for index, output in enumerate(expected)]
        likeness = " | "
        if all(made.shape == output.shape for made, output in pairs):
            same = (f"{100 * (classes_of(made) == classes_of(output)).mean():.2f}" for made, output in pairs)
            likeness = f"{', '.join(same)} | {max(abs(made - output).max() for made, output in pairs):.1g}"
        timing, ratio = Timing.of(times[title]), Ratio.of(times[title], times[first])
        low, high = timing.quartiles
        within = f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]" if ratio.interval else ""
        lines.append(
            f"| {title} | {one.version} | {one.file.stat().st_size / 1e6:.2f} | {likeness} | "
            f"{timing.median:.1f} [{low:.1f}, {high:.1f}] | "
            f"{ratio.median:.2f}{within} |"
        )
    lines += ["", *(f"- {title}: {why}" for title, why in contest.refusals.items())]
    return "\n".join(lines).rstrip() + "\n"


def main(folders: list[str], args: RuntimesArguments) -> None:
    text = markdown(Contest(folders, args), args, shlex.join(["runtimes.py", *sys.argv[1:]]))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(text, encoding="utf-8")
    print(text)


def parse(argv: list[str] | None = None) -> tuple[list[str], RuntimesArguments]:
    description = "Exported folders; the first one, in onnxruntime, is what all are compared with."
    return arguments.parse_subject(__doc__, RuntimesArguments, "exports", description, nargs="+", argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
