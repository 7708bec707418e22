"""Draw the affinity of a fusion checkpoint in both directions: where words look, and which words places look like.

    python scripts/attention_maps.py photos/*.jpg --model runs/mine/last --classes "coat, jeans" --out attention.png

A row for each image: the affinity of its coarse map and the words, by softmax over the places, and over the words. A
fusion block reads by just these weights; a checkpoint without one has them as well. Also prints how much of a word's
attention falls on the pixels that the model itself labels so. Needs `pip install -e ".[report]"`.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch.nn.functional import interpolate

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.lab.comparisons.plots import DOTS_PER_INCH, WIDTH
from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.metrics import percent
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.class_embeddings_lclipseg import fold_name
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image
from modeling_lclipseg.sizing_lclipseg import Size
from modeling_lclipseg.visualization_lclipseg import UNLABELLED_COLOUR, class_palette

MAX_WORDS = 5  # in a row, where none are chosen
MAX_COLOURS, LEGEND_COLUMNS = 13, 7  # classes with a colour of their own; the others share one
CAPTION = (
    "Under a word: where it looks in the image (the brighter, the more). A line surrounds what the model labels so; "
    "below, the part\nof the attention inside it and its part of the image. Last: the word that a place looks most "
    "like (strong colour: much)."
)


@dataclass
class AttentionArguments:
    model: str = field(metadata={"help": "Folder of a checkpoint with guidance fusion, or OWNER/NAME on the Hub."})
    classes: str | None = field(default=None, metadata={"help": "Its classes to show. Default: an image's largest."})
    out: str = field(default="docs/results/plots/attention.png", metadata={"help": "The PNG file to write."})


@dataclass(frozen=True)
class Attention:
    """The affinity of one image of H W pixels, read in both directions, on a coarse map of h w cells."""

    image: Image.Image  # upright, RGB
    segmentation: torch.Tensor  # (H, W), the class ids that the model gives
    image_to_text: torch.Tensor  # (K, h, w), how much a class attends to each cell; sums to 1 over h w
    text_to_image: torch.Tensor  # (K, h, w), how much a cell attends to each class; sums to 1 over K
    image_size: Size  # of the image in the padded input, of which it is the upper left
    stride: int  # side of a cell in pixels of the input

    def over_image(self, maps: torch.Tensor, mode: str) -> torch.Tensor:
        """Coarse maps (C, h, w) without the padding, at the image's size (C, H, W). `mode` is [`interpolate`]'s."""
        padded = interpolate(maps[None], scale_factor=self.stride, mode=mode)
        region = padded[..., : self.image_size[0], : self.image_size[1]]
        return interpolate(region, size=self.segmentation.shape, mode=mode)[0]

    def largest_classes(self) -> list[int]:
        """The ids that the model gives most pixels, at most [`MAX_WORDS`]."""
        ids, counts = self.segmentation.unique(return_counts=True)
        return ids[counts.argsort(descending=True)][:MAX_WORDS].tolist()

    def heat(self, class_id: int) -> torch.Tensor:
        """Where a class looks, (H, W), from 0 to 1 at the place that looks most like it."""
        heat = self.over_image(self.image_to_text[class_id, None], "bilinear")[0]
        return (heat / heat.max()).nan_to_num()  # where all of it lies on the padding

    def most_alike(self) -> tuple[torch.Tensor, torch.Tensor]:
        """For every pixel the id of the class that its cell looks most like, and how much in (0, 1]; both (H, W)."""
        weights, ids = self.text_to_image.max(dim=0)
        ids_and_weights = self.over_image(torch.stack([ids.float(), weights]), "nearest-exact")
        return ids_and_weights[0].long(), ids_and_weights[1]

    def alignment(self, class_id: int) -> tuple[float, float]:
        """How much of a class's attention over the image, and of the image itself, is labelled as it; in [0, 1]."""
        labelled, heat = self.segmentation == class_id, self.heat(class_id)
        return (heat[labelled].sum() / heat.sum()).nan_to_num().item(), labelled.float().mean().item()


def read_attention(model: LClipSegForSemanticSegmentation, image_processor: Any, image: Image.Image) -> Attention:
    """Segment an upright RGB image and keep how its places and the classes attend to each other. InputError: the model
    has no affinity."""
    if model.config.guidance != "fusion":
        raise InputError(f"--model has guidance {model.config.guidance!r}, so no affinity; give one with 'fusion'")
    caught: list[torch.Tensor] = []

    def keep(module: Any, given: Any, output: torch.Tensor) -> None:
        caught.append(output[0].float().cpu())

    fusion: Any = model.head.fusion
    with fusion.similarity.register_forward_hook(keep):
        (segmentation,) = segment_images(model, image_processor, [image])
    (affinity,) = caught  # (K, h, w)
    to_text, to_image = affinity.flatten(1).softmax(dim=1).view_as(affinity), affinity.softmax(dim=0)
    image_size = image_processor.sizing.resized(image.height, image.width)
    return Attention(image, segmentation, to_text, to_image, image_size, model.config.fusion_stride)


