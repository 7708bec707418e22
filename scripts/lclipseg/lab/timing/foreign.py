"""Other makers' runtimes: how a network becomes their file, and how they run it on one thread of the CPU."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lclipseg.networks.onnx_graph import open_session

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """
    One of them.

    Args:
        packages (`dict[str, str]`): What is installed, the runtime first, and the module by which each is found.
        open (`Callable`): From its file to what gives the output for inputs by name.
        file (`str`): How the file is called; "" where it reads our export.
        convert (`Callable`, *optional*): From a network and an example (1, 3, H, W) to its file.
    """

    packages: Mapping[str, str]
    open: Callable[[Path], Run]
    file: str = ""
    convert: Callable[[torch.nn.Module, torch.Tensor, Path], Any] | None = None

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package, module in self.packages.items() if find_spec(module) is None]

    @property
    def version(self) -> str:
        package = next(iter(self.packages))
        return f"{package} {version(package).partition('-')[0]}"


def _onnx_runtime(file: Path) -> Run:
    session = open_session(file, threads=1)
    return lambda feed: session.run(None, dict(feed))[0]


def _openvino(file: Path) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    return lambda feed: compiled(dict(feed))[0]


def _litert(file: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(feed: Mapping[str, np.ndarray]) -> np.ndarray:
        interpreter.set_tensor(given["index"], feed["pixel_values"])
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])

    return run


def _to_litert(network: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    import litert_torch

    litert_torch.convert(network, (example,)).export(str(file))


def _to_litert_int8(network: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    """Weights in int8; what is computed is quantised as it runs. With static ranges fewer classes stay the same."""
    from ai_edge_quantizer import quantizer, recipe

    in_float = file.with_name(LITERT.file)
    if not in_float.exists():
        _to_litert(network, example, in_float)
    quantizer.Quantizer(str(in_float), recipe.dynamic_wi8_afp32()).quantize().export_model(file)


def _ncnn(file: Path) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(str(file.with_suffix(".param")))
    net.load_model(str(file))

    def run(feed: Mapping[str, np.ndarray]) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(np.ascontiguousarray(feed["pixel_values"][0])).clone())
        return np.array(extractor.extract("out0")[1])[None]

    return run


def _to_ncnn(network: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    import pnnx

    pnnx.export(network, str(file).replace(".ncnn.bin", ".pt"), (example,), fp16=False)


def _executorch(file: Path) -> Run:
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime as ExecuTorch

    _unsafe_reset_threadpool(1)
    method = ExecuTorch.get().load_program(file).load_method("forward")
    assert method is not None
    return lambda feed: method.execute([torch.from_numpy(feed["pixel_values"])])[0].numpy()


def _to_executorch(network: torch.nn.Module, example: torch.Tensor, file: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(network, (example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    file.write_bytes(lowered.to_executorch().buffer)


ONNX_RUNTIME = Runtime({"onnxruntime": "onnxruntime"}, _onnx_runtime)
OPENVINO = Runtime({"openvino": "openvino"}, _openvino)
_LITERT = {"ai-edge-litert": "ai_edge_litert", "litert-torch": "litert_torch"}
LITERT = Runtime(_LITERT, _litert, "model.tflite", _to_litert)
CONVERTED = {
    "LiteRT": LITERT,
    "LiteRT, int8 weights": Runtime(
        {**_LITERT, "ai-edge-quantizer": "ai_edge_quantizer"}, _litert, "model_int8.tflite", _to_litert_int8
    ),
    "ncnn": Runtime({"ncnn": "ncnn", "pnnx": "pnnx"}, _ncnn, "model.ncnn.bin", _to_ncnn),
    "ExecuTorch, XNNPACK": Runtime(
        {"executorch": "executorch", "torchao": "torchao"}, _executorch, "model.pte", _to_executorch
    ),
}

__all__ = ["CONVERTED", "ONNX_RUNTIME", "OPENVINO", "Runtime"]
