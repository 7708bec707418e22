"""Mean IoU as a module of the library `evaluate`, with the arguments that transformers' example scripts give it.

A stand-in for the one that they take from the Hub, which like it counts the pixels of every class but `ignore_index`.
"""

import datasets
import numpy as np

import evaluate


class MeanIoU(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        maps = datasets.Sequence(datasets.Sequence(datasets.Value("uint16")))
        features = datasets.Features({"predictions": maps, "references": maps})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(
        self, predictions, references, num_labels: int, ignore_index: int, reduce_labels: bool = False
    ) -> dict:
        assert not reduce_labels
        predicted, true = (np.concatenate([*map(np.ravel, maps)]) for maps in (predictions, references))
        counted = (true != ignore_index) & (true < num_labels)
        matrix = np.bincount(num_labels * true[counted] + predicted[counted], minlength=num_labels**2)
        matrix = matrix.reshape(num_labels, num_labels)
        hits, of_class = matrix.diagonal(), matrix.sum(1)
        with np.errstate(invalid="ignore"):
            iou, accuracy = hits / (of_class + matrix.sum(0) - hits), hits / of_class
        return {
            "mean_iou": float(np.nanmean(iou)),
            "mean_accuracy": float(np.nanmean(accuracy)),
            "overall_accuracy": float(hits.sum() / of_class.sum()),
            "per_category_iou": iou,
            "per_category_accuracy": accuracy,
        }
