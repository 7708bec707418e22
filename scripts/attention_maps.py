"""Draw what crosses the two-way bridge of a fusion checkpoint: where each word looks, and what each place reads.

    python scripts/attention_maps.py photos/*.jpg --model runs/mine/best --classes "coat, jeans" --out attention.png

One row an image: the image; for each word its attention over the image; and for each coarse pixel the word that it
reads most from. Weights are those of the last block. Also prints how much of a word's attention falls on the pixels
that the model itself labels so. Needs `pip install -e ".[report]"`.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from modeling_lclipseg.sizing_lclipseg import Size
from modeling_lclipseg.visualization_lclipseg import UNLABELLED_COLOUR, class_palette
from scripts.toolkit.cli import InputError
from scripts.toolkit.inference import segment_images
from scripts.toolkit.report_plots import DOTS_PER_INCH, WIDTH

MAX_WORDS = 5  # in a row, where none are chosen
MAX_LEGEND = 13  # classes with a colour of their own; the rest are grey
CAPTION = (
    "Image to text: where a word looks in the image (bright: much; each map has its own scale; line: pixels that the "
    "model labels so).\nText to image, last panel: the word that a place reads most from (the stronger the colour, "
    "the more)."
)


@dataclass
class AttentionArguments:
    model: str = field(metadata={"help": "Folder of a checkpoint with guidance fusion, or OWNER/NAME on the Hub."})
    classes: str | None = field(
        default=None,
        metadata={
            "help": f"Classes of the checkpoint to show. Default: up to {MAX_WORDS} that cover most of an image."
        },
    )
    out: str = field(default="docs/results/plots/attention.png", metadata={"help": "The PNG file to write."})


@dataclass(frozen=True)
class Bridge:
    """What crossed the bridge of the last block for one image, on its coarse map of h w cells.

    Args:
        image (`PIL.Image.Image`): upright, RGB, H W.
        segmentation (`torch.Tensor` of shape `(H, W)`): the class ids that the model gives its pixels.
        image_to_text (`torch.Tensor` of shape `(K, h, w)`): what each class reads from each cell; 1 in all for a class.
        text_to_image (`torch.Tensor` of shape `(K, h, w)`): what each cell reads from each class; 1 in all for a cell.
        picture (`tuple[int, int]`): height and width of the image inside the padded input; it lies at the upper left.
        stride (`int`): height and width of a cell, in pixels of the input.
    """

    image: Image.Image
    segmentation: torch.Tensor
    image_to_text: torch.Tensor
    text_to_image: torch.Tensor
    picture: Size
    stride: int

    def over_image(self, maps: torch.Tensor, mode: str) -> torch.Tensor:
        """Coarse maps (C, h, w) without the padding and at the size of the image (C, H, W), as float32. `mode` is
        one of `torch.nn.functional.interpolate`."""
        height, width = self.picture
        padded = torch.nn.functional.interpolate(maps[None].float(), scale_factor=self.stride, mode=mode)
        size = (self.image.height, self.image.width)
        return torch.nn.functional.interpolate(padded[..., :height, :width], size=size, mode=mode)[0]

    def heat(self, class_id: int) -> torch.Tensor:
        """Where a class looks, (H, W), at least 0 everywhere."""
        return self.over_image(self.image_to_text[class_id, None], "bilinear")[0]

    def most_read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """For every pixel the class that its cell reads most from, (H, W) int64, and how much, in (0, 1]."""
        weights, ids = self.text_to_image.max(dim=0)
        at_pixels = self.over_image(torch.stack([ids, weights]), "nearest-exact")
        return at_pixels[0].long(), at_pixels[1]

    def alignment(self, class_id: int) -> float | None:
        """The part of a class's attention in the image that falls on the pixels labelled so; `None` without any."""
        labelled, heat = self.segmentation == class_id, self.heat(class_id)
        return (heat[labelled].sum() / heat.sum()).item() if labelled.any() else None

    def area(self, class_id: int) -> float:
        """The part of the image that is labelled so: what the alignment of an even attention would be."""
        return (self.segmentation == class_id).float().mean().item()


