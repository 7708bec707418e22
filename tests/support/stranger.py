"""A stranger's process: it has neither of this project's packages."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def stranger(cache: Path, **environment: str) -> Iterator[Callable[..., list[dict]]]:
    """What the Auto classes give there for repositories and folders, see clean_process.py; a call finds `cache`, its
    HF_HOME, as the one before left it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment = {**inherited, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-I", str(Path(__file__).with_name("clean_process.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    out, log = cache / "found.pt", cache / "log.txt"
    with log.open("w") as said, subprocess.Popen(command, env=environment, cwd=cache, stderr=said, **pipes) as process:

        def load(*sources: str, offline: bool = False) -> list[dict]:
            job = {"sources": sources, "offline": offline, "out": str(out)}
            print(json.dumps(job), file=process.stdin, flush=True)
            assert process.stdout.readline() == "0\n", log.read_text()
            found = torch.load(out)
            return [found[source] for source in sources]

        yield load
