"""Static int8 quantisation by onnxruntime, with ranges from real images.

What is quantised, and how, was found by measurement (docs/lab-notes.md): convolutions and the ReLUs behind them, with
a scale for every output channel. The first convolutions stay in float: they hold few weights and most of the error.
So does everything else (hard-swish, attention, similarity, softmax). Ranges by percentile: a few extreme values of
MobileNetV3's maps would stretch the range of all others.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.files import IMAGE_SUFFIXES
from lclipseg.data.open import load_segmentation_data
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.networks.export_record import CLASS_EMBEDDINGS
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.inputs_lclipseg import open_image, to_rgb_image

IMAGES = 32
PERCENTILE = 99.99
QUANTIZED = ["Conv", "Relu"]
FIRST_IN_FLOAT = 11  # convolutions: of MobileNetV3-small those up to the map at stride 8


def quantize(network: onnx.ModelProto, feeds: Sequence[dict[str, np.ndarray]]) -> onnx.ModelProto:
    """
    The network with int8 weights and uint8 activations, in QDQ form.

    Args:
        network (`onnx.ModelProto`): in float32.
        feeds (sequence of `dict[str, numpy.ndarray]`): its inputs for some real images.

    Returns:
        `onnx.ModelProto`: the same inputs and outputs, float32 as before.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("given", "prepared", "quantized"))
        onnx.save(network, given)
        # Batch normalisations go into the convolutions. The symbolic shape inference cannot follow the graph, and the
        # exporter has written the shapes into it already.
        quant_pre_process(str(given), str(prepared), skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            str(prepared),
            str(quantized),
            _Feeds(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=convolutions[:FIRST_IN_FLOAT],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            # By its name for another method, but for all: one image at a time, whose maps are then let go.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )
        return onnx.load(quantized)


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


class _Feeds(CalibrationDataReader):
    """What onnxruntime reads the feeds through."""

    def __init__(self, feeds: Sequence[dict[str, np.ndarray]]):
        self.feeds = feeds
        self.set_range(0, len(feeds))

    def __len__(self) -> int:
        return len(self.feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self.chosen = iter(self.feeds[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.chosen, None)


__all__ = ["calibration_feeds", "quantize"]
