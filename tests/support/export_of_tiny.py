"""A tiny checkpoint that can be exported, and its export."""

from pathlib import Path
from unittest import mock

import onnx
import torch
from made_once import made_once
from onnx import numpy_helper
from tiny_model import NAMES, TINY_BACKBONE, tiny_model

from lclipseg.commands.export import parse
from lclipseg.export import graph as exporting
from lclipseg.export.export import export_model
from lclipseg.networks.export_record import CLASS_EMBEDDINGS, MODEL_FILE
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor

# TensorFlow's padding depends on the size of the image: the hardest case for sizes not seen in the export.
PADDED_BY_SIZE = {"backbone_config": {**TINY_BACKBONE, "backbone": "tf_mobilenetv3_small_minimal_100"}}
PROCESSOR = LClipSegImageProcessor(size={"shortest_edge": 64, "longest_edge": 160})


CENTER = torch.eye(32)[:1]  # the common direction of the checkpoint's vectors


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return CENTER + 0.1 * torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def save_exportable(folder: Path, **overrides) -> Path:
    """A checkpoint with classes and the common direction of their vectors; its folder."""
    model = tiny_model(**overrides)
    if model.head.takes_text:
        model.set_class_center(CENTER).set_classes(NAMES, vectors(len(NAMES)))
    model.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return folder


def exported(checkpoint: Path, out: Path, *arguments: str) -> Path:
    export_model(*parse([str(checkpoint), "--out", str(out), *arguments]))
    return out


def exported_once(shared: Path) -> Path:
    """A folder with `checkpoint` and its traced graph `open`; not to be changed."""

    def make(folder: Path) -> None:
        exported(save_exportable(folder / "checkpoint", **PADDED_BY_SIZE), folder / "open")

    return made_once(shared / "exported", make)


def same_network(folder: Path):
    """Inside, the export takes the network of another one, which is the same and takes seconds to trace."""

    def network(model: LClipSegForSemanticSegmentation, vocabulary: str) -> onnx.ModelProto:
        found = onnx.load(folder / MODEL_FILE)
        if vocabulary == "baked":
            (words,) = [value for value in found.graph.input if value.name == CLASS_EMBEDDINGS]
            found.graph.input.remove(words)
            found.graph.initializer.append(numpy_helper.from_array(model.class_embeddings.numpy(), words.name))
        return found

    return mock.patch.object(exporting, "export_network", network)
