# mypy: ignore-errors
# ruff: noqa: F821
"""What stands around the network in a graph that takes an image and gives a label map.

The graph does what the image processor does, in ONNX's own operators: scale, normalise and pad before the network, and
afterwards bring the logits to the size of the image and take the best class. Nothing as large as num_classes *
height * width is made: a `Scan` goes over the rows of the label map, with one row of enlarged logits at a time. The
highest logit of each pixel is an output, too: by it, what looks like none of the classes is told from the others.

The two scripts below are not run as Python: onnxscript reads them and writes ONNX. Their annotations are shapes, which
neither mypy nor ruff can know.
"""

import math
from typing import Any

import onnx
from onnx import compose
from onnxscript import FLOAT, INT32, INT64, UINT8, OnnxFunction, graph, script
from onnxscript import opset18 as op
from torchvision.transforms.v2 import InterpolationMode
from transformers.image_utils import PILImageResampling

from lclipseg.console.errors import InputError
from lclipseg.networks.export_record import LOGITS, SCORES, SEGMENTATION
from modeling_lclipseg.label_map_lclipseg import LOGITS_STRIDE

# Pillow's number, torchvision's name, and that as a file says it: image processors take each of them.
BILINEAR = (PILImageResampling.BILINEAR, InterpolationMode.BILINEAR, InterpolationMode.BILINEAR.value)
PIXEL_VALUES = "pixel_values"


def add_label_map(network: onnx.ModelProto, image_processor: Any) -> onnx.ModelProto:
    """
    A network with the work of its image processor around it, for one image at a time.

    Args:
        network (`onnx.ModelProto`): input `pixel_values` (1, 3, height, width), float32, and perhaps others; output
            `logits` (1, num_classes, height / 4, width / 4).
        image_processor ([`LClipSegImageProcessor`]): how images are brought into the network.

    Returns:
        `onnx.ModelProto`: input `image` (height, width, 3), uint8 RGB, of any size, and the network's other inputs;
        outputs `segmentation` (height, width), int32: the class of every pixel; `scores` (height, width), float32:
        its logit.

    Raises:
        [`InputError`]: the image processor does something that has no place in the graph.
    """
    check_settings(image_processor)
    joined = compose.merge_models(
        _apart(_preparation(image_processor), "prepare"), network, io_map=[(PIXEL_VALUES, PIXEL_VALUES)]
    )
    shared = (LOGITS, "image_sides", "scaled_sides")
    joined = compose.merge_models(joined, _apart(_finish(), "finish"), io_map=[(name, name) for name in shared])
    # onnxscript gives the outputs of a Scan the shape of one row.
    del joined.graph.output[:]
    for name, kind in ((SEGMENTATION, onnx.TensorProto.INT32), (SCORES, onnx.TensorProto.FLOAT)):
        joined.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, ["height", "width"]))
    return joined


def _apart(function: OnnxFunction, prefix: str) -> onnx.ModelProto:
    """With a prefix on what is inside, so that it meets no name of the network."""
    return compose.add_prefix(function.to_model_proto(), f"{prefix}/", rename_inputs=False, rename_outputs=False)


def check_settings(image_processor: Any) -> None:
    """An [`InputError`] where the image processor does something that has no place in the graph."""
    wrong = None
    if image_processor.do_resize and image_processor.resample not in BILINEAR:
        wrong = f"resample={image_processor.resample}; allowed is {BILINEAR[0]:d}, bilinear"
    elif image_processor.sizing.fixed is not None:
        wrong = f"size={dict(image_processor.size)}; allowed is a shortest_edge, a longest_edge or both"
    elif image_processor.do_pad and image_processor.pad_size is not None:
        wrong = f"pad_size={dict(image_processor.pad_size)}; allowed is none"
    if wrong is not None:
        raise InputError(f"a graph with a label map cannot do what the image processor asks for: {wrong}")


