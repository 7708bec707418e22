"""The last steps of a graph: one version of the operators, checked, and what it is written into it."""

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import yaml
from onnx import version_converter


def finished(graph: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """
    The graph with one import of every set of operators that it uses, in the version asked for, checked by onnx.

    Args:
        graph (`onnx.ModelProto`): As the exporter, the quantiser and `merge_models` leave it: with the same import
            several times, and imports of which nothing is used.
        opset (`int`): Version of ONNX's own operators.
    """
    used = {node.domain for node in _nodes(graph.graph)}
    imports = {one.domain: one for one in graph.opset_import if one.domain in used}
    del graph.opset_import[:]
    graph.opset_import.extend(imports.values())
    if imports[""].version != opset:
        graph = version_converter.convert_version(graph, opset)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def describe(graph: onnx.ModelProto, config: Any, image_processor: Any, model: str, licence: str | None) -> None:
    """
    Name a graph after its checkpoint, and write into its metadata, as texts, what is needed to use it without the
    files beside it.

    Args:
        graph (`onnx.ModelProto`): Is changed.
        config ([`LClipSegConfig`]): For the classes, and how their words became vectors.
        image_processor ([`LClipSegImageProcessor`]): For sizes, mean and standard deviation.
        model (`str`): The checkpoint.
        licence (`str`, *optional*): Of its weights.
    """
    graph.producer_name = "lclipseg"
    graph.graph.name = model
    try:
        graph.producer_version = version("lclipseg")
    except PackageNotFoundError:  # the project itself, used from a checkout
        graph.producer_version = ""
    values = {
        "classes": config.class_names,
        "text_model": config.text_model_name_or_path,
        "prompt_templates": config.prompt_templates,
        "model": model,
        "license": licence,
    }
    for name in ("size", "pad_size_divisor", "rescale_factor", "image_mean", "image_std"):
        values[name] = getattr(image_processor, name)
    texts = {name: _text(value) for name, value in values.items() if value}
    del graph.metadata_props[:]  # notes of the quantiser
    onnx.helper.set_model_props(graph, texts)


def licence_beside(model: str) -> str | None:
    """The licence that the card of a checkpoint states, where its folder has one."""
    card = Path(model).expanduser() / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    if not text.startswith("---\n"):
        return None
    try:
        head = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    stated = head.get("license") if isinstance(head, dict) else None
    return str(stated) if stated else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=dict)  # sizes


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of graphs inside of nodes too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


__all__ = ["describe", "finished", "licence_beside"]
