"""A checkpoint with the code that belongs to it: the installed package, or the files beside the weights on the Hub."""

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

PACKAGE = "modeling_lclipseg"
MODEL_TYPE = "lclipseg"


class Checkpoint:
    """
    A model in eval mode on the CPU, its image processor, and the functions of the package that both come from.

    Code from the model's repository is run only where the package is not installed.

    Args:
        source (`str`): folder of a checkpoint, or OWNER/NAME on the Hub.
        revision (`str`, *optional*): branch, tag or commit of the repository.

    Raises:
        OSError, ValueError: there is no such checkpoint, or it is another kind of model.
    """

    def __init__(self, source: str, revision: str | None = None):
        self.source = source
        self.revision = revision
        self._is_installed = find_spec(PACKAGE) is not None
        if self._is_installed:
            importlib.import_module(PACKAGE)  # registers the model with the Auto classes
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
        if config.get("model_type") != MODEL_TYPE:
            raise ValueError(f"{source} holds a model of type {config.get('model_type')!r}, not {MODEL_TYPE!r}")
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": not self._is_installed}
        self.model = AutoModelForSemanticSegmentation.from_pretrained(source, dtype=torch.float32, **options).eval()
        self.image_processor = AutoImageProcessor.from_pretrained(source, **options)

    def part(self, reference: str) -> Any:
        """A function or class of the package, by module and name: `"opening_lclipseg.open_image"`."""
        if not self._is_installed:
            return get_class_from_dynamic_module(reference, self.source, revision=self.revision)
        module, _, name = reference.partition(".")
        return getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
