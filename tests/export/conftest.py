"""Exports that the tests of this folder share; not to be changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from export_of_tiny import exported, exported_once, same_network, save_exportable
from photos import photo
from tiny_model import RESNET

from modeling_lclipseg import denseclip_lclipseg
from modeling_lclipseg.heads_lclipseg import HEADS


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def checkpoint(shared) -> Path:
    return exported_once(shared) / "checkpoint"


@pytest.fixture(scope="module")
def open_graph(shared) -> Path:
    return exported_once(shared) / "open"


@pytest.fixture(scope="module")
def map_graph(checkpoint, open_graph, folder) -> Path:
    with same_network(open_graph):
        return exported(checkpoint, folder / "map", "--label_map")


@pytest.fixture(scope="module")
def int8_graph(checkpoint, open_graph, folder) -> Path:
    (folder / "photos").mkdir()
    for seed in range(2):
        photo(96, 64, seed).save(folder / "photos" / f"{seed}.png")
    with same_network(open_graph):
        return exported(checkpoint, folder / "int8", "--int8", "--calibration", str(folder / "photos"))


BAKED = {name: {"guidance": name} for name in HEADS} | {"fusion without blocks": {"num_fusion_layers": 0}}


@pytest.fixture(scope="module", params=BAKED)
def baked(request, folder) -> Iterator[tuple[Path, Path]]:
    """A checkpoint of every head, DenseCLIP's less deep than any, and its graph."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denseclip_lclipseg, "DEPTH", 1)
        checkpoint = save_exportable(folder / request.param, backbone_config=RESNET, **BAKED[request.param])
        yield checkpoint, exported(checkpoint, folder / f"{request.param}-baked", "--vocabulary", "baked")
