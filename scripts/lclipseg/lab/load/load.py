"""Put the server under load and check every answer: a steady load, an overload, the largest requests, a stop.

    python scripts/load.py checkpoints/lclipseg-mbv3s-camvid --out docs/results

It starts a server of its own on the loopback interface. One request of ten is one that must be refused. Writes
load.json and load.md; the exit status is 1 if any answer was wrong or missing.
"""

import asyncio
import json
import logging
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from PIL import Image

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.lab.load.report import LoadRecord, Phase, as_markdown
from lclipseg.lab.load.requests import Sent, bad_requests, check_answer, good_requests, largest_requests, mask
from lclipseg.lab.load.served_process import MemoryWatch, ServedProcess
from lclipseg.networks.checkpoints import load_model, weights_sha256
from modeling_lclipseg import WordBank

try:
    import httpx
except ModuleNotFoundError:
    sys.exit("error: the load test needs httpx; install it with: pip install -e '.[dev]'")

logger = logging.getLogger("lclipseg")

PATIENCE = 120.0  # seconds after which a request counts as unanswered
VERSIONS_OF = ("torch", "transformers", "pillow", "fastapi", "uvicorn", "prometheus_client", "httpx")
MEMORY_POINTS = 21
SHOWN_PROBLEMS = 20
STOP_AFTER, STOP_CONCURRENCY = 60, 16  # answers before SIGTERM, and who asks meanwhile


@dataclass
class LoadArguments:
    out: str = field(default="load", metadata={"help": "Folder for load.json and load.md."})
    image: str = field(default=str(project("docs", "demo", "street.jpg")), metadata={"help": "A photograph."})
    width: int = field(default=256, metadata={"help": "Width in pixels to bring it to."})
    requests: int = field(default=10_000, metadata={"help": "Requests of the steady load."})
    concurrency: int = field(default=8, metadata={"help": "Requests at a time."})
    overload_requests: int = field(default=2_000, metadata={"help": "Requests of the overload."})
    overload_concurrency: int = field(default=256, metadata={"help": "Requests at a time; above --queue_limit."})
    bad_share: float = field(default=0.1, metadata={"help": "Share of requests that must be refused, 0 to 1."})
    max_batch: int = field(default=4, metadata={"help": "As for `lclipseg serve`."})
    queue_limit: int = field(default=32, metadata={"help": "As for `lclipseg serve`."})
    seed: int = field(default=0, metadata={"help": "Seed of the order of the requests."})
    note: str = field(default="", metadata={"help": "A sentence for the record, say on what else the machine did."})


