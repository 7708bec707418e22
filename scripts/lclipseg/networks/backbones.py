"""Pre-trained backbone weights, by name from the Hub or from a safetensors file: all of them, or an error."""

import logging
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoBackbone, PreTrainedModel

from lclipseg.console.errors import InputError
from lclipseg.console.hub import reach_hub
from lclipseg.networks.checkpoints import PICKLE_SUFFIXES

logger = logging.getLogger("lclipseg")

# Counters that training advances and inference never reads; published files often lack them.
COUNTER = "num_batches_tracked"


def load_backbone_weights(model: PreTrainedModel, source: str) -> None:
    """
    Load pre-trained weights into `model.backbone`.

    Args:
        model (`PreTrainedModel`): An LClipSeg model.
        source (`str`): A `.safetensors` file with the keys of the timm or transformers network, or a name on the Hub
            such as `"timm/mobilenetv3_large_100.ra_in1k"` or `"microsoft/resnet-50"`.

    Raises:
        [`InputError`]: no such file or name, a pickle, or weights that leave any part of the backbone unloaded.
    """
    path = Path(source)
    if path.suffix != ".safetensors" and (path.is_file() or path.suffix in PICKLE_SUFFIXES):
        raise InputError(f"{source}: only safetensors files are read (a pickle can run code); convert it first.")
    weights = _read(path) if path.suffix == ".safetensors" else _download(model, source)
    backbone = cast(PreTrainedModel, model.backbone)
    matched = _match(backbone.state_dict(), weights, source)
    backbone.load_state_dict(matched, strict=False)
    logger.info(f"backbone: {len(matched)} tensors from {source}, {len(weights) - len(matched)} in it not needed")


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a .safetensors file or a name on the Hub.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file: {error}") from error


def _download(model: PreTrainedModel, name: str) -> dict[str, torch.Tensor]:
    config = model.config.backbone_config
    reach_hub(name)
    try:
        if config.model_type == "timm_backbone":
            import timm

            arguments = {"out_indices": config.out_indices, **(model.config.backbone_kwargs or {})}
            tagged = name if "/" not in name else f"hf-hub:{name}"
            return timm.create_model(tagged, pretrained=True, features_only=True, **arguments).state_dict()
        # timm, too, takes a repository's safetensors first, and else reads what it has with `weights_only`.
        return AutoBackbone.from_pretrained(name, out_indices=config.out_indices, use_safetensors=True).state_dict()
    except Exception as error:  # every library on this path has its own errors for a missing name or network
        raise InputError(
            f"backbone weights {name!r} could not be loaded ({type(error).__name__}: {error}). Give a name on the Hub "
            "and a network, a .safetensors file, or 'none' to start from random weights."
        ) from error


def _match(target: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Give the file's tensors the backbone's names: without wrappers' prefixes, and with timm's flattened dots."""
    by_plain_name = {_plain(name): tensor for name, tensor in weights.items()}
    matched, missing = {}, []
    for name, tensor in target.items():
        found = by_plain_name.get(_plain(name))
        if found is not None:
            if found.shape != tensor.shape:
                raise InputError(
                    f"{source}: {name} has shape {tuple(found.shape)}, the backbone needs {tuple(tensor.shape)}; "
                    "these are the weights of another network."
                )
            matched[name] = found.to(tensor.dtype)
        elif not name.endswith(COUNTER):
            missing.append(name)
    if missing:
        raise InputError(
            f"{source} leaves {len(missing)} of the backbone's {len(target)} tensors unloaded, for example "
            f"{missing[0]!r}; the file holds for example {next(iter(weights), 'nothing')!r}. These are the weights of "
            "another network."
        )
    return matched


def _plain(name: str) -> str:
    for prefix in ("_backbone.", "backbone.", "model.", "resnet.", "swin.", "convnext."):
        name = name.removeprefix(prefix)
    return name.replace(".", "_")