def _preparation(image_processor: Any) -> OnnxFunction:
    """The image processor's `preprocess`, with the sides (2,) of the image before and after scaling."""
    sizing = image_processor.sizing
    shortest, longest = float(sizing.shortest_edge or math.inf), float(sizing.longest_edge or math.inf)
    largest_scale = 1.0 if min(shortest, longest) == math.inf else math.inf
    divisor = sizing.divisor if sizing.do_pad else 1
    factor = float(image_processor.rescale_factor) if image_processor.do_rescale else 1.0
    normalizes = image_processor.do_normalize
    mean = [float(value) for value in image_processor.image_mean] if normalizes else [0.0] * 3
    deviation = [float(value) for value in image_processor.image_std] if normalizes else [1.0] * 3

    @script(default_opset=op)
    def prepare(
        image: UINT8["height", "width", 3],
    ) -> tuple[FLOAT[1, 3, "padded_height", "padded_width"], INT64[2], INT64[2]]:
        image_sides = op.Shape(image, start=0, end=2)
        sides = op.Cast(image_sides, to=onnx.TensorProto.DOUBLE)  # Python's precision, Python's rounding
        by_shortest = shortest / op.ReduceMin(sides, keepdims=0)
        by_longest = longest / op.ReduceMax(sides, keepdims=0)
        scale = op.Min(by_shortest, by_longest, op.CastLike(largest_scale, sides))
        scaled_sides = op.Max(op.Cast(op.Round(sides * scale), to=onnx.TensorProto.INT64), 1)
        planes = op.Unsqueeze(op.Transpose(image, perm=[2, 0, 1]), [0])  # (1, 3, H, W)
        size = op.Concat(op.Constant(value_ints=[1, 3]), scaled_sides, axis=0)
        scaled = op.Resize(planes, None, None, size, mode="linear", antialias=1)  # uint8, as torchvision does it
        values = op.Cast(scaled, to=onnx.TensorProto.FLOAT) * factor
        mean_value = op.Reshape(op.Constant(value_floats=mean), [1, 3, 1, 1])
        deviation_value = op.Reshape(op.Constant(value_floats=deviation), [1, 3, 1, 1])
        padding = op.Concat(op.Constant(value_ints=[0] * 6), op.Mod(-scaled_sides, divisor), axis=0)
        pixel_values = op.Pad((values - mean_value) / deviation_value, padding)  # after normalisation, with 0
        return pixel_values, image_sides, scaled_sides

    return prepare


def _finish() -> OnnxFunction:
    """The image processor's `post_process_semantic_segmentation`: bilinear, edges held, the padding left out."""
    stride = float(LOGITS_STRIDE)

    @script(default_opset=op)
    def finish(
        logits: FLOAT[1, "num_classes", "rows", "columns"],
        image_sides: INT64[2],
        scaled_sides: INT64[2],
    ):
        cells = op.Transpose(op.Squeeze(logits, [0]), perm=[1, 2, 0])  # (h, w, K): the classes of a cell side by side
        last = op.Cast(op.Shape(cells, start=0, end=2) - 1, to=onnx.TensorProto.FLOAT)
        pixels = op.Cast(image_sides, to=onnx.TensorProto.FLOAT)
        step = op.Cast(scaled_sides, to=onnx.TensorProto.FLOAT) / (pixels * stride)  # cells a pixel
        # Where the centres of the pixels lie, counted in cells: between which two, and how far.
        y = op.Clip((op.Range(0.0, pixels[0], 1.0) + 0.5) * step[0] - 0.5, 0.0, last[0])
        x = op.Clip((op.Range(0.0, pixels[1], 1.0) + 0.5) * step[1] - 0.5, 0.0, last[1])
        top, left = op.Floor(y), op.Floor(x)
        above = op.Cast(top, to=onnx.TensorProto.INT64)
        below = op.Cast(op.Min(top + 1.0, last[0]), to=onnx.TensorProto.INT64)
        before = op.Cast(left, to=onnx.TensorProto.INT64)
        after = op.Cast(op.Min(left + 1.0, last[1]), to=onnx.TensorProto.INT64)
        down, across = y - top, op.Unsqueeze(x - left, [1])

        @graph()
        def row(row_above: INT64, row_below: INT64, row_down: FLOAT) -> tuple[INT32["width"], FLOAT["width"]]:
            upper = op.Gather(cells, row_above)  # (w, K)
            mixed = upper + (op.Gather(cells, row_below) - upper) * row_down
            start = op.Gather(mixed, before)  # (W, K)
            enlarged = start + (op.Gather(mixed, after) - start) * across
            best = op.Cast(op.ArgMax(enlarged, axis=1, keepdims=0), to=onnx.TensorProto.INT32)
            highest = op.ReduceMax(enlarged, [1], keepdims=0)
            return best, highest

        segmentation, scores = op.Scan(above, below, down, body=row, num_scan_inputs=3)  # (H, W)
        return segmentation, scores

    return finish


__all__ = ["PIXEL_VALUES", "add_label_map", "check_settings"]
