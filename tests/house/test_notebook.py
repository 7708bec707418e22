"""The notebook of the documentation runs from top to bottom, offline, and its fine-tuning learns something."""

import json
from pathlib import Path

from accelerate.state import AcceleratorState

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_cells_run_in_their_order(monkeypatch):
    monkeypatch.chdir(ROOT / "docs")
    AcceleratorState._reset_state(reset_partial_state=True)
    names: dict = {}
    for cell in CELLS:
        exec(cell, names)
    assert names["street"].label_map.shape == (540, 960)
    assert names["street"].shares["building"] + names["street"].shares["road"] > 0.2
    assert (names["best"] / "model.safetensors").is_file()
    assert names["correct"] > 0.7  # the meadow alone has two thirds of the pixels at most
    assert names["model"].config.class_names == ["sky", "meadow", "ball"]


def test_notebook_is_stored_without_outputs():
    assert all(not cell.get("outputs") for cell in NOTEBOOK["cells"])
