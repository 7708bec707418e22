"""Logits like those of a trained network, for timing what is done with them: how fast a label map is made depends on
how much of it lies at borders between classes, and random logits are all border."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from lclipseg.networks.checkpoints import load_model


@dataclass(frozen=True)
class RealisticLogits:
    """
    The logits of a trained checkpoint for one image.

    Args:
        logits (`torch.Tensor` of shape `(num_classes, height / 4, width / 4)`): See there.
    """

    logits: torch.Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, checkpoint: str, image: Image.Image) -> "RealisticLogits":
        """The image is segmented at its own size."""
        model, image_processor = load_model(checkpoint)
        inputs = image_processor(images=image, do_resize=False, return_tensors="pt")
        return cls(model(**inputs).logits[0])

    def like(self, logits: torch.Tensor) -> torch.Tensor:
        """
        For logits (1, K, h, w) of any size: the trained classes', and for the rest values below all of theirs, as the
        many classes have that are not in an image.
        """
        others: Any = max(0, logits.shape[1] - len(self.logits))
        absent = self.logits.min(dim=0, keepdim=True).values - torch.rand(others, *self.logits.shape[1:])
        many = torch.cat([self.logits, absent])[: logits.shape[1]]
        resized = F.interpolate(many[None], size=logits.shape[-2:], mode="bilinear", align_corners=False)
        return resized.to(logits.device, logits.dtype)

    @property
    def unsettled_share(self) -> float:
        """Share of the cells between four logits whose corners do not all have one best class."""
        best = self.logits.argmax(dim=0)
        corners = torch.stack([best[:-1, :-1], best[1:, :-1], best[:-1, 1:], best[1:, 1:]])
        return (corners != corners[0]).any(dim=0).float().mean().item()
