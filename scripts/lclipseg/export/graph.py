"""From a checkpoint to an ONNX graph, by torch's own exporter, and to the folder that holds it."""

from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from safetensors.torch import load_file, save_file

from lclipseg.console.errors import InputError
from lclipseg.export.arguments import LOWEST_OPSET
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.export.tracing import traced_for_onnx
from lclipseg.networks.checkpoints import PICKLE_SUFFIXES, check_has_classes
from lclipseg.networks.export_record import (
    BANK_FILE,
    BANK_NAMES_FILE,
    CLASS_CENTER,
    CLASS_EMBEDDINGS,
    EXPORT_FILE,
    LOGITS,
    MODEL_FILE,
    TRAINED_EMBEDDINGS,
    ExportRecord,
)
from modeling_lclipseg import LClipSegForSemanticSegmentation, WordBank
from modeling_lclipseg.heads_lclipseg import OPEN_GUIDANCES

Vocabulary = Literal["open", "baked"]

WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
# Of the example that the graph is traced with. A batch of one would be frozen into the graph, so would equal sides.
EXAMPLE_SHAPE = (2, 3, 96, 160)


def export_network(model: LClipSegForSemanticSegmentation, vocabulary: Vocabulary) -> onnx.ModelProto:
    """
    The network as a graph.

    Args:
        model ([`LClipSegForSemanticSegmentation`]): in eval mode, on the CPU; it is not changed.
        vocabulary (`str`): `"open"`: the class embeddings are an input. `"baked"`: the model's own are in the graph.

    Returns:
        `onnx.ModelProto`: input `pixel_values` (batch, 3, height, width), float32, and for an open vocabulary
        `class_embeddings` (num_classes, class_embed_dim), float32, as the model's `forward` takes them; output
        `logits` (batch, num_classes, height / 4, width / 4), rounded up. Every side but 3 and class_embed_dim is free.

    Raises:
        [`InputError`]: a vocabulary that the model cannot have, or a model without class embeddings.
    """
    _check_vocabulary(model, vocabulary)
    inputs = {PIXEL_VALUES: torch.zeros(EXAMPLE_SHAPE)}
    free: dict[str, dict[int, Any]] = {PIXEL_VALUES: {0: "batch", 2: "height", 3: "width"}}
    if vocabulary == "open":
        inputs[CLASS_EMBEDDINGS] = torch.eye(3, model.config.class_embed_dim)
        free[CLASS_EMBEDDINGS] = {0: "num_classes"}
    with traced_for_onnx(), torch.no_grad():
        program = torch.onnx.export(
            model,
            kwargs=inputs,
            input_names=list(inputs),
            output_names=[LOGITS],
            dynamic_shapes=free,
            opset_version=LOWEST_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # a megabyte of stack traces
    network = onnx_ir.to_proto(program.model)
    for axis, name in ((2, "logits_height"), (3, "logits_width")):  # instead of a formula
        network.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    return network


def _check_vocabulary(model: LClipSegForSemanticSegmentation, vocabulary: Vocabulary) -> None:
    guidance = model.config.guidance
    if vocabulary == "open" and not model.open_vocabulary:
        raise InputError(
            f"--vocabulary open: guidance={guidance!r} is bound to the classes it was trained on; give "
            f"--vocabulary baked, or a checkpoint with guidance={OPEN_GUIDANCES}"
        )
    check_has_classes(model)


def check_out(folder: Path) -> None:
    """
    Refuse a place where an export would spoil something: its config.json and its class embeddings are not those that a
    checkpoint's weights need.

    Raises:
        [`InputError`]: `folder` is a file, or holds weights that are not an earlier export's.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder} is a file; give a folder")
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    weights = [path.name for path in files if path.suffix in WEIGHT_SUFFIXES and path.name != BANK_FILE]
    if weights:
        raise InputError(
            f"--out {folder} holds weights ({', '.join(weights[:3])}), whose config.json the export would replace; "
            f"give a folder of its own, for example {folder / 'onnx'}"
        )


def write_export(
    folder: Path,
    graph: onnx.ModelProto,
    model: LClipSegForSemanticSegmentation,
    image_processor: Any,
    record: ExportRecord,
) -> None:
    """Write the exported folder, over what an earlier export left there."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, folder / MODEL_FILE)
    model.config.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    if record.vocabulary == "open":
        config = model.config
        bank = WordBank(
            tuple(config.class_names),
            model.class_embeddings,
            config.text_model_name_or_path,
            tuple(config.prompt_templates),
        )
        bank.save(folder / BANK_FILE)
        tensors = {**load_file(folder / BANK_FILE), CLASS_CENTER: model.class_center}
        if model.trained_embeddings is not None:
            tensors[TRAINED_EMBEDDINGS] = model.trained_embeddings
        save_file(tensors, folder / BANK_FILE)
    else:
        (folder / BANK_FILE).unlink(missing_ok=True)
        (folder / BANK_NAMES_FILE).unlink(missing_ok=True)
    record.save(folder)
    for file in (MODEL_FILE, BANK_FILE):  # which their libraries write for nobody else to read
        if (folder / file).exists():
            (folder / file).chmod((folder / EXPORT_FILE).stat().st_mode)


def described(values: Any) -> dict[str, dict[str, Any]]:
    """Inputs or outputs of a graph: name to type and shape."""
    return {
        value.name: {
            "type": onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
            "shape": [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim],
        }
        for value in values
    }


__all__ = ["Vocabulary", "check_out", "described", "export_network", "write_export"]
