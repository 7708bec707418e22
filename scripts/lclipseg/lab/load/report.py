"""The record of a load test, and how it is written down."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 119
LOAD_HEAD = """\
| load | requests | at a time | s | answers/s | segmentations/s | p50, ms | p90, ms | p99, ms | wrong | unanswered |
|---|---|---|---|---|---|---|---|---|---|---|"""
ANSWER_HEAD = """\
| load | statuses | not as alone | pixels differing at most | memory before, MB | peak | after |
|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Phase:
    """
    One load. Latencies are those of requests that were met; memory is the server's resident memory.

    Args:
        requests, concurrency (`int`), seconds (`float`): How many, how many at a time, and how long it took.
        per_second, met_per_second (`float`): Answers, and segmentations among them.
        p50_ms, p90_ms, p99_ms (`int`): Percentiles of the latency in milliseconds, as the client sees it.
        statuses (`dict[str, int]`): How often each status came.
        wrong, unanswered (`int`): Answers with another status than the request must get, or not well formed; requests
            without an answer.
        not_identical (`int`), largest_difference (`float`): Answers in which a mask is not that of the same request
            alone, and the largest share of pixels in which one differs.
        memory_before_mb, memory_peak_mb, memory_after_mb (`float`), memory_course_mb (`list[float]`): In MB (10^6
            bytes); the course is evenly spread over the time.
    """

    requests: int
    concurrency: int
    seconds: float
    per_second: float
    met_per_second: float
    p50_ms: int
    p90_ms: int
    p99_ms: int
    statuses: dict[str, int]
    wrong: int
    unanswered: int
    not_identical: int
    largest_difference: float
    memory_before_mb: float
    memory_peak_mb: float
    memory_after_mb: float
    memory_course_mb: list[float]


@dataclass(frozen=True)
class LoadRecord:
    """
    A load test: its phases by name, and how the server was stopped in between.

    Args:
        memory_at_start_mb (`float`): Before the first request.
        phases (`dict[str, Phase]`): In the order in which they ran.
        stop_answered, stop_cut_off, stop_refused (`int`): Around SIGTERM: requests that were answered; connections
            that ended without an answer, which the server had not read from; connections that were refused.
        exit_status (`int`): Of the server.
        accepted, answers_arrived (`int`): In all phases, as counted by the server and by the client.
    """

    memory_at_start_mb: float
    phases: dict[str, Phase]
    stop_answered: int
    stop_cut_off: int
    stop_refused: int
    exit_status: int
    accepted: int
    answers_arrived: int


def as_markdown(record: LoadRecord, content: Mapping[str, Any]) -> str:
    """
    A page for people.

    Args:
        record ([`LoadRecord`]): What was measured.
        content (`dict`): What stands in load.json: machine, versions, arguments, date.
    """
    machine, arguments = content["machine"], content["arguments"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    steady = record.phases["steady"]
    course = ", ".join(f"{memory:,.0f}" for memory in steady.memory_course_mb)
    setting = (
        f"{content['date'][:10]}, {machine['processor']}, {machine['cpu_count']} cores, threads for the "
        f"network: {machine['torch_threads']}, client and server on the same machine; {versions}. The image is "
        f"{content['image']} at a width of {arguments['width']} pixels, as JPEG, PNG and JSON, with the model's "
        "classes or five of the caller's; the network sees it at its own size all the same. "
        f"{100 * arguments['bad_share']:.0f} % of the requests of the first two rows must be refused, in eleven ways. "
        f"Server: `--max_batch {arguments['max_batch']} --queue_limit {arguments['queue_limit']}`. Every answer was "
        f"checked: its status, its form, the size of its masks. {arguments['note']}".rstrip()
    )
    meaning = (
        'Latencies are those of requests that were met. "Not as alone": answers with a mask that is not, pixel for '
        "pixel, the one of the same request without load. The last rows are the costliest requests that are allowed."
    )
    memory = (
        f"Resident memory of the server: {record.memory_at_start_mb:,.0f} MB before the first request; in the course "
        f"of the steady load, evenly spread: {course} MB."
    )
    stop = (
        f"SIGTERM in between: {record.stop_answered} requests of that part were answered, {record.stop_cut_off} "
        f"connections ended before the server had read a request, {record.stop_refused} were refused; exit status "
        f"{record.exit_status}. In all parts together the server accepted {record.accepted:,} requests, and "
        f"{record.answers_arrived:,} answers arrived."
    )
    loads = "\n".join([LOAD_HEAD, *(_load_row(name, phase) for name, phase in record.phases.items())])
    answers = "\n".join([ANSWER_HEAD, *(_answer_row(name, phase) for name, phase in record.phases.items())])
    title, command = "# Under load", f"`python scripts/load.py {content['model']} --out docs/results`"
    texts = [_filled(text) for text in (setting, meaning, memory, stop)]
    return "\n\n".join([title, command, texts[0], loads, answers, *texts[1:]]) + "\n"


def _load_row(name: str, phase: Phase) -> str:
    cells = [
        name,
        f"{phase.requests:,}",
        phase.concurrency,
        f"{phase.seconds:,.1f}",
        phase.per_second,
        phase.met_per_second,
        f"{phase.p50_ms:,}",
        f"{phase.p90_ms:,}",
        f"{phase.p99_ms:,}",
        phase.wrong,
        phase.unanswered,
    ]
    return _cells(cells)


def _answer_row(name: str, phase: Phase) -> str:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in phase.statuses.items())
    memory = (phase.memory_before_mb, phase.memory_peak_mb, phase.memory_after_mb)
    differing = f"{100 * phase.largest_difference:.3f} %"
    return _cells([name, statuses, phase.not_identical, differing, *(f"{value:,.0f}" for value in memory)])


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _cells(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
