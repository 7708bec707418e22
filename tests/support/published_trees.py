"""Made trees in the forms of published data sets."""

from itertools import count
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from lclipseg.data.arguments import PrepareArguments
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.prepare import prepare as prepare_data
from lclipseg.data.sources.parts import SplitPart

PAIRS = {"images": "photos/*.png", "masks": "labels/*.png"}


def write_image(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(path)


def write_mask(path: Path, values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        from scipy.io import savemat

        savemat(path, {"LabelMap": np.array(values, dtype=np.uint16)})
    else:
        Image.fromarray(np.array(values, dtype=np.uint8)).save(path)


def write_pair(root: Path, image: str, mask: str, values) -> None:
    write_image(root / image, *np.shape(values)[:2])
    write_mask(root / mask, values)


def stem_in(low: float, high: float, form: str = "scene_{:03d}") -> str:
    """A stem whose hash lies in a share."""
    part = SplitPart(part="any", share=(low, high))
    return next(stem for stem in map(form.format, count()) if part.holds(stem))


def prepare(recipe: str, root: Path) -> Path:
    return prepare_data(recipe, PrepareArguments(str(root / "source"), str(root / "out")))


def own_recipe(tmp_path: Path, **keys) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"classes": ["wall", "door", "rest"], **keys}))
    return str(path)


def only_mask(data: Path, split: str) -> list:
    (sample,) = load_segmentation_data(data, split)
    return sample.mask.tolist()


def named(data: Path, split: str) -> list:
    """The mask of the one image of a split, as names; ignored pixels are None."""
    names = load_segmentation_data(data, split).classes.names
    return [[None if value == 255 else names[value] for value in row] for row in only_mask(data, split)]
