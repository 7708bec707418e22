"""Segment the photographs of docs/demo, each by words chosen for it, side by side in one image.

python scripts/demo_overlay.py --out demo-output/overlay.png
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import comma_separated, take_classes
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg.visualization_lclipseg import class_shares, draw_overlay

WORDS = {
    "street.jpg": "sky, building, road, tree, grass, car, pole",
    "cat.jpg": "cat, background",
    "coffee.jpg": "dining table, cup",
}
HEIGHT = 300  # pixels of every photograph, about what the network sees
PAPER = (255, 255, 255)


@dataclass
class DemoArguments:
    model: str = field(
        default=str(project("checkpoints", "lclipseg-lite0-everyday")), metadata={"help": "Folder of a checkpoint."}
    )
    out: str = field(default="demo-output/overlay.png", metadata={"help": "PNG file to write."})


def main(args: DemoArguments) -> None:
    """
    Write the overlays, and print the share of every class.

    Raises:
        InputError: the checkpoint lacks a word, or the file cannot be written.
    """
    overlays = []
    model, image_processor = load_model(args.model)
    for name, words in WORDS.items():
        take_classes(model, comma_separated(words), given=name)
        with Image.open(project("docs", "demo", name)) as opened:
            image = opened.convert("RGB").resize((round(opened.width * HEIGHT / opened.height), HEIGHT))
        with torch.inference_mode():
            (label_map,) = segment_images(model, image_processor, [image])
        id2label = dict(model.config.id2label)
        shares = class_shares(label_map, id2label)
        print(f"{name}: " + ", ".join(f"{share.name} {100 * share.share:.1f} %" for share in shares))
        overlays.append(draw_overlay(image, label_map, id2label))
    out = Path(args.out).expanduser()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        side_by_side(overlays).save(out, format="PNG")
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from error
    print(f"wrote {out}")


def side_by_side(images: list[Image.Image]) -> Image.Image:
    """Images of any size in a row, aligned at the top."""
    row = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)), PAPER)
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width
    return row


def command() -> None:
    run_command(lambda: main(*arguments.parse(__doc__, DemoArguments)))


if __name__ == "__main__":
    command()
