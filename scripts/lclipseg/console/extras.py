"""Libraries that are not installed with everything, and the line that installs each."""

from importlib.util import find_spec

EXTRAS = {
    "torch": ("huggingface_hub", "timm", "torch", "torchvision", "transformers"),
    "onnx": ("onnxruntime",),
    "export": ("onnx", "onnx_ir", "onnxscript"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "train": ("accelerate", "datasets", "jinja2", "tensorboard"),
    "import": ("pycocotools", "defusedxml"),
    "report": ("matplotlib", "scipy"),
    "video": ("cv2",),
}


def require(*libraries: str) -> None:
    """
    See at once whether a command has what it needs, rather than after seconds of importing other libraries.

    Raises:
        ModuleNotFoundError: one of `libraries` is not installed.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)


def missing_library(needed_by: str, module: str | None) -> str | None:
    """
    What to tell a user for whom an import failed.

    Args:
        needed_by (`str`): What cannot go on without the library.
        module (`str`, *optional*): The module that was not found, as a `ModuleNotFoundError` names it.

    Returns:
        `str`: one line with the command that installs the library; `None` for one that no extra has.
    """
    library = (module or "").partition(".")[0]
    for extra, libraries in EXTRAS.items():
        if library in libraries:
            return f'{needed_by} needs the library {library}, which is not installed: pip install "lclipseg[{extra}]"'
    return None
