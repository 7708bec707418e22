"""A finished run, made once, and what a dry run of publish.py builds from it."""

import shutil
from pathlib import Path

import finished_run
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation


@pytest.fixture(scope="session")
def base(shared) -> Path:
    return shared / "finished"


@pytest.fixture(scope="session")
def made(base) -> Path:
    return finished_run.finished_run(base)


@pytest.fixture(scope="session")
def folder(base) -> Path:
    """What a dry run builds."""
    return finished_run.published_folder(base)


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A run that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="session")
def original_logits(made) -> torch.Tensor:
    """Of the run's own checkpoint, for the image of clean_process.py."""
    inputs = AutoImageProcessor.from_pretrained(made / "best")(
        Image.new("RGB", (96, 64), "green"), return_tensors="pt"
    )
    with torch.no_grad():
        return AutoModelForSemanticSegmentation.from_pretrained(made / "best")(**inputs).logits
