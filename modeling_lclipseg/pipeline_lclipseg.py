"""`pipeline("image-segmentation")` for LClipSeg: the built-in one, with classes of the caller's choice, and scores."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import ImageSegmentationPipeline

from .inputs_lclipseg import to_rgb_image
from .opening_lclipseg import open_url
from .visualization_lclipseg import class_segments
from .word_bank_lclipseg import WordBank


class LClipSegPipeline(ImageSegmentationPipeline):
    """
    Semantic segmentation of images into the checkpoint's own classes, or into `candidate_labels`.

    ```python
    >>> segmenter = pipeline(model="org/lclipseg-mbv3", trust_remote_code=True)
    >>> segmenter("street.jpg")
    [{"score": 0.98, "label": "sky", "mask": <PIL.Image.Image>}, ...]
    >>> segmenter("street.jpg", candidate_labels=["road", "kerb", "anything green"])
    ```

    Called with one image (path, URL or PIL image) it gives a list of segments, with a list of images (and
    `batch_size=`) a list of such lists. A segment is what the built-in pipeline gives: `label`; `mask`, a PIL image of
    mode L and the size of the image, 255 where the class is and 0 elsewhere; `score`, the mean probability of the
    class over its pixels, 0 to 1. Classes without a pixel are left out.

    Images that share a batch are padded to the largest one, and the network sees the padding: put those of one size
    together, or leave `batch_size` at 1.

    Args of a call, or of `pipeline(...)` for all calls:
        candidate_labels (`list[str]`, *optional*): Classes instead of the checkpoint's own; every pixel gets one of
            them, so name what else is in the image, too. Without `class_embeddings`, their vectors come from the
            first of these that has the word: `word_bank`, the checkpoint, the text tower that the checkpoint names.
        class_embeddings (`torch.Tensor` of shape `(num_classes, class_embed_dim)`, *optional*): CLIP text vectors of
            the `candidate_labels`.
        word_bank (`str` or [`WordBank`], *optional*): Vectors of further words.
        threshold (`float`, *optional*, defaults to 0): Leave out segments of a lower score.
        timeout (`float`, *optional*): Seconds to wait for an image from the web.

    Raises:
        ValueError: bad labels or vectors, a label without a vector, or an image that cannot be used.
    """

    image_processor: Any  # in the built-in pipelines one of many kinds, or None
    model: Any
    tokenizer: Any

    def check_model_type(self, supported_models: Any) -> None:
        """The built-in check knows transformers' own models by name and would call this one unsupported."""

    def _sanitize_parameters(  # type: ignore[override]
        self,
        candidate_labels: Sequence[str] | None = None,
        class_embeddings: torch.Tensor | None = None,
        word_bank: str | WordBank | None = None,
        threshold: float | None = None,
        timeout: float | None = None,
        subtask: str | None = None,
    ) -> tuple[dict, dict, dict]:
        self.model.check_names()
        if subtask not in (None, "semantic"):
            raise ValueError(f"`subtask` is {subtask!r}, but this model gives semantic maps only; leave it out.")
        if candidate_labels is None and (class_embeddings is not None or word_bank is not None):
            raise ValueError("`class_embeddings` and `word_bank` give vectors to `candidate_labels`; name these, too.")
        preprocess: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        postprocess: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
        forward: dict[str, Any] = {}
        if candidate_labels is not None:
            if isinstance(candidate_labels, str):  # as the zero-shot pipelines take them
                candidate_labels = candidate_labels.split(",")
            labels = [label.strip() if isinstance(label, str) else label for label in candidate_labels]
            forward["class_embeddings"] = self._vectors(labels, class_embeddings, word_bank)
            postprocess["labels"] = labels
        return preprocess, forward, postprocess

    def _vectors(
        self, labels: list[str], class_embeddings: torch.Tensor | None, word_bank: str | WordBank | None
    ) -> torch.Tensor:
        if class_embeddings is not None:
            return self.model.find_class_embeddings(labels, class_embeddings)
        return self.model.find_class_embeddings(labels, word_bank, tokenizer=self.tokenizer)

    def preprocess(self, image: Any, timeout: float | None = None) -> dict[str, Any]:  # type: ignore[override]
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            image = open_url(image) if timeout is None else open_url(image, timeout)
        return {"image": to_rgb_image(self.image_processor.fetch_images(image))}

    def _forward(  # type: ignore[override]
        self, model_inputs: Any, class_embeddings: torch.Tensor | None = None
    ) -> dict[str, list[torch.Tensor]]:
        # Images of a batch are brought to one size here and not in `preprocess`, which sees them one at a time.
        images = model_inputs["image"] if isinstance(model_inputs["image"], list) else [model_inputs["image"]]
        inputs = self.image_processor(images, return_tensors="pt").to(self.device, self.dtype)
        if class_embeddings is not None:
            inputs["class_embeddings"] = class_embeddings.to(self.device)
        sizes = [(image.height, image.width) for image in images]
        maps = self.image_processor.post_process_confidence(self.model(**inputs), sizes)
        return {"ids": [ids for ids, _ in maps], "confidence": [confidence for _, confidence in maps]}

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, labels: Sequence[str] | None = None, threshold: float = 0.0
    ) -> list[dict[str, Any]]:
        labels = self.model.config.class_names if labels is None else labels
        ids, confidence = model_outputs["ids"][0], model_outputs["confidence"][0]  # the one image's
        return class_segments(ids.numpy(), confidence.numpy(), labels, threshold)


__all__ = ["LClipSegPipeline"]
