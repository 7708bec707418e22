"""A labelled data set of a few small images."""

import json
from pathlib import Path

import torch
from PIL import Image
from stand_ins import COLOURS
from tiny_model import NAMES

COUNT = 5


def write_data(folder: Path, names: list[str] = NAMES, ignore: bool = True) -> Path:
    """A test split of coloured stripes; image i is 16 * (i + 1) high. Masks tell the truth in the ids of `names`."""
    for part in ("images", "masks"):
        (folder / "test" / part).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(names))
    ids = torch.tensor([names.index(name) for name in NAMES])
    for index in range(COUNT):
        shown = torch.tensor([0, 1, 2]).roll(index).repeat_interleave(16).expand(16 * (index + 1), -1)  # (H, 48)
        mask = ids[shown].to(torch.uint8)
        if ignore:
            mask[:4] = 255
        Image.fromarray((COLOURS[shown] * 255).to(torch.uint8).numpy()).save(
            folder / "test" / "images" / f"{index}.png"
        )
        Image.fromarray(mask.numpy()).save(folder / "test" / "masks" / f"{index}.png")
    return folder
