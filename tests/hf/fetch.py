"""Fetch the common tests of the installed transformers version, which its wheel does not carry.

Its source distribution does. `tests/` of it is unpacked into `.cache/transformers-VERSION/`, once for each version.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"


def suite_folder() -> Path:
    """Where the test modules of the installed version lie once they are fetched."""
    return CACHE / f"transformers-{version('transformers')}" / "tests"


def fetch() -> Path:
    """Download and unpack the tests, unless they are here. Returns their folder."""
    folder = suite_folder()
    if folder.is_dir():
        return folder
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as draft:
        requirement = f"transformers=={version('transformers')}"
        options = ["--no-deps", "--no-build-isolation", "--no-binary", "transformers", "--dest", draft]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options, requirement], check=True)
        (archive,) = Path(draft).glob("transformers-*.tar.gz")
        with tarfile.open(archive) as source:
            members = [member for member in source if "/tests/" in member.name]
            source.extractall(draft, members, filter="data")
        (unpacked,) = Path(draft).glob("transformers-*/tests")
        (unpacked / "__init__.py").touch()  # they import their own folder as a package
        folder.parent.mkdir(exist_ok=True)
        os.replace(unpacked, folder)
    return folder


if __name__ == "__main__":
    print(fetch())