class Client:
    """
    Sends requests, and notes what comes back.

    Args:
        url (`str`): Of the server.
        connections (`int`): The most at a time.
    """

    def __init__(self, url: str, connections: int):
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE, trust_env=False)
        self.alone: dict[str, list[dict[str, Any]]] = {}  # the answer to each kind when nothing else was asked
        self.answered = 0

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    async def send(self, sent: Sent) -> httpx.Response:
        content: bytes | AsyncIterator[bytes] = _chunks(sent.body) if sent.chunked else sent.body
        headers = {"Content-Type": sent.content_type}
        answer = await self._http.request(sent.method, sent.path, content=content, headers=headers)
        self.answered += 1
        return answer

    async def learn(self, requests: Sequence[Sent]) -> None:
        """Ask for each kind once, one after the other."""
        for sent in requests:
            answer = await self.send(sent)
            if problem := check_answer(sent, answer.status_code, answer.content):
                raise InputError(f"the server does not work even without load: {problem}")
            self.alone[sent.kind] = answer.json()

    async def run(self, requests: Sequence[Sent], concurrency: int, tally: "Tally", busy_is_right: bool) -> None:
        """Send the requests, so many at a time, the next one as soon as one is answered."""
        waiting = iter(requests)

        async def worker() -> None:
            for sent in waiting:
                began = time.perf_counter()
                try:
                    answer = await self.send(sent)
                except httpx.HTTPError as error:
                    tally.unanswered(sent, error)
                    continue
                tally.answered(sent, answer, time.perf_counter() - began, self.alone.get(sent.kind), busy_is_right)

        await asyncio.gather(*(worker() for _ in range(concurrency)))


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of those that were met
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    not_identical: int = 0
    largest_difference: float = 0.0

    def answered(
        self, sent: Sent, answer: httpx.Response, seconds: float, alone: Any, busy_is_right: bool = False
    ) -> None:
        self.statuses[str(answer.status_code)] += 1
        problem = check_answer(sent, answer.status_code, answer.content, (503,) if busy_is_right else ())
        if answer.status_code == 503 and not answer.headers.get("retry-after", "").isdecimal():
            problem = f"{sent.kind}: status 503 without Retry-After"
        if problem:
            self.wrong.append(problem)
        elif answer.status_code == 200:
            self.seconds.append(seconds)
            if alone is not None and (difference := _difference(answer.json(), alone)):
                self.not_identical += 1
                self.largest_difference = max(self.largest_difference, difference)

    def unanswered(self, sent: Sent, error: Exception) -> None:
        self.missing.append(f"{sent.kind}: {type(error).__name__} {error}")

    def phase(self, took: float, watch: MemoryWatch, concurrency: int) -> Phase:
        p50, p90, p99 = (round(1000 * value) for value in _percentiles(self.seconds, (50, 90, 99)))
        count = sum(self.statuses.values()) + len(self.missing)
        return Phase(
            requests=count,
            concurrency=concurrency,
            seconds=round(took, 1),
            per_second=round(count / took, 1),
            met_per_second=round(len(self.seconds) / took, 1),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            statuses=dict(sorted(self.statuses.items())),
            wrong=len(self.wrong),
            unanswered=len(self.missing),
            not_identical=self.not_identical,
            largest_difference=self.largest_difference,
            memory_before_mb=watch.samples[0][1],
            memory_peak_mb=watch.peak,
            memory_after_mb=watch.samples[-1][1],
            memory_course_mb=watch.course(MEMORY_POINTS),
        )


