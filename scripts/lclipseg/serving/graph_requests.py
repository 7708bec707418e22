"""Requests answered by an exported graph, without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.networks.onnx_words import load_bank
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.serving.batcher import Job
from lclipseg.serving.requests import Requests, check_known


class GraphRequests(Requests):
    """
    See [`Requests`].

    Args:
        folder (`Path`): An exported folder.
        bank (`str`, *optional*): Word bank with vectors for `candidate_labels`.
        text_tower (`bool`): As in [`open_requests`], which an export has none of.

    Raises:
        InputError: a graph that gives label maps without probabilities, a tower, or a bank that cannot be used.
    """

    def __init__(self, folder: Path, bank: str | None = None, text_tower: bool = False):
        if text_tower:
            raise InputError(
                f"--text_tower true: {folder} is an export, which has none; give --bank, or serve the checkpoint"
            )
        self._segmenter = GraphSegmenter(folder)
        graph = self._segmenter.graph
        if graph.record.label_map:
            raise InputError(
                f"{folder} gives label maps, without the probabilities that an answer has; export the checkpoint "
                "without --label_map"
            )
        if bank is not None and graph.words is None:
            raise InputError(f"--bank {bank}: {folder} has its classes baked in and takes no others; leave --bank out")
        self._words, self._bank = graph.words, None
        if self._words is not None:
            try:
                self._bank = self._words.everyday() if bank is None else load_bank(bank)
                if bank is not None and self._bank is not None:
                    self._words.find(self._bank.words[:1], self._bank)
            except ValueError as error:
                raise InputError(f"--bank {bank}: {error}") from error
        super().__init__(graph.class_names, self._run)

    def pixel_values(self, image: Image.Image) -> np.ndarray:
        return self._segmenter.image_processor(image)

    def find_vectors(self, labels: tuple[str, ...]) -> np.ndarray:
        if self._words is None:
            raise ValueError(f"this model has its {len(self.classes)} classes baked in; leave `candidate_labels` out")
        check_known(labels, self._words.known(self._bank))
        return self._words.find(labels, self._bank)

    def confidence(self, logits: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        return self._segmenter.image_processor.confidence(logits, size)

    def _run(self, jobs: Sequence[Job]) -> list[np.ndarray]:
        """The logits of each, (K, h, w)."""
        pixel_values = np.concatenate([job.pixel_values for job in jobs])
        return list(self._segmenter.graph.run(pixel_values, jobs[0].class_embeddings))


__all__ = ["GraphRequests"]