def chosen_classes(classes: str, id2label: dict[int, str]) -> list[int]:
    """Ids of the words in a comma-separated list; case does not matter. InputError: a word that is no class."""
    known = {fold_name(name): class_id for class_id, name in id2label.items()}
    words = list(dict.fromkeys(map(fold_name, classes.split(","))))
    for word in words:
        if word not in known:
            near = ", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.0))
            raise InputError(f"--classes {classes!r}: the checkpoint has no class {word!r}; the nearest are {near}")
    return [known[word] for word in words]


def mean_alignment(attentions: Sequence[Attention], class_id: int) -> tuple[float, float, int]:
    """Means of [`Attention.alignment`] over the images where a class is labelled, and their number; else NaN and 0."""
    parts = [attention.alignment(class_id) for attention in attentions if (attention.segmentation == class_id).any()]
    inside, area = torch.tensor(parts).reshape(-1, 2).mean(dim=0).tolist()
    return inside, area, len(parts)


@matplotlib.rc_context({"text.parse_math": False})  # "$" in the name of a class is a dollar sign
def draw(attentions: Sequence[Attention], shown: Sequence[Sequence[int]], id2label: dict[int, str]) -> Figure:
    """The figure. `shown` holds for each image the ids of the classes whose attention gets a panel."""
    columns = 2 + max(map(len, shown))
    read = torch.cat([attention.most_alike()[0].flatten() for attention in attentions])
    colours, keys = _legend(read.bincount(minlength=len(id2label)), id2label)
    heights = [WIDTH / columns * attention.image.height / attention.image.width for attention in attentions]
    inches = sum(heights) + 0.4 * len(attentions) + 0.2 * math.ceil(len(keys) / LEGEND_COLUMNS) + 0.6
    figure = Figure(figsize=(WIDTH, inches), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(CAPTION, fontsize=8, x=0.008, ha="left", color="0.2")
    grid = figure.subplots(len(attentions), columns, squeeze=False, height_ratios=heights)
    for attention, class_ids, (first, *panels, last) in zip(attentions, shown, grid, strict=True):
        first.imshow(attention.image)
        for panel in (*panels, last):
            panel.imshow(attention.image.convert("L"), cmap="gray", vmin=0, vmax=255)
        for panel, class_id in zip(panels, class_ids, strict=False):
            heat, (inside, area) = attention.heat(class_id), attention.alignment(class_id)
            panel.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=(0.4 + 0.4 * heat).numpy())
            if 0 < area < 1:
                panel.contour(attention.segmentation == class_id, levels=[0.5], colors="white", linewidths=0.5)
            panel.set_title(id2label[class_id], fontsize=9)
            panel.set_xlabel(f"{inside:.0%} inside, area {area:.0%}" if area else "not labelled", fontsize=7.5)
        for panel in panels[len(class_ids) :]:
            panel.remove()
        ids, weights = attention.most_alike()
        last.imshow(np.dstack([colours[ids], weights]))
        last.set_title("looks most like", fontsize=9, style="italic")
    for panel in figure.axes:
        panel.set(xticks=[], yticks=[], frame_on=False)
    figure.legend(handles=keys, loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
    return figure


def _legend(counts: torch.Tensor, id2label: dict[int, str]) -> tuple[np.ndarray, list[Patch]]:
    """Colours (K, 3) in [0, 1] and keys for classes that are seen `counts` (K) times; the rarest share a colour."""
    own = [class_id for class_id in counts.argsort(descending=True)[:MAX_COLOURS].tolist() if counts[class_id]]
    colours = np.full((len(id2label), 3), UNLABELLED_COLOUR) / 255
    colours[own] = class_palette(len(id2label))[own] / 255
    keys = [Patch(color=colours[class_id].tolist(), label=id2label[class_id]) for class_id in own]
    if len(own) < counts.count_nonzero():
        keys.append(Patch(color=(np.array(UNLABELLED_COLOUR) / 255).tolist(), label="other"))
    return colours, keys


def main(images: Sequence[str], args: AttentionArguments) -> Figure:
    """Draw the figure, write it to `args.out` and print the alignment of every class in it."""
    out = Path(args.out).expanduser()
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out} must be a PNG file; give {out.with_suffix('.png')}")
    model, image_processor = load_model(args.model)
    id2label = dict(model.config.id2label)
    chosen = None if args.classes is None else chosen_classes(args.classes, id2label)
    try:
        opened = [to_rgb_image(open_image(path)) for path in images]
    except ValueError as error:
        raise InputError(str(error)) from error
    attentions = [read_attention(model, image_processor, image) for image in opened]
    shown = [chosen or attention.largest_classes() for attention in attentions]
    figure = draw(attentions, shown, id2label)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, metadata={"Software": None})  # without the version, the same numbers make the same file
    except OSError as error:
        raise InputError(f"--out {out} cannot be written: {error.strerror}") from error
    for class_id in sorted(set().union(*shown)):
        inside, area, count = mean_alignment(attentions, class_id)
        text = f"{percent(inside)} % of its attention on {percent(area)} % of the pixels"
        print(f"{id2label[class_id]}: {text} ({count} of {len(images)} images)")
    return figure


def command() -> None:
    run_command(
        lambda: main(*arguments.parse_subject(__doc__, AttentionArguments, "images", "Image files.", nargs="+"))
    )


if __name__ == "__main__":
    command()
