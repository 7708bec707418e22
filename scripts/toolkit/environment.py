"""What a number depends on besides the code: versions, machine, date. Written beside every result."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from transformers.utils import SAFE_WEIGHTS_NAME

from scripts.toolkit.export_record import EXPORT_FILE, MODEL_FILE

PACKAGES = ("torch", "torchvision", "transformers", "timm", "accelerate", "onnx", "onnxruntime", "lclipseg")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the project itself, used from a checkout
            continue
    return found


def machine(device: torch.device) -> dict[str, str | int | None]:
    """Processor, threads and, where `device` is one, GPU."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> str | None:
    """The commit of this checkout, with "+" where files differ from it; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def weights_sha256(folder: str | Path) -> str | None:
    """The SHA-256 of what runs in a folder, by which a result knows it: the graph of an exported model, or a
    checkpoint's weights; None where there is none, as with a name on the Hub."""
    folder = Path(folder).expanduser()
    weights = folder / (MODEL_FILE if (folder / EXPORT_FILE).is_file() else SAFE_WEIGHTS_NAME)
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _processor() -> str:
    """The processor's own name; `platform.processor` is empty on many Linux systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
