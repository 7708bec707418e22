"""Where the tests of data find theirs."""

from pathlib import Path

import pytest
from checked_data import write_source


@pytest.fixture
def source(tmp_path) -> Path:
    """A clean folder of images and masks to damage."""
    return write_source(tmp_path / "data")


@pytest.fixture
def tables(tmp_path, monkeypatch) -> Path:
    """Where tables go; what `datasets` caches stays beside them."""
    import datasets  # takes seconds

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return tmp_path / "tables"
