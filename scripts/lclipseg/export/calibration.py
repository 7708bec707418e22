"""What values the tensors of a network have for real images: of these int8 can tell 256 apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.files import IMAGE_SUFFIXES
from lclipseg.data.open import load_segmentation_data
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.networks.export_record import CLASS_EMBEDDINGS
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.inputs_lclipseg import to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image

IMAGES = 32
SAMPLE = 4096  # values of a tensor that are looked at, of each image
SHARE = 0.9999  # of the values that lie in the range


def calibration_feeds(
    source: str, model: LClipSegForSemanticSegmentation, image_processor: Any, vocabulary: str
) -> list[dict[str, np.ndarray]]:
    """
    Inputs of the network for some images of a folder, spread evenly over it.

    Args:
        source (`str`): a folder of images, or data, of which the split "train" is taken.
        model ([`LClipSegForSemanticSegmentation`]): for its class embeddings.
        image_processor ([`LClipSegImageProcessor`]): prepares the images.
        vocabulary (`str`): `"open"` or `"baked"`.

    Raises:
        [`InputError`]: no images there, or one that cannot be read.
    """
    vectors = {CLASS_EMBEDDINGS: model.class_embeddings.float().numpy()} if vocabulary == "open" else {}
    return [
        {PIXEL_VALUES: image_processor(images=image, return_tensors="np")["pixel_values"], **vectors}
        for image in _images(source)
    ]


@dataclass(frozen=True)
class Seen:
    """
    What a map was like.

    Args:
        low, high (`float`): Nearly all of its values lie between these. A few extreme ones of MobileNetV3's maps would
            stretch the range of all others.
        means (`numpy.ndarray` of shape `(channels,)`): Of each channel, over places and images.
    """

    low: float
    high: float
    means: np.ndarray


def observe(
    network: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]], tensors: Sequence[str]
) -> dict[str, Seen]:
    """
    Look at the maps of a network for some images.

    Args:
        network (`onnx.ModelProto`): In float32.
        feeds (sequence of `dict[str, numpy.ndarray]`): Its inputs for some images.
        tensors (sequence of `str`): Float32 tensors of shape `(1, channels, height, width)` inside.
    """
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(network)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors
    )
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(0)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    means: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for feed in feeds:
        for name, values in zip(tensors, session.run(list(tensors), feed), strict=True):
            flat = values.ravel()
            samples[name].append(flat if flat.size <= SAMPLE else flat[draw.integers(flat.size, size=SAMPLE)])
            means[name].append(values.mean(axis=(0, 2, 3)))
    outside = (1 - SHARE) / 2
    seen = {}
    for name in tensors:
        low, high = np.quantile(np.concatenate(samples[name]), (outside, 1 - outside)).tolist()
        seen[name] = Seen(low, high, np.mean(means[name], axis=0))
    return seen


def _images(source: str) -> Iterator[Image.Image]:
    folder = Path(source).expanduser()
    files = []
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if files:
        for index in _spread(len(files)):
            try:
                yield to_rgb_image(open_image(files[index]))
            except ValueError as error:
                raise InputError(f"--calibration: {error}") from error
    else:
        data = load_segmentation_data(source, "train")
        for index in _spread(len(data)):
            yield data[index].image


def _spread(count: int) -> list[int]:
    return sorted({round(index) for index in np.linspace(0, count - 1, IMAGES)})


__all__ = ["Seen", "calibration_feeds", "observe"]
