"""An exported folder written by hand, in milliseconds: the class of a pixel is the vector most like its colour."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
WORDS_OF_OTHERS = {"yellow": (0.7071, 0.7071, 0)}


def write_export(folder: Path, vocabulary: str = "open", label_map: bool = False, **settings) -> Path:
    """A graph from pixel values to logits, or from an image to its label map; `settings` of the image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.array(list(COLOURS.values()), dtype=np.float32)
    values = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    words = helper.make_tensor_value_info("class_embeddings", TensorProto.FLOAT, ["num_classes", 3])
    inputs = [values, words] if vocabulary == "open" else [values]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "num_classes", "h", "w"])
    nodes = [
        helper.make_node("AveragePool", ["pixel_values"], ["cells"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Unsqueeze", ["class_embeddings", "axes"], ["kernels"]),
        helper.make_node("Conv", ["cells", "kernels"], ["logits"]),
    ]
    if label_map:
        values = helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])
        logits = helper.make_tensor_value_info("segmentation", TensorProto.INT32, ["height", "width"])
        inputs[0] = values
        nodes = [
            helper.make_node("Cast", ["image"], ["pixel_values"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["class_embeddings"], ["kernels"]),
            helper.make_node("MatMul", ["pixel_values", "kernels"], ["logits"]),
            helper.make_node("ArgMax", ["logits"], ["best"], axis=2, keepdims=0),
            helper.make_node("Cast", ["best"], ["segmentation"], to=TensorProto.INT32),
        ]
    constants = [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])]
    if vocabulary == "baked":
        constants.append(helper.make_tensor("class_embeddings", TensorProto.FLOAT, vectors.shape, vectors.ravel()))
    graph = helper.make_graph(nodes, "colours", inputs, [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    notes = {
        "classes": list(COLOURS),
        "size": {"shortest_edge": 64},
        "pad_size_divisor": 32,
        "rescale_factor": 1 / 255,
    }
    notes |= {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    helper.set_model_props(model, {name: json.dumps(value) for name, value in notes.items()})
    onnx.save(model, folder / "model.onnx")
    save_file({"words": vectors, "class_center": np.zeros(3, np.float32)}, folder / "class_embeddings.safetensors")
    write_json(folder / "class_embeddings_names.json", {"names": {"words": list(COLOURS)}, "text_model": "colours"})
    config = {
        "model_type": "lclipseg",
        "id2label": dict(enumerate(COLOURS)),
        "text_model_name_or_path": "colours",
        "prompt_templates": ["{}"],
        "class_embed_dim": 3,
    }
    write_json(folder / "config.json", config)
    processing = {
        "do_resize": True,
        "size": {"shortest_edge": 64},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_pad": True,
        "pad_size_divisor": 32,
        "image_processor_type": "LClipSegImageProcessor",
    }
    write_json(folder / "preprocessor_config.json", processing | settings)
    record = {
        "format": "onnx",
        "vocabulary": vocabulary,
        "label_map": label_map,
        "int8": False,
        "inputs": {value.name: {} for value in inputs},
        "outputs": {logits.name: {}},
        "opset": 18,
        "model": "colours",
        "weights_sha256": None,
        "versions": {},
        "commit": None,
        "date": "",
    }
    write_json(folder / "export.json", record)
    return folder


def write_bank(folder: Path) -> str:
    """A word bank with one more colour."""
    rows = np.array(list(WORDS_OF_OTHERS.values()), dtype=np.float32)
    save_file({"words": rows}, folder / "bank.safetensors")
    write_json(folder / "bank_names.json", {"names": {"words": list(WORDS_OF_OTHERS)}, "text_model": "colours"})
    return str(folder / "bank.safetensors")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))
