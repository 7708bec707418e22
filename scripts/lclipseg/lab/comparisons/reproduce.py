"""Run the comparisons of configuration/comparisons, and renew docs/results.md from what they gave.

    python scripts/reproduce.py methods --data_root data --bank_root words --weights_root weights
    python scripts/reproduce.py costs

Each cell of the table (method, backbone, data set, seed) is one training and one evaluation, and leaves one line in
--results. Cells that have a line are not run again, and a run that was stopped goes on from its last checkpoint, so
the command can be stopped and started at any time, also on another machine with the same lines.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.files import read_yaml
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.lab.comparisons.grid import BUDGETS, Cell, Comparison, ResultLines
from lclipseg.lab.comparisons.scored import headline, score_cell
from lclipseg.lab.timing.forward import time_forward
from lclipseg.lab.timing.stopwatch import Ratio, Timing
from lclipseg.networks.build import config_fields
from lclipseg.networks.costs import count

COSTS = "costs"
PATHS = {"data", "output_dir", "bank", "backbone_weights", "resume", "trackers", "classes", "held_out"}


@dataclass
class ReproduceArguments:
    """Where things are, and how much of the machine is used."""

    budget: str = field(default="cpu", metadata={"help": "Schedule: cpu or gpu (configuration/recipes/DATA-BUDGET)."})
    data_root: str = field(default="data", metadata={"help": "Folder of the prepared data sets, one folder each."})
    bank_root: str = field(
        default="words", metadata={"help": "Folder of word banks DATA.safetensors; where one lacks, a text tower."}
    )
    weights_root: str = field(
        default="weights", metadata={"help": "Folder of backbone weights PRESET.safetensors; else from the Hub."}
    )
    runs: str = field(default="runs/grid", metadata={"help": "Folder for checkpoints and logs of the runs."})
    results: str = field(default="docs/results/grid.jsonl", metadata={"help": "The results lines."})
    costs: str = field(default="docs/results/costs.json", metadata={"help": "What the networks cost."})
    report: str = field(default="docs/results.md", metadata={"help": "The page of tables that is renewed."})
    workers: int = field(default=1, metadata={"help": "Runs at a time."})
    threads: int | None = field(
        default=None, metadata={"help": "Threads of every run. Default: its share of the processor's."}
    )
    seeds: list[int] = field(default_factory=list, metadata={"help": "Only these seeds of the table."})
    data: list[str] = field(default_factory=list, metadata={"help": "Only these data sets."})
    backbones: list[str] = field(default_factory=list, metadata={"help": "Only these backbones."})
    size: int = field(default=512, metadata={"help": "Height and width in pixels of the image that costs are of."})
    rounds: int = field(default=20, metadata={"help": "Timed passes of every network."})
    dry_run: bool = field(default=False, metadata={"help": "Name the missing cells and stop."})

    def __post_init__(self) -> None:
        if self.budget not in BUDGETS:
            raise InputError(f"--budget is {self.budget!r}; allowed: {', '.join(BUDGETS)}")
        if self.workers < 1 or self.rounds < 2:
            raise InputError("--workers must be at least 1, and --rounds at least 2.")


# Runs one of our scripts: its name, its options, the folder of the run, which has its log, and what the machine has.
RunScript = Callable[[str, list[str], Path, ReproduceArguments], None]


def run_script(script: str, options: list[str], folder: Path, args: ReproduceArguments) -> None:
    """In a process of its own, with its share of the threads and its output in the run's log."""
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.workers)
    paths = [str(project()), *filter(None, [os.environ.get("PYTHONPATH")])]
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(project("scripts", script)), *options]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, env=surroundings, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
        raise InputError(f"{script} failed with status {done.returncode}: {' | '.join(said)} (see {folder}/log.txt)")


def main(name: str, args: ReproduceArguments, run: RunScript = run_script) -> None:
    """Run what is missing of one table."""
    if name == COSTS:
        measure_costs(args)
        return
    lines = ResultLines(args.results)
    finished = lines.read()
    wanted = [cell for cell in Comparison.load(name).cells(args.budget) if _asked_for(cell, args)]
    missing = [cell for cell in wanted if cell.hash not in finished]
    print(f"{name}: {len(wanted) - len(missing)} of {len(wanted)} cells have a result, {len(missing)} are missing")
    if args.dry_run:
        print("\n".join(f"{cell.hash}  {cell.name}" for cell in missing))
        return
    _run_all(missing, lines, args, run)
    from lclipseg.lab.comparisons.report import (
        write_report,  # plots need packages that a machine for runs alone can do without
    )

    write_report(Path(args.results), Path(args.costs), Path(args.report), args.budget)


def _asked_for(cell: Cell, args: ReproduceArguments) -> bool:
    wanted = ((cell.seed, args.seeds), (cell.data, args.data), (cell.backbone, args.backbones))
    return all(value in chosen for value, chosen in wanted if chosen)


