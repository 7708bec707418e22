"""Of networks whose size the configuration does not decide."""

import pytest

from modeling_lclipseg import denseclip_lclipseg


@pytest.fixture
def tiny_denseclip(monkeypatch) -> None:
    monkeypatch.setattr(denseclip_lclipseg, "DEPTH", 2)
    monkeypatch.setattr(denseclip_lclipseg, "WIDTH", 32)
