"""Whole runs, and copies that a test may spoil."""

import shutil
from pathlib import Path

import pytest
from survival import OPTIONS, WAYS
from tiny_run import run


@pytest.fixture(scope="session")
def whole_runs(workspace, tmp_path_factory) -> dict[str, Path]:
    """Uninterrupted runs, made when they are first asked for; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")

    class Runs(dict):
        def __missing__(self, way: str) -> Path:
            run(workspace, folder / way, *OPTIONS, *WAYS[way])
            self[way] = folder / way
            return self[way]

    return Runs()


@pytest.fixture
def copied(whole_runs, tmp_path) -> Path:
    """A run that is finished, `tmp_path / "run"`."""
    return Path(shutil.copytree(whole_runs["alone"], tmp_path / "run"))


@pytest.fixture
def data(workspace, tmp_path) -> Path:
    """The data of the workspace, `tmp_path / "data"`."""
    return Path(shutil.copytree(workspace / "data", tmp_path / "data"))
