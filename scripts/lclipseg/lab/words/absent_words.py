"""How well the score of a pixel tells a word that is in the image from words that are not.

    python scripts/absent_words.py checkpoints/lclipseg-lite0-everyday --data data/voc2012 --split val --limit 60

Every image is segmented twice: into the classes that its mask has and --absent others, of which the pixels that get
their right class count; and into those others alone, of which every labelled pixel counts as wrong. The class that
stands for none of the others is never asked for. Two scores are compared: the highest logit, which says how much a
pixel looks like its class, and the highest probability (softmax), which says how much more than like the other classes
that were asked for. For both: the area under the ROC curve, which is 0.5 by chance, and, where 90 % of the right
pixels are kept, the least score and the share of the wrong ones that are kept as well.
"""

import random
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.labelled import Sample
from lclipseg.data.open import load_segmentation_data
from lclipseg.lab.comparisons.tables import markdown_table
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.class_embeddings import everyday_words
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor

SCORES = ("highest logit", "highest probability")
KEPT = 0.9  # of the right pixels


@dataclass
class AbsentWordsArguments:
    data: str = field(metadata={"help": "Data: a folder, a parquet or zip file, or a data set on the Hub."})
    split: str = field(default="val", metadata={"help": "Split of the data."})
    limit: int | None = field(default=None, metadata={"help": "Images drawn from it. Default: all."})
    absent: int = field(default=3, metadata={"help": "Words that are not in the image, drawn for each."})
    bank: str | None = field(default=None, metadata={"help": "Word bank for words that the checkpoint lacks."})
    seed: int = field(default=0, metadata={"help": "Seed of images and words."})


class Asking:
    """
    Asks a model for classes, and says how sure it is where it is right.

    Args:
        model ([`LClipSegForSemanticSegmentation`]), image_processor ([`LClipSegImageProcessor`]): of the checkpoint.
        vectors (`torch.Tensor` of shape `(num_classes, class_embed_dim)`): of all classes of the data.
    """

    def __init__(
        self,
        model: LClipSegForSemanticSegmentation,
        image_processor: LClipSegImageProcessor,
        vectors: torch.Tensor,
    ):
        self.model = model
        self.image_processor = image_processor
        self.vectors = vectors

    @torch.inference_mode()
    def scores(self, sample: Sample, classes: list[int]) -> tuple[torch.Tensor, np.ndarray]:
        """The class (h, w) of every cell at stride 4, and its scores (2, h, w) in the order of [`SCORES`]."""
        inputs = self.image_processor(images=sample.image, return_tensors="pt")
        logits = self.model(**inputs, class_embeddings=self.vectors[classes]).logits[0]
        highest = logits.max(dim=0)
        probability = (highest.values - logits.logsumexp(dim=0)).exp()
        return torch.tensor(classes)[highest.indices], torch.stack([highest.values, probability]).numpy()


def main(model_source: str, args: AbsentWordsArguments) -> dict[str, dict[str, float]]:
    """
    Print the table of both scores.

    Returns:
        `dict`: for each of [`SCORES`] `auc`, `least` and `wrong_kept`.

    Raises:
        InputError: a checkpoint, data or a bank that cannot be used, or no image with a class and others.
    """
    data = load_segmentation_data(args.data, args.split)
    model, image_processor = load_model(model_source)
    rest = None if data.classes.none_of_these is None else data.classes.names.index(data.classes.none_of_these)
    askable = [index for index in range(len(data.classes.names)) if index != rest]
    try:
        bank = everyday_words(model) if args.bank is None else args.bank
        vectors = model.find_class_embeddings(data.classes.names, bank, data.classes.prompts)
    except ValueError as error:
        raise InputError(f"{args.data}: {error}") from error
    asking, draw = Asking(model, image_processor, vectors), random.Random(args.seed)
    right, wrong = [], []
    for index in draw.sample(range(len(data)), min(args.limit or len(data), len(data))):
        sample = data[index]
        present = [index for index in np.unique(sample.mask).tolist() if index in askable]
        others = [index for index in askable if index not in present]
        if not present or len(others) < args.absent:
            continue
        others = draw.sample(others, args.absent)
        found, scores = asking.scores(sample, present + others)
        mask = torch.as_tensor(sample.mask)[None, None].float()
        mask = F.interpolate(mask, size=_inside(found, sample, image_processor), mode="nearest")[0, 0].long()
        height, width = mask.shape
        right.append(scores[:, :height, :width][:, (found[:height, :width] == mask).numpy()])
        _, scores = asking.scores(sample, others)
        wrong.append(scores[:, :height, :width][:, (mask < len(data.classes.names)).numpy()])
    if not right:
        raise InputError(
            f"{args.data}: no image of {args.split} has a class and lacks {args.absent}; give a lower --absent"
        )
    results = {
        name: compare(*(np.concatenate(side, axis=1)[row] for side in (right, wrong)))
        for row, name in enumerate(SCORES)
    }
    cells = [[name, *(f"{value:.3f}" for value in result.values())] for name, result in results.items()]
    print(markdown_table([f"{len(right)} images", "area under the ROC curve", "least score", "wrong kept"], cells))
    return results


def _inside(found: torch.Tensor, sample: Sample, image_processor: LClipSegImageProcessor) -> tuple[int, int]:
    """Cells of the image itself, without the padding."""
    height, width = image_processor.sizing.resized(*sample.mask.shape)
    return min(found.shape[0], -(-height // 4)), min(found.shape[1], -(-width // 4))


def compare(right: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """
    Args:
        right (`np.ndarray` of shape `(num_right,)`): scores of right pixels.
        wrong (`np.ndarray` of shape `(num_wrong,)`): scores of wrong ones.

    Returns:
        `dict`: `auc`, the share of pairs in which the right one is higher, ties counted half; `least`, the score that
        keeps [`KEPT`] of the right ones; `wrong_kept`, the share of the wrong ones at or above it.
    """
    ordered = np.sort(wrong)
    below = (np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")) / 2
    least = float(np.quantile(right, 1 - KEPT))
    return {"auc": float(below.mean() / len(wrong)), "least": least, "wrong_kept": float((wrong >= least).mean())}


def parse(argv: list[str] | None = None) -> tuple[str, AbsentWordsArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, AbsentWordsArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
