"""Scores of a model on labelled images, for `lclipseg evaluate` and for the validation of a training run alike."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.labelled import Sample, SegmentationData
from lclipseg.networks.segmenter import Segmenter
from lclipseg.prediction.inference_mode import InferenceMode
from lclipseg.prediction.metrics import ConfusionMatrix, SegmentationScores
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

if TYPE_CHECKING:
    from accelerate import Accelerator

    from lclipseg.data.tables import StreamedData

WHOLE = InferenceMode()


def evaluate_model(
    model: Segmenter,
    image_processor: Any,
    data: "SegmentationData | StreamedData",
    inference: InferenceMode = WHOLE,
    *,
    batch_size: int = 1,
    limit: int | None = None,
    num_workers: int = 0,
    accelerator: "Accelerator | None" = None,
    on_batch: Callable[[int, ConfusionMatrix], None] | None = None,
    class_embeddings: torch.Tensor | None = None,
    least_score: float | None = None,
) -> SegmentationScores:
    """Segment every image at its own size and score all of them by one confusion matrix.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): on its device; it is put in eval mode and back. Not wrapped: with
            several processes pass `accelerator.unwrap_model(model)`.
        image_processor ([`LClipSegImageProcessor`]): the one of the checkpoint.
        data ([`SegmentationData`] or [`StreamedData`]): its classes must have the names of the model's, in any order.
        inference ([`InferenceMode`], *optional*): whole images without flip by default.
        batch_size (`int`, *optional*, defaults to 1): images for one forward pass; only those of equal size share one.
        limit (`int`, *optional*): score only the first so many images.
        num_workers (`int`, *optional*, defaults to 0): processes that decode images ahead.
        accelerator (`Accelerator`, *optional*): share the images among its processes. Each is scored exactly once, and
            every process gets the scores of all.
        on_batch (`Callable`, *optional*): called after each batch with the number of images and the counts so far of
            this process.
        class_embeddings (`torch.Tensor` of shape `(num_classes, class_embed_dim)`, *optional*): the data's classes for
            an open-vocabulary model, in their order. By default its own classes count, matched by name.
        least_score (`float`, *optional*): pixels whose highest logit is lower are the data's class `none_of_these`,
            which the model has not.

    Returns:
        [`SegmentationScores`]: classes in the order of the data.

    Raises:
        InputError: classes that do not match, no images, or a mask with an id that is no class (it is named).
    """
    _check_counts(batch_size, limit, data)
    asked = data.classes if least_score is None else scored_by_least(data.classes)
    if class_embeddings is None:
        to_data_id = match_classes(model.config.id2label, asked)
    else:
        to_data_id = torch.arange(len(asked.names))
    to_data_id = torch.tensor([data.classes.names.index(asked.names[class_id]) for class_id in to_data_id.tolist()])
    if least_score is not None:
        rest = torch.tensor([data.classes.names.index(str(data.classes.none_of_these))])
        to_data_id = torch.cat((to_data_id, rest))  # what -1, none of the classes, indexes
    rank, processes = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    share = data.share(rank, processes, limit)
    loader: DataLoader[Sample] = DataLoader(share, batch_size, num_workers=num_workers, collate_fn=list)

    counts = ConfusionMatrix(len(data.classes.names), IGNORE_INDEX)
    with _eval_mode(model):
        done = 0
        for samples in loader:
            images = [sample.image for sample in samples]
            maps = segment_images(
                model,
                image_processor,
                images,
                **asdict(inference),
                class_embeddings=class_embeddings,
                least_score=least_score,
            )
            for sample, ids in zip(samples, maps, strict=True):
                _count(counts, sample, to_data_id[ids])
            done += len(samples)
            if on_batch is not None:
                on_batch(done, counts)
    if accelerator is not None:
        counts = counts.reduce(accelerator)
    return counts.scores(data.classes.id2label)


def scored_by_least(classes: ClassList) -> ClassList:
    """The classes that a model is asked for where a least score decides on the class `none_of_these`.

    Raises:
        InputError: `classes` has no such class, or no other.
    """
    if classes.none_of_these is None:
        raise InputError(
            "a least score needs a class that stands for all else, and classes.json names none: add "
            f'"none_of_these", one of {_listed(list(classes.names))}'
        )
    return classes.subset(classes.of_something, where="the classes but none_of_these")


def match_classes(id2label: Mapping[int, str], classes: ClassList) -> torch.Tensor:
    """For each class id of a model the id of the same-named class of the data (case and outer blanks aside).

    Returns:
        `torch.Tensor` of shape `(num_classes,)`, int64.

    Raises:
        InputError: if one side has a name that the other has not; the message lists them.
    """
    of_model = [fold_name(id2label[class_id]) for class_id in range(len(id2label))]
    of_data = {fold_name(name): class_id for class_id, name in enumerate(classes.names)}
    if set(of_model) != set(of_data):
        only_model = [id2label[class_id] for class_id, key in enumerate(of_model) if key not in of_data]
        only_data = [name for name in classes.names if fold_name(name) not in set(of_model)]
        raise InputError(
            f"the checkpoint has {len(of_model)} classes and the data {len(of_data)}, and their names differ. "
            f"Only in the checkpoint: {_listed(only_model)}. Only in the data: {_listed(only_data)}. Give the data a "
            "class list with the checkpoint's names, or let an open-vocabulary checkpoint take the data's classes "
            "(--classes-from data)"
        )
    return torch.tensor([of_data[key] for key in of_model])


def _listed(names: list[str]) -> str:
    return (", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")) or "none"


def _check_counts(batch_size: int, limit: int | None, data: "SegmentationData | StreamedData") -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}; leave it out to score all images")
    if isinstance(data, SegmentationData) and len(data) == 0:
        raise InputError("the data has no images to score")


def _count(counts: ConfusionMatrix, sample: Sample, ids: torch.Tensor) -> None:
    try:
        counts.update(ids, torch.from_numpy(sample.mask.astype("int64")))
    except InputError as error:
        raise InputError(f"{sample.name}: {error}") from error


@contextmanager
def _eval_mode(model: Segmenter) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
