"""Tiny models and where real data may be found. Nothing here touches the network."""

import faulthandler
import os
import shutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: networks as tiny as these lose time on more threads
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest  # nothing heavy: the process of pytest-xdist that starts the others, and runs no test, reads this file

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # shells have it so for what they start in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    """What the tests left behind may keep the process from ending: then say what that is, and fail."""
    faulthandler.dump_traceback_later(60, exit=True, file=sys.__stderr__)


@pytest.fixture
def model():
    from tiny_model import tiny_model

    return tiny_model()


@pytest.fixture(scope="session")
def saved_checkpoint(tmp_path_factory) -> Path:
    """The tiny model, with a processor that keeps images' size; not to be changed."""
    from tiny_model import save_checkpoint

    return save_checkpoint(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def checkpoint(saved_checkpoint, tmp_path) -> Path:
    """A copy to change, `tmp_path / "checkpoint"`."""
    return Path(shutil.copytree(saved_checkpoint, tmp_path / "checkpoint"))


@pytest.fixture
def pixel_values():
    import torch

    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory) -> Path:
    """What train.py needs for a run of a second; not to be changed."""
    from tiny_run import make_workspace

    return make_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all processes of this run of the tests have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets that LCLIPSEG_TEST_DATA names; the test is skipped where there is none."""
    folder = os.environ.get("LCLIPSEG_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LCLIPSEG_TEST_DATA does not name a folder with real data")
    return Path(folder)
