"""What prediction and serving ask of a network, be it a checkpoint's model or an exported graph."""

from typing import Any, Protocol

import torch


class Segmenter(Protocol):
    """Gives logits for prepared images: a call takes `pixel_values`, and `class_embeddings` where it is open."""

    training: bool
    config: Any

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __call__(self, *args: Any, **inputs: Any) -> Any: ...

    def eval(self) -> Any: ...

    def fold(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...