def main(model: str, args: LoadArguments) -> int:
    """
    Run the load test and write its record.

    Args:
        model (`str`): Folder of an open-vocabulary checkpoint, or OWNER/NAME on the Hub.
        args ([`LoadArguments`]): the options.

    Returns:
        `int`: the exit status: 0, or 1 if any answer was wrong or missing.

    Raises:
        [`InputError`]: an image or model that cannot be used.
    """
    try:
        image = Image.open(args.image)
    except OSError as error:
        raise InputError(f"--image {args.image}: {error}") from error
    out = Path(args.out).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made a folder: {error.strerror}") from error
    with tempfile.TemporaryDirectory() as folder:
        classes, words = _write_bank(model, Path(folder) / "words.safetensors")
        options = ["--bank", f"{folder}/words.safetensors", "--max_batch", str(args.max_batch)]
        with ServedProcess(model, [*options, "--queue_limit", str(args.queue_limit)]) as server:
            requests = good_requests(image, args.width, classes)
            record, problems = asyncio.run(_run(server, args, requests, largest_requests(len(classes), words)))
    for problem in problems[:SHOWN_PROBLEMS]:
        logger.error("%s", problem)
    content = {
        "model": model,
        "weights_sha256": weights_sha256(model),
        "date": environment.now(),
        "machine": environment.machine(torch.device("cpu")),
        "versions": environment.versions(VERSIONS_OF),
        "arguments": {name: value for name, value in asdict(args).items() if name not in ("out", "image")},
        "image": Path(args.image).name,
        **asdict(record),
    }
    (out / "load.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (out / "load.md").write_text(as_markdown(record, content), encoding="utf-8")
    logger.info("%s", as_markdown(record, content))
    return 1 if problems else 0


async def _run(
    server: ServedProcess, args: LoadArguments, good: Sequence[Sent], largest: Sequence[Sent]
) -> tuple[LoadRecord, list[str]]:
    draw = random.Random(args.seed)
    bad = bad_requests(good[0].body)

    def mixed(count: int) -> list[Sent]:
        return [draw.choice(bad if draw.random() < args.bad_share else good) for _ in range(count)]

    phases: dict[str, Phase] = {}
    problems: list[str] = []

    async def phase(name: str, requests: Sequence[Sent], concurrency: int, busy_is_right: bool = False) -> None:
        logger.info("%s: %d requests, %d at a time", name, len(requests), concurrency)
        tally = Tally()
        with MemoryWatch(server) as watch:
            began = time.perf_counter()
            await client.run(requests, concurrency, tally, busy_is_right)
            took = time.perf_counter() - began
        phases[name] = tally.phase(took, watch, concurrency)
        problems.extend([*tally.wrong, *tally.missing])

    async with Client(server.url, args.overload_concurrency) as client:
        at_start = server.memory()
        await client.learn([*good, *bad])
        await phase("steady", mixed(args.requests), args.concurrency)
        await phase("overload", mixed(args.overload_requests), args.overload_concurrency, busy_is_right=True)
        for sent in largest:
            await phase(sent.kind, [sent], 1)
        stop = await _stop_in_between(server, client, good, problems.append)
    return LoadRecord(at_start, phases, **stop), problems


async def _stop_in_between(
    server: ServedProcess, client: Client, good: Sequence[Sent], problem: Callable[[str], None]
) -> dict[str, int]:
    """SIGTERM while requests are under way. Whoever gets through to the server must be answered, then it must end."""
    logger.info("SIGTERM after %d answers", STOP_AFTER)
    answered = cut_off = refused = 0

    async def worker() -> None:
        nonlocal answered, cut_off, refused
        while not refused:
            sent = good[answered % len(good)]
            try:
                answer = await client.send(sent)
            except httpx.ConnectError:
                refused += 1
            except httpx.HTTPError:
                cut_off += 1
            else:
                answered += 1
                if wrong := check_answer(sent, answer.status_code, answer.content, allowed=(503,)):
                    problem(f"while stopping: {wrong}")
                if answered == STOP_AFTER:
                    server.ask_to_stop()

    await asyncio.gather(*(worker() for _ in range(STOP_CONCURRENCY)))
    status, accepted, answered_in_all = await asyncio.to_thread(server.ended)
    if status != 0:
        problem(f"the server ended with status {status}: {server.said[-3:]}")
    if not accepted == answered_in_all == client.answered:
        problem(f"{accepted} requests were accepted, {answered_in_all} answered, {client.answered} answers arrived")
    return {
        "stop_answered": answered,
        "stop_cut_off": cut_off,
        "stop_refused": refused,
        "exit_status": status,
        "accepted": accepted,
        "answers_arrived": client.answered,
    }


def _write_bank(model: str, path: Path) -> tuple[list[str], list[str]]:
    """A word bank of many classes for the model, scattered like its own; the model's classes, and the bank's words."""
    network, _ = load_model(model)
    own = network.class_embeddings.float()
    noise = torch.randn(200, own.shape[1], generator=torch.Generator().manual_seed(0))
    vectors = own.mean(dim=0) + noise * own.std(dim=0)
    words = [f"word {index}" for index in range(len(vectors))]
    WordBank(tuple(words), vectors, network.config.text_model_name_or_path).save(path)
    return list(network.config.class_names), words


def _difference(answer: list[dict[str, Any]], alone: list[dict[str, Any]]) -> float:
    """The share of pixels that have another class than in the answer to the same request alone."""
    if [(segment["label"], segment["mask"]) for segment in answer] == [(one["label"], one["mask"]) for one in alone]:
        return 0.0
    masks = [{segment["label"]: mask(segment) for segment in segments} for segments in (answer, alone)]
    if set(masks[0]) != set(masks[1]):
        return 1.0
    return float(max((masks[0][label] != masks[1][label]).mean() for label in masks[0]))


def _percentiles(values: Sequence[float], which: Sequence[int]) -> list[float]:
    if len(values) < 2:
        return [*values, 0.0][:1] * len(which)
    points = quantiles(values, n=100, method="inclusive")
    return [points[percent - 1] for percent in which]


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 2**20):
        yield content[start : start + 2**20]


def parse(argv: list[str] | None = None) -> tuple[str, LoadArguments]:
    description = "Folder of an open-vocabulary checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, LoadArguments, "model", description, argv=argv)


def command() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server must not outlive this process
    run_command(lambda: sys.exit(main(*parse())))


if __name__ == "__main__":
    command()
