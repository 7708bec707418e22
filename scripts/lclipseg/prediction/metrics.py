"""Segmentation scores of a whole data set, all from one matrix of pixel counts."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from lclipseg.console.errors import InputError
from lclipseg.console.markdown import plain

if TYPE_CHECKING:
    from accelerate import Accelerator


def _mean_of_counted(values: torch.Tensor) -> float:
    """Mean of the entries that are not NaN; NaN when there is none."""
    return values.nanmean().item()


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of one evaluation. Every ratio lies in 0..1; NaN stands for 0/0, that is "nothing to count".

    Args:
        mean_iou (`float`): mean IoU over the classes that occur in the truth or in a prediction.
        pixel_accuracy (`float`): share of the counted pixels that got the right class.
        mean_accuracy (`float`): mean share found, over the classes that occur in the truth.
        per_class (`dict[str, float]`): IoU by class name; NaN where the class occurs nowhere.
        per_class_accuracy (`dict[str, float]`): share of its pixels that were found; NaN where there are none.
        per_class_pixels (`dict[str, int]`): number of pixels that the truth gives to the class.
        num_classes (`int`): number of classes in the list.
        num_classes_counted (`int`): number of classes behind `mean_iou`.
        num_pixels (`int`): number of counted pixels; ignored ones are not among them.
    """

    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    per_class: dict[str, float]
    per_class_accuracy: dict[str, float]
    per_class_pixels: dict[str, int]
    num_classes: int
    num_classes_counted: int
    num_pixels: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them: NaN becomes None."""

        def safe(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: safe(entry) for key, entry in value.items()}
            return None if isinstance(value, float) and math.isnan(value) else value

        return safe(asdict(self))

    def summary(self) -> str:
        """One line in percent, with the number of classes that it rests on."""
        return (
            f"mIoU {percent(self.mean_iou)} over {self.num_classes_counted} of {self.num_classes} classes, "
            f"pixel accuracy {percent(self.pixel_accuracy)}, mean accuracy {percent(self.mean_accuracy)}"
        )

    def to_markdown(self) -> str:
        """The summary and a table of the classes, in percent."""
        rows = [self.summary(), "", "| class | IoU | accuracy | pixels |", "|---|---:|---:|---:|"]
        for name, iou in self.per_class.items():
            accuracy = percent(self.per_class_accuracy[name])
            rows.append(f"| {plain(name)} | {percent(iou)} | {accuracy} | {self.per_class_pixels[name]} |")
        return "\n".join(rows) + "\n"


def percent(ratio: float) -> str:
    """A ratio as a percentage with two decimals; a dash for NaN."""
    return "–" if math.isnan(ratio) else f"{100 * ratio:.2f}"


class ConfusionMatrix:
    """Pixel counts by true and predicted class, summed over a data set (and over processes).

    Args:
        num_classes (`int`): number of classes K; ids are 0..K-1.
        ignore_index (`int`, *optional*, defaults to 255): id in the truth whose pixels do not count. It must not be
            the id of a class.

    Attributes:
        matrix (`torch.Tensor` of shape `(num_classes, num_classes)`, int64): rows are the truth, columns the
            prediction.

    Raises:
        InputError: for less than one class, or an ignore index that is also a class.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        if num_classes < 1:
            raise InputError(f"num_classes must be at least 1, got {num_classes}")
        if 0 <= ignore_index < num_classes:
            raise InputError(
                f"ignore_index {ignore_index} is the id of one of the {num_classes} classes; choose an id outside "
                f"0..{num_classes - 1}, for example -1"
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)  # (K, K)

    def update(self, prediction: torch.Tensor, target: torch.Tensor) -> None:
        """Add the pixels of one map or of a batch of maps.

        Args:
            prediction (`torch.Tensor` of shape `(..., height, width)`, any integer dtype): predicted ids, 0..K-1. What
                it holds at ignored pixels does not matter.
            target (`torch.Tensor` of the same shape, any integer dtype): true ids, 0..K-1 or `ignore_index`.

        Raises:
            InputError: for different shapes, values that are not integers, or an id that is no class.
        """
        if prediction.shape != target.shape:
            raise InputError(
                f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}; "
                "bring the prediction to the size of the target (nearest pixel) first"
            )
        for name, ids in (("prediction", prediction), ("target", target)):
            if ids.is_floating_point() or ids.is_complex():
                raise InputError(f"{name} must hold integer class ids, got {ids.dtype}; take the argmax of scores")
        target = target.reshape(-1).to(prediction.device, torch.int64)
        counted = target != self.ignore_index
        target = target[counted]
        prediction = prediction.reshape(-1).to(torch.int64)[counted]
        self._check_ids("target", target, f" or {self.ignore_index} (ignored)")
        self._check_ids("prediction", prediction, "")

        cells = target * self.num_classes + prediction
        counts = torch.bincount(cells, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.matrix.shape).to(self.matrix.device)

    def _check_ids(self, name: str, ids: torch.Tensor, also_allowed: str) -> None:
        if ids.numel() == 0:
            return
        lowest, highest = (int(bound) for bound in ids.aminmax())
        if lowest < 0 or highest >= self.num_classes:
            wrong = lowest if lowest < 0 else highest
            raise InputError(f"{name} holds the id {wrong}; allowed are 0..{self.num_classes - 1}{also_allowed}")

    def reduce(self, accelerator: "Accelerator") -> "ConfusionMatrix":
        """The sum of the matrices of all processes, as a new matrix; every process must call it and gets it."""
        total = ConfusionMatrix(self.num_classes, self.ignore_index)
        # NCCL only reduces what lies on the device
        total.matrix = accelerator.reduce(self.matrix.to(accelerator.device), reduction="sum").cpu()
        return total

    def scores(self, id2label: Mapping[int, str] | None = None) -> SegmentationScores:
        """The scores of what was counted so far.

        Args:
            id2label (`Mapping[int, str]`, *optional*): names of the classes 0..K-1; their ids as text by default.

        Raises:
            InputError: if `id2label` does not name exactly the classes 0..K-1, each differently.
        """
        names = self._names(id2label)
        matrix = self.matrix.double()  # exact up to 2**53 pixels
        hits = matrix.diagonal()  # (K,)
        true_pixels = matrix.sum(dim=1)  # (K,)
        union = true_pixels + matrix.sum(dim=0) - hits
        iou = hits / union  # 0/0 is NaN
        accuracy = hits / true_pixels
        return SegmentationScores(
            mean_iou=_mean_of_counted(iou),
            pixel_accuracy=(hits.sum() / matrix.sum()).item(),
            mean_accuracy=_mean_of_counted(accuracy),
            per_class=dict(zip(names, iou.tolist(), strict=True)),
            per_class_accuracy=dict(zip(names, accuracy.tolist(), strict=True)),
            per_class_pixels=dict(zip(names, self.matrix.sum(dim=1).tolist(), strict=True)),
            num_classes=self.num_classes,
            num_classes_counted=int((union > 0).sum()),
            num_pixels=int(self.matrix.sum()),
        )

    def _names(self, id2label: Mapping[int, str] | None) -> list[str]:
        if id2label is None:
            return [str(class_id) for class_id in range(self.num_classes)]
        if sorted(id2label) != list(range(self.num_classes)):
            raise InputError(
                f"id2label must name the ids 0..{self.num_classes - 1}, got {len(id2label)} ids: {sorted(id2label)}"
            )
        names = [id2label[class_id] for class_id in range(self.num_classes)]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise InputError(f"id2label gives several classes the same name: {', '.join(doubled)}; make them differ")
        return names
