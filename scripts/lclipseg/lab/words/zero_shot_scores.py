"""Generalised zero-shot scores: classes seen and unseen in training compete for every pixel."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.subset import find_classes
from lclipseg.prediction.evaluate import match_classes
from lclipseg.prediction.metrics import ConfusionMatrix, SegmentationScores
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.class_embeddings_lclipseg import project_onto_known


@dataclass(frozen=True)
class ZeroShotScores:
    """
    Scores of one evaluation, apart for classes that were seen and unseen in training. Ratios lie in 0..1.

    Args:
        calibration (`float`): What was subtracted from the logits of the seen classes.
        projected (`bool`): Whether the unseen classes' vectors were projected, see [`project_unseen`].
        seen_mean_iou (`float`), unseen_mean_iou (`float`): Mean IoU over the classes of the group that occur in the
            truth or in a prediction; NaN where none does.
        harmonic_mean (`float`): Of the two; 0 where one of them is 0, NaN where one is NaN.
        all_classes ([`SegmentationScores`]): The scores of all classes together.
    """

    calibration: float
    projected: bool
    seen_mean_iou: float
    unseen_mean_iou: float
    harmonic_mean: float
    all_classes: SegmentationScores

    @classmethod
    def from_scores(
        cls, scores: SegmentationScores, unseen: Sequence[str], calibration: float, projected: bool = False
    ) -> "ZeroShotScores":
        """Split the scores by class; `unseen` has names as `scores.per_class` spells them."""
        seen_mean = _mean_of_counted([iou for name, iou in scores.per_class.items() if name not in unseen])
        unseen_mean = _mean_of_counted([scores.per_class[name] for name in unseen])
        product = seen_mean * unseen_mean
        harmonic = 0.0 if product == 0 else 2 * product / (seen_mean + unseen_mean)
        return cls(calibration, projected, seen_mean, unseen_mean, harmonic, scores)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them: NaN becomes None."""
        means = {name: getattr(self, name) for name in ("seen_mean_iou", "unseen_mean_iou", "harmonic_mean")}
        return {
            "calibration": self.calibration,
            "projected": self.projected,
            **{name: None if math.isnan(mean) else mean for name, mean in means.items()},
            "all_classes": self.all_classes.to_dict(),
        }


def _mean_of_counted(values: Sequence[float]) -> float:
    return torch.tensor(values, dtype=torch.float64).nanmean().item()


def score_zero_shot(
    model: LClipSegForSemanticSegmentation,
    image_processor: Any,
    data: SegmentationData,
    unseen: Sequence[str],
    calibrations: Sequence[float] = (0.0,),
    *,
    projected: bool = False,
    limit: int | None = None,
    on_image: Callable[[int], None] | None = None,
) -> list[ZeroShotScores]:
    """
    Score a model that predicts among all classes of the data, some of which it was not trained on.

    A model prefers the classes that it was trained on. The usual remedy is to subtract a constant from these before
    the best class is taken (calibrated stacking; Chao et al., ECCV 2016). ZegCLIP (Zhou et al., CVPR 2023) subtracts
    0.1 from sigmoid probabilities; here it is subtracted from logits, which are scaled cosines, so that its size
    compares with no published one. Choose it on other images than those that are reported.

    Every image is predicted once, whole and at its own size: the class of a pixel is the best seen one where it leads
    the best unseen one by more than the calibration. Without calibration the scores are [`evaluate_model`]'s.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): In eval mode; its classes are all those of `data`, in any order.
        image_processor ([`LClipSegImageProcessor`]): The one of the checkpoint.
        data ([`SegmentationData`]): Labelled with seen and unseen classes.
        unseen (sequence of `str`): The classes of the data that were not trained on; case does not matter.
        calibrations (sequence of `float`, *optional*, defaults to `(0.0,)`): What to subtract, each at least 0.
        projected (`bool`, *optional*, defaults to `False`): Project the unseen classes' vectors first; the model keeps
            the projected ones. See [`project_unseen`].
        limit (`int`, *optional*): Score only the first so many images.
        on_image (`Callable`, *optional*): Called after each image with their number so far.

    Returns:
        `list[ZeroShotScores]`: one for each calibration.

    Raises:
        [`InputError`]: classes of model and data that differ, an unseen class that the data lacks, no class left as
            seen, a calibration below 0 or infinite, none of them, or no images.
    """
    if not calibrations or not all(0 <= calibration < math.inf for calibration in calibrations):
        raise InputError(f"calibrations must be numbers from 0, at least one, got {list(calibrations)}; try 0 1 2 4")
    num_images = len(data) if limit is None else min(limit, len(data))
    if num_images < 1:
        raise InputError(f"there is nothing to score: {len(data)} images, limit {limit}; the limit is at least 1")
    names = data.classes.names
    unseen_ids = find_classes(unseen, data.classes)
    if len(unseen_ids) == len(names):
        raise InputError("all classes of the data are unseen, so there is nothing to compare them with; name fewer")
    to_data_id = match_classes(model.config.id2label, data.classes)  # (K,)
    is_unseen = torch.isin(to_data_id, torch.tensor(unseen_ids))
    if projected:
        project_unseen(model, is_unseen)

    counts = [ConfusionMatrix(len(names), IGNORE_INDEX) for _ in calibrations]
    for index in range(num_images):
        sample = data[index]
        logits = _logits(model, image_processor, sample.image)
        best_seen, seen_map = _best_of(logits, to_data_id, ~is_unseen)
        best_unseen, unseen_map = _best_of(logits, to_data_id, is_unseen)
        lead, truth = best_seen - best_unseen, torch.from_numpy(sample.mask)  # (H, W)
        for calibration, matrix in zip(calibrations, counts, strict=True):
            matrix.update(torch.where(lead > calibration, seen_map, unseen_map), truth)
        if on_image is not None:
            on_image(index + 1)
    unseen_names = [names[class_id] for class_id in unseen_ids]
    return [
        ZeroShotScores.from_scores(matrix.scores(data.classes.id2label), unseen_names, calibration, projected)
        for calibration, matrix in zip(calibrations, counts, strict=True)
    ]


def project_unseen(model: LClipSegForSemanticSegmentation, is_unseen: torch.Tensor) -> None:
    """
    Replace the vectors of a model's unseen classes by what [`project_onto_known`] leaves of them, the seen ones being
    known.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): Its class embeddings are changed in place.
        is_unseen (`torch.Tensor` of shape `(num_classes,)`): Which of its classes are unseen.
    """
    vectors = model.class_embeddings.detach().float().cpu()
    vectors[is_unseen] = project_onto_known(vectors[is_unseen], vectors[~is_unseen], model.class_center.cpu())
    model.set_classes(model.config.class_names, vectors)


@torch.no_grad()
def _logits(model: LClipSegForSemanticSegmentation, image_processor: Any, image: Image.Image) -> torch.Tensor:
    """Logits (K, H, W) at the size of the image."""
    pixel_values = image_processor(images=[image], return_tensors="pt")["pixel_values"]  # (1, 3, h, w)
    outputs = model(pixel_values=pixel_values.to(model.device, model.dtype))
    (processed,) = image_processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(image.height, image.width)], return_segmentation_scores=True
    )
    return processed.segmentation_scores


def _best_of(logits: torch.Tensor, ids: torch.Tensor, group: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit among a group of classes in every pixel (H, W), and the id of its class."""
    largest, indices = logits[group.to(logits.device)].max(dim=0)
    return largest, ids[group].to(logits.device)[indices]