def _run_all(cells: list[Cell], lines: ResultLines, args: ReproduceArguments, run: RunScript) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A run takes minutes: the pace is that of all finished ones, not of the last half minute.
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), speed_estimate_period=1e6) as progress:
        task = progress.add_task("runs", total=len(cells))

        def finish(cell: Cell) -> None:
            try:
                line = run_cell(cell, args, run)
            except InputError as error:
                progress.console.print(f"{cell.hash}  {cell.name}: {error}")
                raise
            lines.append(line)
            progress.console.print(f"{cell.hash}  {cell.name}: {headline(line)}")
            progress.advance(task)

        with ThreadPoolExecutor(args.workers) as pool:
            futures = [pool.submit(finish, cell) for cell in cells]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
            failed = [future for future in done if future.exception() is not None]
            for future in futures if failed else ():
                future.cancel()
        for future in failed:
            future.result()


def run_cell(cell: Cell, args: ReproduceArguments, run: RunScript) -> dict[str, Any]:
    """Train and score one cell; returns its results line."""
    folder = Path(args.runs) / cell.hash
    folder.mkdir(parents=True, exist_ok=True)
    words = _bank_options(cell, args)
    options = [*cell.train_options(), "--output_dir", str(folder), "--trackers", "none"]
    options += ["--data", *(f"{args.data_root}/{name}" for name in cell.trained_on)]
    weights = Path(args.weights_root) / f"{cell.backbone}.safetensors"
    if weights.is_file():
        options += ["--backbone_weights", str(weights)]
    resumed = (folder / "last").is_dir() or (folder / "last.old").is_dir()
    if resumed:
        options += ["--resume", "true"]
    began = time.perf_counter()
    run("train.py", [*options, *words], folder, args)
    seconds = time.perf_counter() - began

    scored = score_cell(cell, folder, args.data_root, words, lambda script, given: run(script, given, folder, args))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    network = (cell.backbone, _config_of(cell.options), len(record["class_names"]))
    cost = count(*network[:2], args.size, network[2])
    # On a machine that may be busy with other runs; `costs` compares methods fairly, in turns.
    (times,) = time_forward([network], args.size, args.rounds, _device())
    return {
        "hash": cell.hash,
        "name": cell.name,
        **asdict(cell),
        "arguments": {key: value for key, value in record["arguments"].items() if key not in PATHS},
        "steps": record["steps"],
        "train_seconds": None if resumed else round(seconds, 1),
        "val_mean_iou": last["mean_iou"],
        "versions": record["versions"],
        "machine": record["machine"],
        "commit": environment.commit(),
        "date": record["date"],
        **scored,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "latency_ms": round(median(times), 2),
        "cost_image_size": args.size,
    }


def _bank_options(cell: Cell, args: ReproduceArguments) -> list[str]:
    bank = Path(args.bank_root) / Path(read_yaml(cell.recipe).get("bank", f"{cell.data}.safetensors")).name
    return ["--bank", str(bank)] if bank.is_file() and cell.options.get("guidance") != "none" else []


def _config_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the configuration, among the options of a variant, that change what its network costs."""
    return {"guidance": options["guidance"], **config_fields(options.get("config", []))}


def measure_costs(args: ReproduceArguments) -> None:
    """Parameters, multiply-accumulates and latency of every method on every backbone, for all class counts, and how
    many times those of the table's first method they are."""
    table = Comparison.load("methods")
    device = _device()
    methods: dict[str, dict[str, Any]] = {}  # several variants can share a network; the first gives it its name
    for variant, options in table.variants.items():
        if (config := _config_of(options)) not in methods.values():
            methods[variant] = config
    rows: list[dict[str, Any]] = []
    for backbone in table.backbones:
        for num_classes in (11, 36, 150):
            networks = [(backbone, config, num_classes) for config in methods.values()]
            times = time_forward(networks, args.size, args.rounds, device)
            costs = [count(*network[:2], args.size, num_classes) for network in networks]
            for (method, config), cost, measured in zip(methods.items(), costs, times, strict=True):
                timing, ratio = Timing.of(measured), Ratio.of(measured, times[0])
                rows.append(
                    {
                        "backbone": backbone,
                        "method": method,
                        "config": config,
                        "num_classes": num_classes,
                        "parameters": cost.parameters,
                        "macs": cost.macs,
                        "macs_ratio": round(cost.macs / costs[0].macs, 3),
                        "latency_ms": timing.median,
                        "latency_ms_spread": timing.quartiles,
                        "latency_ratio": ratio.median,
                        "latency_ratio_interval": ratio.interval,
                    }
                )
                print(f"{backbone} {method} K={num_classes}: {timing.median} ms, {ratio.median} times")
    content = {
        "machine": environment.machine(device),
        "versions": environment.versions(),
        "date": environment.now(),
        "size": args.size,
        "rounds": args.rounds,
        "reference": next(iter(methods)),
        "rows": rows,
    }
    Path(args.costs).parent.mkdir(parents=True, exist_ok=True)
    Path(args.costs).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse(argv: list[str] | None = None) -> tuple[str, ReproduceArguments]:
    description = f"One of {', '.join(Comparison.names())}, or {COSTS}."
    return arguments.parse_subject(__doc__, ReproduceArguments, "table", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
