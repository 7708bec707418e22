"""Check all pairs of a source in several processes; what they find arrives part by part, in order."""

import logging
import multiprocessing
import os
import signal
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from lclipseg.console.errors import InputError
from lclipseg.data.check.problems import Summary
from lclipseg.data.check.source import SplitSource
from lclipseg.data.class_list import ClassList

PAIRS_A_PART = 32  # few enough that an interrupted check ends soon, whatever the size of the images
PARTS_AHEAD = 4  # for each process: enough that none waits, few enough that memory stays small
PAIRS_A_PROCESS = 1000  # fewer are not worth another process


@dataclass(frozen=True)
class Part:
    """The pairs `start` to `stop - 1` of the split with this index."""

    split: int
    start: int
    stop: int


@dataclass(frozen=True)
class Checker:
    """What a process needs to check any part."""

    splits: Sequence[SplitSource]
    classes: ClassList
    quick: bool

    def parts(self) -> Iterator[Part]:
        for index, split in enumerate(self.splits):
            for start in range(0, len(split), PAIRS_A_PART):
                yield Part(index, start, min(start + PAIRS_A_PART, len(split)))

    def check(self, part: Part) -> Summary:
        split = self.splits[part.split]
        summary = Summary(split.name)
        logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says of damaged files is in the report
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's as well, of odd but harmless metadata
            for index in range(part.start, part.stop):
                summary.check(*split.pair(index), self.classes, self.quick)
        return summary

    def run(self, workers: int) -> Iterator[tuple[Part, Summary]]:
        """
        Check all parts.

        Args:
            workers (`int`): how many processes; with one, it is this one.

        Raises:
            [`InputError`]: a process was killed, which is what systems do when memory is short.
        """
        if workers == 1:
            for part in self.parts():
                yield part, self.check(part)
            return
        pending: deque[tuple[Part, Future[Summary]]] = deque()
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(workers, initializer=_start, initargs=(self,))
        try:
            for part in self.parts():
                pending.append((part, pool.submit(_check, part)))
                if len(pending) == workers * PARTS_AHEAD:
                    done, future = pending.popleft()
                    yield done, future.result()
            for done, future in pending:
                yield done, future.result()
        except BrokenProcessPool as error:
            raise InputError(f"one of {workers} processes was killed; if memory is short, lower --workers") from error
        except BaseException:  # Ctrl-C, which its processes leave to this one
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def suitable_workers(pairs: int) -> int:
    """As many processes as there are processors, fewer for few pairs."""
    return max(1, min(os.cpu_count() or 1, pairs // PAIRS_A_PROCESS))


_checker: Checker  # of a worker process: sent once, and not with every part


def _start(checker: Checker) -> None:
    global _checker
    _checker = checker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the one that asked for this ends it


def _check(part: Part) -> Summary:
    return _checker.check(part)