def read_bridge(model: Any, image_processor: Any, image: Image.Image) -> Bridge:
    """Segment an upright RGB image and keep what crosses the last bridge. InputError: the model has no bridge."""
    if model.config.guidance != "fusion":
        raise InputError(
            f"this checkpoint has guidance {model.config.guidance!r}, and only 'fusion' has a bridge between image and "
            "text; give a checkpoint trained with --guidance fusion"
        )
    caught: list[torch.Tensor] = []
    layer = model.head.fusion.layers[-1]
    hooks = [
        half.register_forward_hook(lambda module, given, output: caught.append(output[1][0, 0].float().cpu()))
        for half in (layer.image_to_text, layer.text_to_image)
    ]
    try:
        (segmentation,) = segment_images(model, image_processor, [image])
    finally:
        for hook in hooks:
            hook.remove()
    to_text, to_image = caught  # (K, n), (n, K)
    picture, stride = image_processor.sizing.resized(image.height, image.width), model.config.fusion_stride
    cells = tuple(math.ceil(side / stride) for side in image_processor.sizing.padded([picture]))
    return Bridge(image, segmentation, to_text.unflatten(1, cells), to_image.T.unflatten(1, cells), picture, stride)


def chosen_classes(classes: str, id2label: dict[int, str]) -> list[int]:
    """Ids of the words in a comma-separated list; case does not matter. InputError: a word that the model lacks."""
    known = {name.casefold(): class_id for class_id, name in id2label.items()}
    words = list(dict.fromkeys(word.strip().casefold() for word in classes.split(",")))
    for word in words:
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(id2label.values())}"
            raise InputError(f"--classes {classes!r}: the checkpoint has no class {word!r}; {hint}")
    return [known[word] for word in words]


def draw(bridges: Sequence[Bridge], shown: Sequence[Sequence[int]], id2label: dict[int, str]) -> Figure:
    """The figure. `shown` holds for each image the ids of the classes whose attention gets a panel."""
    columns = 2 + max(map(len, shown))
    heights = [bridge.image.height / bridge.image.width for bridge in bridges]  # of a panel, in widths
    inches = WIDTH / columns * sum(heights) + 0.45 * len(bridges) + 1.3
    figure = Figure(figsize=(WIDTH, inches), dpi=DOTS_PER_INCH, layout="constrained")
    figure.suptitle(CAPTION, fontsize=8, x=0.01, ha="left", color="0.25")
    grid = figure.subplots(len(bridges), columns, squeeze=False, height_ratios=heights)
    read = torch.cat([bridge.most_read()[0].flatten() for bridge in bridges]).bincount(minlength=len(id2label))
    legend = [class_id for class_id in read.argsort(descending=True).tolist()[:MAX_LEGEND] if read[class_id]]
    colours = np.full((len(id2label), 3), UNLABELLED_COLOUR) / 255
    colours[legend] = class_palette(len(id2label))[legend] / 255
    for bridge, class_ids, (first, *panels, last) in zip(bridges, shown, grid, strict=True):
        first.imshow(bridge.image)
        for class_id, panel in zip(class_ids, panels, strict=False):
            panel.set_title(id2label[class_id], fontsize=9)
            _draw_heat(panel, bridge, class_id)
        ids, weights = bridge.most_read()
        _draw_ground(last, bridge.image)
        last.imshow(np.dstack([colours[ids], weights]))
        last.set_title("reads most from", fontsize=9)
        for panel in (first, *panels, last):
            panel.set_axis_off()
        for panel in panels[len(class_ids) :]:
            panel.remove()
    keys = [Patch(color=colours[class_id], label=id2label[class_id]) for class_id in legend]
    if len(legend) < read.count_nonzero():
        keys.append(Patch(color=np.array(UNLABELLED_COLOUR) / 255, label="other"))
    figure.legend(handles=keys, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return figure


def _draw_heat(panel: Axes, bridge: Bridge, class_id: int) -> None:
    _draw_ground(panel, bridge.image)
    panel.imshow(bridge.heat(class_id), cmap="inferno", alpha=0.65, vmin=0)
    labelled = bridge.segmentation == class_id
    if labelled.any() and not labelled.all():
        panel.contour(labelled, levels=[0.5], colors="white", linewidths=0.6)


def _draw_ground(panel: Axes, image: Image.Image) -> None:
    panel.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255)
