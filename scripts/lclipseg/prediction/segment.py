"""From images to label maps: loading a checkpoint, and whole, sliding-window and flip-averaged prediction.

Every prediction is at the size of the upright image. Images are only batched with images of their own size, so that a
result never depends on which other images were given.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image, ImageOps

import modeling_lclipseg  # noqa: F401  registers the Auto classes
from lclipseg.console.errors import InputError
from lclipseg.networks.exported import OnnxSegmenter
from lclipseg.networks.segmenter import Segmenter
from lclipseg.prediction.graph_segmenter import no_scores
from lclipseg.prediction.inference_mode import InferenceMode, window_boxes
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.label_map_lclipseg import NO_CLASS

WINDOWS_PER_FORWARD = 4  # a large photo has a hundred windows: one forward pass for all would not fit


def segment_images(
    model: Segmenter,
    image_processor: Any,
    images: Sequence[Image.Image],
    mode: str = "whole",
    flip: bool = False,
    window: int | None = None,
    stride: int | None = None,
    class_embeddings: torch.Tensor | None = None,
    least_score: float | None = None,
) -> list[torch.Tensor]:
    """The class id of every pixel.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): in eval mode, on any device.
        image_processor ([`LClipSegImageProcessor`]): the one of the checkpoint.
        images (sequence of `PIL.Image.Image`): one batch, so no more than memory holds; any mode, sizes may differ.
        mode, flip, window, stride: see [`InferenceMode`].
        class_embeddings (`torch.Tensor` of shape `(num_classes, class_embed_dim)`, *optional*): classes to use instead
            of those in the checkpoint.
        least_score (`float`, *optional*): pixels whose highest logit is lower get the id -1.

    Returns:
        `list[torch.Tensor]`: for each image the class ids of the upright `(height, width)`, int64, on the CPU.

    Raises:
        InputError: no images, something that is no image, classes that the model refuses, or a least score for flipped
            images, whose probabilities are averaged.
    """
    inference = InferenceMode(mode, flip, window, stride)
    if least_score is not None and not inference.is_plain:
        _check_has_logits(model, inference)
        enlarged = _logits(model, image_processor, _upright(images), inference, class_embeddings)
        best = [scores.max(dim=0) for scores in enlarged]
        return [one.indices.masked_fill(one.values < least_score, NO_CLASS).cpu() for one in best]
    if not inference.is_plain:
        probabilities = predict_probabilities(model, image_processor, images, inference, class_embeddings)
        return [scores.argmax(dim=0).cpu() for scores in probabilities]
    upright = _upright(images)
    if isinstance(model, OnnxSegmenter):
        return [model(image, class_embeddings, least_score) for image in upright]
    maps: dict[int, torch.Tensor] = {}
    for indices in _equal_sizes(upright):
        batch = [upright[index] for index in indices]
        outputs = _forward(model, image_processor, batch, class_embeddings)
        segmented = image_processor.post_process_semantic_segmentation(outputs, _sizes(batch), least_score=least_score)
        maps |= dict(zip(indices, (ids.cpu() for ids in segmented), strict=True))
    return [maps[index] for index in range(len(upright))]


def uncertainty(model: Segmenter, image_processor: Any, image: Image.Image) -> float:
    """
    How unsure a model is of an image: one less the probability of the likeliest class, the mean over all pixels.

    Args:
        model, image_processor: see [`segment_images`]; no exported graph that gives label maps.
        image (`PIL.Image.Image`): of any mode.

    Returns:
        `float`: 0, where every pixel is certain, to just below 1.
    """
    (upright,) = _upright([image])
    outputs = _forward(model, image_processor, [upright], None)
    ((_, confidence),) = image_processor.post_process_confidence(outputs, _sizes([upright]))
    return 1 - confidence.double().mean().item()


def image_logits(model: Segmenter, image_processor: Any, image: Image.Image) -> torch.Tensor:
    """The logits (num_classes, height / 4, width / 4) of one padded image; see [`segment_images`]."""
    if isinstance(model, OnnxSegmenter):
        raise InputError(no_scores(model.folder))
    return _forward(model, image_processor, _upright([image]), None).logits[0]


def predict_probabilities(
    model: Segmenter,
    image_processor: Any,
    images: Sequence[Image.Image],
    inference: InferenceMode,
    class_embeddings: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """The probability of every class in every pixel; arguments and errors as in [`segment_images`].

    Windows are averaged as logits, flipped images as probabilities: windows see the same pixels at the same scale, so
    that their logits are comparable, while a flipped image may be more or less certain all over.

    Returns:
        `list[torch.Tensor]`: for each image `(num_classes, height, width)`, float32, summing to 1 over the classes, on
        the model's device. This takes 4 * K bytes a pixel.
    """
    if isinstance(model, OnnxSegmenter):
        raise InputError(no_scores(model.folder))
    upright = _upright(images)
    probabilities = _probabilities(model, image_processor, upright, inference, class_embeddings)
    if not inference.flip:
        return probabilities
    flips = [ImageOps.mirror(image) for image in upright]
    of_flips = _probabilities(model, image_processor, flips, inference, class_embeddings)
    return [(straight + flipped.flip(-1)) / 2 for straight, flipped in zip(probabilities, of_flips, strict=True)]


def _check_has_logits(model: Segmenter, inference: InferenceMode) -> None:
    """An [`InputError`] where there are none to compare with a least score."""
    if isinstance(model, OnnxSegmenter):
        raise InputError(no_scores(model.folder))
    if inference.flip:
        raise InputError("flipped images are averaged as probabilities, which no least score goes with; leave one out")


def _probabilities(model, image_processor, images, inference: InferenceMode, class_embeddings) -> list[torch.Tensor]:
    logits = _logits(model, image_processor, images, inference, class_embeddings)
    return [scores.softmax(dim=0) for scores in logits]


def _logits(model, image_processor, images, inference: InferenceMode, class_embeddings) -> list[torch.Tensor]:
    """(K, H, W) at the size of each image."""
    if inference.mode == "whole":
        return _whole_logits(model, image_processor, images, class_embeddings)
    window, stride = inference.window_and_stride(image_processor)
    return [_slide_logits(model, image_processor, image, window, stride, class_embeddings) for image in images]


def _whole_logits(model, image_processor, images: Sequence[Image.Image], class_embeddings) -> list[torch.Tensor]:
    """Logits (K, H, W) at the size of each image."""
    logits: dict[int, torch.Tensor] = {}
    for indices in _equal_sizes(images):
        batch = [images[index] for index in indices]
        outputs = _forward(model, image_processor, batch, class_embeddings)
        processed = image_processor.post_process_semantic_segmentation(
            outputs, target_sizes=_sizes(batch), return_segmentation_scores=True
        )
        logits |= dict(zip(indices, (one.segmentation_scores.float() for one in processed), strict=True))
    return [logits[index] for index in range(len(images))]


def _slide_logits(
    model, image_processor, image: Image.Image, window: int, stride: int, class_embeddings
) -> torch.Tensor:
    """Logits (K, H, W), averaged over the windows that cover a pixel."""
    boxes = window_boxes(image.height, image.width, window, stride)
    total: torch.Tensor | None = None
    visits = torch.zeros(image.height, image.width, device=model.device)
    for first in range(0, len(boxes), WINDOWS_PER_FORWARD):
        some = boxes[first : first + WINDOWS_PER_FORWARD]
        crops = [image.crop(box) for box in some]
        for (left, top, right, bottom), logits in zip(
            some, _whole_logits(model, image_processor, crops, class_embeddings), strict=True
        ):
            if total is None:
                total = logits.new_zeros(len(logits), image.height, image.width)
            total[:, top:bottom, left:right] += logits
            visits[top:bottom, left:right] += 1
    assert total is not None  # there is at least one box
    return total / visits.to(total.device)


@torch.no_grad()  # not inference_mode: what a model caches here must stay usable in training
def _forward(model, image_processor, images: Sequence[Image.Image], class_embeddings) -> Any:
    pixel_values = image_processor(images=list(images), return_tensors="pt")["pixel_values"]  # (B, 3, H, W)
    given = {} if class_embeddings is None else {"class_embeddings": class_embeddings.to(model.device)}
    try:
        return model(pixel_values=pixel_values.to(model.device, model.dtype), **given)
    except ValueError as error:  # the model's word for classes that it cannot use
        raise InputError(str(error)) from error


def _upright(images: Sequence[Image.Image]) -> list[Image.Image]:
    """The images as the image processor sees them, in a form that can be cut and flipped."""
    if not isinstance(images, Sequence):
        raise InputError(f"images must be a list of images, got {type(images).__name__}; put one image into a list")
    if not images:
        raise InputError("no images were given; give at least one")
    upright = []
    for index, image in enumerate(images):
        try:
            upright.append(to_rgb_image(image))
        except ValueError as error:
            raise InputError(f"images[{index}]: {error}") from error
    return upright


def _sizes(images: Sequence[Image.Image]) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image in images]


def _equal_sizes(images: Sequence[Image.Image]) -> Iterator[list[int]]:
    """Indices of the images, grouped by size: more padding would change what a pooling network says of an image."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(_sizes(images)):
        groups.setdefault(size, []).append(index)
    return iter(groups.values())
