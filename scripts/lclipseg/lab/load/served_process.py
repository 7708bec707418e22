"""`lclipseg serve` in a process of its own, watched from outside."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.console.paths import project

ADDRESS = re.compile(r"^serving .* on (http://\S+)$")
GOODBYE = re.compile(r"^stopped: (\d+) requests were accepted, (\d+) answered$")
SAMPLE_SECONDS = 0.1


class ServedProcess:
    """
    A server on a free port of the loopback interface, stopped at the end of `with`.

    Args:
        model (`str`): What it serves.
        options (sequence of `str`): Further options of `lclipseg serve`.

    Raises:
        InputError: it does not start; with what it said.
    """

    def __init__(self, model: str, options: Sequence[str] = ()):
        self._command = [sys.executable, str(project("scripts", "serve.py")), model, "--port", "0", *options]
        self.said: list[str] = []

    def __enter__(self) -> "ServedProcess":
        paths = os.pathsep.join([str(project()), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
        )
        try:
            self.url = self._wait_for_address()
        except BaseException:
            self.__exit__()  # the server must not outlive this process
            raise
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def memory(self) -> float:
        """Resident memory in MB (10^6 bytes), read as Linux tells it."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return round(int(found[1]) * 1024 / 1e6, 1) if found else float("nan")

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> tuple[int, int, int]:
        """Exit status, and how many requests it says it accepted and answered; waits for its end."""
        status = self.process.wait()
        self._listener.join()
        counts = [found for line in self.said if (found := GOODBYE.match(line))]
        return status, *((int(counts[-1][1]), int(counts[-1][2])) if counts else (-1, -1))

    def _wait_for_address(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if found := ADDRESS.match(self.said[-1]):
                return found[1]
        raise InputError("the server did not start: " + "\n".join(self.said[-5:]))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said += [line.rstrip("\n") for line in self.process.stderr]


class MemoryWatch:
    """Samples a server's resident memory while `with` lasts: `samples` are (seconds, MB)."""

    def __init__(self, server: ServedProcess):
        self.server = server
        self.samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._began = time.perf_counter()
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._sample()

    @property
    def peak(self) -> float:
        return max(memory for _, memory in self.samples)

    def course(self, count: int) -> list[float]:
        """`count` or fewer samples, evenly spread, the first and the last among them."""
        step = max(1, (len(self.samples) - 1) // max(1, count - 1))
        return [memory for _, memory in self.samples[:-1:step]] + [self.samples[-1][1]]

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.samples.append((round(time.perf_counter() - self._began, 1), self.server.memory()))
