"""How much memory one prediction takes, in a process of its own: Python, torch and the network together."""

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image

from lclipseg.lab.timing.contestant import Setting
from lclipseg.lab.timing.contestants import ON_CPU, build_contestant

STATUS = Path("/proc/self/status")  # getrusage would count what the parent process had


@dataclass(frozen=True)
class PeakMemory:
    """Largest resident sizes in MB (10^6 bytes): with the libraries loaded, and after the network and a prediction."""

    libraries: float
    total: float


def peak_memory(name: str, setting: Setting) -> PeakMemory | None:
    """
    The memory of a process that builds contestant `name` and predicts once. `None` where the system does not tell (it
    is asked as Linux is), and for exported networks, whose export would be counted.
    """
    if not STATUS.is_file() or name.endswith(ON_CPU):
        return None
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_predict_alone, name, setting, torch.get_num_threads()).result()


def _predict_alone(name: str, setting: Setting, threads: int) -> PeakMemory:
    libraries = largest()
    torch.set_num_threads(threads)
    contestant = build_contestant(name, setting)
    with torch.inference_mode():
        image = Image.new("RGB", (setting.size, setting.size))
        contestant.label(contestant.forward(contestant.prepare(image)))
    return PeakMemory(libraries, largest())


def largest() -> float:
    """The largest resident size of this process so far, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return round(int(found[1]) * 1024 / 1e6, 1) if found else float("nan")
