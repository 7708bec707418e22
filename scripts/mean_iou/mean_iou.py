"""Mean IoU as a local module of the `evaluate` library, which needs no network.

```python
metric = evaluate.load("scripts/mean_iou")  # from the project's root
metric.compute(predictions=[map_1, map_2], references=[mask_1, mask_2], num_labels=11, ignore_index=255)
```
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch

import evaluate
from lclipseg.prediction.metrics import ConfusionMatrix

_DESCRIPTION = """Intersection over union of predicted and true segmentation maps, from one matrix of pixel counts over
all maps (not the mean of per-image values). Classes that occur nowhere are NaN and do not enter the mean."""

_INPUTS = """
Args:
    predictions (`list` of `(height, width)` arrays): predicted class ids, 0..num_labels-1.
    references (`list` of `(height, width)` arrays): true class ids, 0..num_labels-1 or `ignore_index`.
    num_labels (`int`): number of classes.
    ignore_index (`int`, *optional*, defaults to 255): id in the references whose pixels do not count.

Returns:
    `dict`: `mean_iou`, `mean_accuracy`, `overall_accuracy` (`float`), `per_category_iou` and `per_category_accuracy`
    (arrays of shape `(num_labels,)`, NaN where there is nothing to count), `num_classes_counted` (`int`).
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class MeanIoU(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        # int32 holds what uint16 cannot: a negative ignore index
        maps = datasets.Sequence(datasets.Sequence(datasets.Value("int32")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": maps, "references": maps}),
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[Any], num_labels: int, ignore_index: int = 255
    ) -> dict[str, Any]:
        matrix = ConfusionMatrix(num_labels, ignore_index)
        for prediction, reference in zip(predictions, references, strict=True):
            matrix.update(torch.from_numpy(np.asarray(prediction)), torch.from_numpy(np.asarray(reference)))
        scores = matrix.scores()
        return {
            "mean_iou": scores.mean_iou,
            "mean_accuracy": scores.mean_accuracy,
            "overall_accuracy": scores.pixel_accuracy,
            "per_category_iou": np.array(list(scores.per_class.values())),
            "per_category_accuracy": np.array(list(scores.per_class_accuracy.values())),
            "num_classes_counted": scores.num_classes_counted,
        }
