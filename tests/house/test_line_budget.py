"""The model proper stays small enough to be read in one sitting."""

from pathlib import Path

import modeling_lclipseg

BUDGET = 1300  # as the package's docstring says
FOLDER = Path(modeling_lclipseg.__file__).parent
PROPER = ("configuration", "modeling", "loss", "heads", "decoder", "similarity", "fusion", "attention", "outputs")


def test_the_model_proper_keeps_to_its_budget():
    lines = [len((FOLDER / f"{part}_lclipseg.py").read_text().splitlines()) for part in PROPER]
    assert sum(lines) < BUDGET


def test_every_module_stands_in_the_reading_order():
    modules = {path.stem.removesuffix("_lclipseg") for path in FOLDER.glob("*_lclipseg.py")}
    assert all(f"`{name}`" in str(modeling_lclipseg.__doc__) for name in modules)
