"""A stranger's process: it has neither of this project's packages."""

import os
import subprocess
import sys
from pathlib import Path

import torch


def load_elsewhere(cache: Path, *sources: str, **environment: str) -> list[dict]:
    """What the Auto classes give there for repositories and folders; see clean_process.py. `cache` is its HF_HOME."""
    out, script = cache / "found.pt", Path(__file__).with_name("clean_process.py")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment = {**inherited, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-I", str(script), str(out), *sources]
    done = subprocess.run(
        command, env=environment, cwd=cache, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(out)
    return [found[source] for source in sources]
