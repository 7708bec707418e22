"""Logits back to label maps of the original sizes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

from .label_map_lclipseg import LOGITS_STRIDE, NO_CLASS, label_map, sample_positions, with_least_score
from .sizing_lclipseg import Size, Sizing

# How many upsampled logits there may be at a time (64 MiB): those of 150 classes on a large photo would not fit.
MAX_UPSAMPLED_VALUES = 16 * 2**20


class SemanticPostProcessing:
    """What an image processor does with the output of the model; `sizing` says how it prepared the images."""

    @property
    def sizing(self) -> Sizing:
        """The rule for sizes."""
        raise NotImplementedError

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[Size] | torch.Tensor | None = None,
        return_segmentation_scores: bool = False,
        least_score: float | None = None,
    ) -> list[torch.Tensor] | list[SemanticSegmentationPostProcessorOutput]:
        """
        Label maps from the output of [`LClipSegForSemanticSegmentation`]. The padding is cut off and the rest brought
        to the target size, bilinearly and in one step. A pixel gets the class of the highest logit there; of several,
        the one of lowest index. No copy of the logits at full size is made (see label_map_lclipseg.py).

        Args:
            outputs ([`~transformers.modeling_outputs.SemanticSegmenterOutput`]): Output for a whole batch.
            target_sizes (sequence of `tuple[int, int]`, *optional*):
                Original height and width of every image of the batch. The processor derives from them how the batch
                was resized and padded. Where the batch is one photo and these are its sides before its EXIF
                orientation was applied, as PIL's `Image.open` tells them, the map is upright all the same. Without
                them the maps have the size of the logits, with the padding.
            return_segmentation_scores (`bool`, *optional*, defaults to `False`):
                Return the logits at the target size, too. They take 4 * num_classes bytes a pixel. The label map is
                then their argmax; without them, two classes that are equal up to rounding may change places.
            least_score (`float`, *optional*):
                Pixels whose highest logit is lower are none of the classes, and get the id -1.

        Returns:
            `list[torch.Tensor]`: for each image the class ids, of shape `(height, width)`, int64; or, with scores, a
            list of [`SemanticSegmentationPostProcessorOutput`] with `segmentation` and `segmentation_scores` (of shape
            `(num_classes, height, width)`).

        Raises:
            ValueError: another number of sizes than of images, or logits that do not belong to such a batch (images
                prepared with other settings, or a part of a batch).
        """
        num_classes = outputs.logits.shape[1]
        logits = outputs.logits if least_score is None else with_least_score(outputs.logits, least_score)
        if target_sizes is None:
            scores = list(logits)
        else:
            jobs = self._upsampling_jobs(logits, target_sizes)
            if not return_segmentation_scores:
                return [_without_rest(label_map(*job), num_classes) for job in jobs]
            scores = [torch.cat(list(_upsampled_rows(*job)), dim=1) for job in jobs]
        segmented = [_without_rest(one.max(dim=0).indices, num_classes) for one in scores]
        if not return_segmentation_scores:
            return segmented
        return [
            SemanticSegmentationPostProcessorOutput(
                data={"segmentation": ids, "segmentation_scores": one[:num_classes]}
            )
            for ids, one in zip(segmented, scores, strict=True)
        ]

    def post_process_confidence(
        self, outputs: Any, target_sizes: Sequence[Size] | torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """
        The label maps of [`post_process_semantic_segmentation`] and how sure the model is at every pixel, a few
        rows at a time: no copy of the logits at full size is made.

        Args:
            outputs ([`~transformers.modeling_outputs.SemanticSegmenterOutput`]): Output for a whole batch.
            target_sizes (sequence of `tuple[int, int]`): Original height and width of every image of the batch.

        Returns:
            `list[tuple[torch.Tensor, torch.Tensor]]`: for each image the class ids, int64, and the probability of that
            class (softmax over the classes), float32; both of shape `(height, width)`.

        Raises:
            ValueError: see [`post_process_semantic_segmentation`].
        """
        results = []
        for job in self._upsampling_jobs(outputs.logits, target_sizes):
            best = [(rows.max(dim=0), rows.logsumexp(dim=0)) for rows in _upsampled_rows(*job)]
            ids = torch.cat([highest.indices for highest, _ in best])
            results.append((ids, torch.cat([(highest.values - total).exp() for highest, total in best])))
        return results

    def _upsampling_jobs(
        self, logits: torch.Tensor, target_sizes: Sequence[Size] | torch.Tensor
    ) -> list[tuple[torch.Tensor, Size, Size]]:
        """For every image its logits (K, h, w), its size inside the padded batch, and the size asked for."""
        targets = [(int(height), int(width)) for height, width in target_sizes]
        if len(targets) == len(logits) == 1 and not self._fits(logits, targets):
            upright = [targets[0][::-1]]
            targets = upright if self._fits(logits, upright) else targets
        return list(zip(logits, self._images(logits, targets), targets, strict=True))

    def _fits(self, logits: torch.Tensor, targets: list[Size]) -> bool:
        return self._logits_size(targets) == tuple(logits.shape[-2:])

    def _logits_size(self, targets: list[Size]) -> Size:
        """Height and width of the logits of a batch of images of these sizes."""
        height, width = self.sizing.padded([self.sizing.resized(*target) for target in targets])
        return math.ceil(height / LOGITS_STRIDE), math.ceil(width / LOGITS_STRIDE)

    def _images(self, logits: torch.Tensor, targets: list[Size]) -> list[Size]:
        """The size that each image had inside the padded batch, checked against the logits (B, K, h, w)."""
        if not targets or len(targets) != len(logits):
            raise ValueError(
                f"There are logits for {len(logits)} images but {len(targets)} target sizes; give (height, width) for "
                "each image of the batch."
            )
        if not self._fits(logits, targets):
            raise ValueError(
                f"Images of height and width {targets} become logits of {self._logits_size(targets)} in this "
                f"processor, but these logits have {tuple(logits.shape[-2:])}. Give the original sizes of the whole "
                "batch (of photos turned by EXIF: of `ImageOps.exif_transpose(image)`), and post-process with the "
                "settings (size, do_resize, do_pad, pad_size) that prepared it."
            )
        return [self.sizing.resized(height, width) for height, width in targets]


def _without_rest(ids: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Ids behind the classes are none of them."""
    return ids.masked_fill_(ids >= num_classes, NO_CLASS)


def _upsampled_rows(logits: torch.Tensor, image: Size, target: Size) -> Iterator[torch.Tensor]:
    """The image's part of the logits (K, h, w) at the target size: (K, rows, W) for some rows after the other."""
    rows, columns = (
        (sample_positions(length, side, cells, logits.device) + 0.5) * (2 / cells) - 1  # grid_sample's are in [-1, 1]
        for length, side, cells in zip(target, image, logits.shape[-2:], strict=True)
    )
    for some in rows.split(max(1, MAX_UPSAMPLED_VALUES // (len(logits) * target[1]))):
        grid = torch.stack(torch.meshgrid(columns, some, indexing="xy"), dim=-1)[None]  # (1, rows, W, 2)
        yield F.grid_sample(logits[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False)[0]


__all__ = ["SemanticPostProcessing"]
