"""How well pixels and words are aligned, before and behind the two-way blocks.

    python scripts/alignment.py runs/left-out/last --data data/idd_lite data/ccp --trained data/camvid data/voc2012

For every place with a label: the share of the other words in the list that look less like it than the word of its own
class; 0.5 by chance. Before the blocks that is the affinity of the coarse map and the class tokens, behind them the
logits. A word is seen where one of the sets in --trained has a class of that word. Means over the places of a class;
the last rows are means over classes. --plot draws them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.comparisons.plots import COLOURS, save_figure, tidy
from lclipseg.lab.comparisons.tables import markdown_table
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import everyday_words
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor
from modeling_lclipseg.names_lclipseg import fold_name


@dataclass
class AlignmentArguments:
    data: list[str] = field(metadata={"help": "Data sets to look at."})
    trained: list[str] = field(default_factory=list, metadata={"help": "Data sets whose words were trained."})
    split: str = field(default="test", metadata={"help": "Split of the data."})
    limit: int | None = field(default=None, metadata={"help": "Look only at the first so many images of each."})
    bank: str | None = field(default=None, metadata={"help": "Word bank for words that the checkpoint lacks."})
    plot: str | None = field(default=None, metadata={"help": "PNG file to draw."})


@dataclass(frozen=True)
class Alignment:
    """
    How near the pixels of one class lie to its word.

    Args:
        data, name (`str`): The data set and its class.
        seen (`bool`): Whether training had the word.
        before, behind (`float`): Share of the other words that look less like it, 0 to 1.
    """

    data: str
    name: str
    seen: bool
    before: float
    behind: float


def main(model_source: str, args: AlignmentArguments) -> list[Alignment]:
    """
    Print the table, and draw it.

    Raises:
        InputError: a checkpoint without fusion, data or a bank that cannot be used.
    """
    model, image_processor = load_model(model_source)
    if model.config.guidance != "fusion":
        raise InputError(f'{model_source} has guidance {model.config.guidance!r}; only "fusion" has an affinity')
    known = {
        fold_name(word)
        for source in args.trained
        for words in load_segmentation_data(source, args.split).classes.prompts
        for word in words
    }
    found = []
    for source in args.data:
        data = load_segmentation_data(source, args.split)
        names, prompts = data.classes.names, data.classes.prompts
        try:
            bank = everyday_words(model) if args.bank is None else args.bank
            vectors = model.find_class_embeddings(names, bank, prompts)
        except ValueError as error:
            raise InputError(f"{source}: {error}") from error
        shares = _shares(model, image_processor, data, vectors, args.limit)
        for name, words, share in zip(names, prompts, shares, strict=True):
            if share is not None:
                seen = any(fold_name(word) in known for word in words)
                found.append(Alignment(Path(source).name, name, seen, *share))
    print(_table(found))
    if args.plot is not None:
        plot(found, Path(args.plot))
    return found


@torch.inference_mode()
def _shares(
    model: LClipSegForSemanticSegmentation,
    image_processor: LClipSegImageProcessor,
    data: SegmentationData,
    vectors: torch.Tensor,
    limit: int | None,
) -> list[tuple[float, float] | None]:
    """Of each class before and behind the blocks; `None` where no place has it."""
    sums, counts = torch.zeros(2, len(vectors), dtype=torch.float64), torch.zeros(2, len(vectors))
    for index in range(min(limit or len(data), len(data))):
        sample = data[index]
        resized = image_processor.sizing.resized(*sample.mask.shape)
        affinity, logits = _scores(model, image_processor(images=sample.image, return_tensors="pt"), vectors)
        for side, (scores, stride) in enumerate(((affinity, model.config.fusion_stride), (logits, 4))):
            height, width = (-(-length // stride) for length in resized)  # without the padding
            mask = torch.as_tensor(sample.mask)[None, None].float()
            labels = F.interpolate(mask, size=(height, width), mode="nearest")[0, 0].long().flatten()
            labelled = labels < len(vectors)
            labels, scores = labels[labelled], scores[:, :height, :width].flatten(1)[:, labelled]  # (n,), (K, n)
            below = scores < scores.gather(0, labels[None])
            sums[side].index_add_(0, labels, below.double().sum(dim=0) / max(len(vectors) - 1, 1))
            counts[side] += labels.bincount(minlength=len(vectors))
    means = (sums / counts.clamp(min=1)).tolist()
    return [(means[0][k], means[1][k]) if counts[:, k].all() else None for k in range(len(vectors))]


def _scores(
    model: LClipSegForSemanticSegmentation, inputs: Mapping[str, torch.Tensor], vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The affinity (K, h, w) and the logits (K, H, W) of an image."""
    affinities: list[torch.Tensor] = []
    head: Any = model.head
    handle = head.fusion.similarity.register_forward_hook(lambda *call: affinities.append(call[-1][0].clone()))
    try:
        logits = model(**inputs, class_embeddings=vectors).logits[0]
    finally:
        handle.remove()
    return affinities[0], logits


def _table(found: Sequence[Alignment]) -> str:
    rows = [[f"{one.data}, {one.name}", *_cells(one.seen, [one])] for one in found]
    for seen in (True, False):
        of_kind = [one for one in found if one.seen == seen]
        if of_kind:
            rows.append([f"mean of {len(of_kind)}", *_cells(seen, of_kind)])
    return markdown_table(["class", "word", "before", "behind"], rows, text_columns=2)


def _cells(seen: bool, of_kind: Sequence[Alignment]) -> list[str]:
    before, behind = fmean(one.before for one in of_kind), fmean(one.behind for one in of_kind)
    return ["seen" if seen else "unseen", f"{before:.3f}", f"{behind:.3f}"]


def plot(found: Sequence[Alignment], path: Path) -> None:
    """Arrows from before to behind, a line for each class, seen words above unseen ones."""
    ordered = sorted(found, key=lambda one: (one.seen, one.behind))
    figure = Figure(figsize=(9.0, 1.5 + 0.2 * len(ordered)), dpi=200, layout="constrained")
    panel = figure.subplots()
    for place, one in enumerate(ordered):
        colour = COLOURS[0] if one.seen else COLOURS[1]
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.5}
        panel.annotate("", (one.behind, place), (one.before, place), arrowprops=arrow)
        panel.plot(one.before, place, "o", color=colour, markersize=4)
        panel.plot(one.behind, place, alpha=0)
    for colour, label in zip(COLOURS, ("seen word", "unseen word"), strict=False):
        panel.plot([], [], "o-", color=colour, label=label)
    panel.axvline(0.5, color="black", linewidth=0.8)
    panel.set_yticks(range(len(ordered)), [f"{one.data.removesuffix('-everyday')}, {one.name}" for one in ordered])
    panel.set(xlabel="share of the other words that look less like a place, before (dot) and behind the blocks")
    panel.legend(frameon=False)
    tidy(panel)
    save_figure(figure, path)


def parse(argv: list[str] | None = None) -> tuple[str, AlignmentArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, AlignmentArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))
