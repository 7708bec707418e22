"""Importing the project does nothing but import it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> dict:
    """What quiet_imports.py reports, from a home of its own. A link leads to the package: beside it lies a door
    evaluate.py, which would hide the library of that name."""
    home, packages = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("packages")
    (packages / "lclipseg").symlink_to(ROOT / "scripts" / "lclipseg")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON", "XDG_"))}
    surroundings = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "quiet_imports.py"), str(ROOT)],
        env={**kept, **surroundings, "OMP_NUM_THREADS": "1"},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_no_import_connects_runs_a_program_or_changes_a_file(imported):
    assert imported["tried"] == []


def test_every_module_was_imported(imported):
    files = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for folder, package in ((ROOT, "modeling_lclipseg"), (ROOT / "scripts", "lclipseg"))
        for path in (folder / package).rglob("*.py")
    }
    assert {name for name in files if not name.endswith(("__init__", "__main__"))} <= set(imported["imported"])


def test_watch_sees_what_it_should(tmp_path):
    spec = importlib.util.spec_from_file_location("quiet_imports", ROOT / "tests" / "support" / "quiet_imports.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.watch("open", (tmp_path / "read", "r", os.O_RDONLY))
    module.watch("open", (tmp_path / "written", "w", os.O_WRONLY | os.O_CREAT))
    module.watch("os.mkdir", (tmp_path / "made", 0o777, -1))
    with pytest.raises(OSError, match="no network"):
        module.watch("socket.connect", (None, ("127.0.0.1", 80)))
    assert [event.split()[0] for event in module.tried] == ["open", "os.mkdir", "socket.connect"]
