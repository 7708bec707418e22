"""Import every module of the project in a process that lets nobody out: run by `python quiet_imports.py ROOT`.

Prints, as JSON, the modules that were imported, and what was tried while they were: connections, other programs, and
files opened for writing or otherwise changed. The libraries, some of which fill caches of their own, come before.
"""

import importlib
import importlib.util
import json
import pkgutil
import sys
from pathlib import Path

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"}
PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
LIBRARIES = (
    "accelerate",
    "datasets",
    "evaluate",
    "matplotlib.figure",
    "onnxruntime.quantization",
    "scipy.stats",
    "timm",
    "torch._inductor.utils",
    "torchvision.transforms.v2",
    "transformers.models.auto.modeling_auto",
)
BY_PATH = (
    "lclipseg/endpoint/handler.py",
    "mean_iou/mean_iou.py",
    "space/checkpoint.py",
    "space/demo.py",
    "space/markup.py",
)
WRITING = 0o3 | 0o100 | 0o1000 | 0o2000  # O_ACCMODE, O_CREAT, O_TRUNC, O_APPEND

tried: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    if writes and str(arguments[0]) not in ("/dev/null", "/dev/urandom"):
        tried.append(f"open {arguments[0]}")
    elif event in CHANGES | PROGRAMS:
        tried.append(f"{event} {arguments[0]}")
    elif event in NETWORK:
        tried.append(f"{event} {arguments[-1]}")
        raise OSError("there is no network here")


def main(root: Path) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.addaudithook(watch)
    import lclipseg
    import modeling_lclipseg

    sys.path.insert(0, str(root / "scripts" / "space"))  # whose files import each other as they do in a Space
    names = [
        found.name
        for package in (modeling_lclipseg, lclipseg)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    for name in names:
        importlib.import_module(name)
    for file in BY_PATH:
        spec = importlib.util.spec_from_file_location(Path(file).stem, root / "scripts" / file)
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    print(json.dumps({"imported": [*names, *BY_PATH], "tried": tried}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
