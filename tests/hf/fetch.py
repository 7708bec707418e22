"""Fetch what the wheel of the installed transformers version does not carry, once for each version.

Its common tests come from its source distribution, its example scripts from its repository on GitHub. They lie in
`.cache/transformers-VERSION/`, `tests` and `examples`.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache"
GITHUB = "https://raw.githubusercontent.com/huggingface/transformers"
EXAMPLES = ("run_semantic_segmentation.py", "run_semantic_segmentation_no_trainer.py")


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


def examples_folder() -> Path:
    """Where the example scripts lie once they are fetched."""
    return suite_folder().with_name("examples")


def fetch_examples() -> Path:
    """
    Download the example scripts for semantic segmentation, unless they are here. Returns their folder.

    Raises:
        OSError: GitHub cannot be reached, or has no such release.
    """
    folder = examples_folder()
    for name in EXAMPLES:
        if not (folder / name).is_file():
            url = f"{GITHUB}/v{version('transformers')}/examples/pytorch/semantic-segmentation/{name}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                content = answer.read()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder


if __name__ == "__main__":
    print(fetch())
    try:
        print(fetch_examples())
    except OSError as error:
        print(f"transformers' example scripts cannot be fetched, and are not tested: {error}")
