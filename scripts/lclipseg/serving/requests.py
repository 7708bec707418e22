"""From a request to its answer, without what is between: a server has the network run over many requests together."""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lclipseg.console.torch_free import check_class_names, class_segments, fold_name, open_image, to_rgb_image
from lclipseg.endpoint.handler import encode_segments, read_request
from lclipseg.networks.folders import exported_folder
from lclipseg.serving.batcher import Job

REMEMBERED_LABEL_LISTS = 64


@dataclass(frozen=True)
class Prepared:
    """
    A request that is ready for the network.

    Args:
        job ([`Job`]): Its image at the network's size, and its classes.
        size (`tuple[int, int]`): Height and width of the upright image in pixels.
        threshold (`float`): The lowest score of a segment, 0 to 1.
    """

    job: Job
    size: tuple[int, int]
    threshold: float


class BadRequest(ValueError):
    """A request that cannot be met; the message is for whoever sent it."""


class Requests(ABC):
    """
    What the requests of one model have in common. Its methods may be called from several threads.

    Args:
        classes (sequence of `str`): Those of a request that names none.
        forward (`Callable[[Sequence[Job]], Sequence]`): The network; see [`Batcher`].
    """

    def __init__(self, classes: Sequence[str], forward: Callable[[Sequence[Job]], Sequence[Any]]):
        self.classes = list(classes)
        self.forward = forward
        self._vectors = functools.lru_cache(REMEMBERED_LABEL_LISTS)(self.find_vectors)

    def begin_worker(self) -> None:  # noqa: B027  most have nothing to do
        """Is called in every thread that decodes and encodes, before it begins."""

    @abstractmethod
    def pixel_values(self, image: Image.Image) -> Any:
        """An upright RGB image as the network takes it, (1, 3, height, width)."""

    @abstractmethod
    def find_vectors(self, labels: tuple[str, ...]) -> Any:
        """The class embeddings of a request's own classes, (K, D); a ValueError where they cannot be had."""

    @abstractmethod
    def confidence(self, logits: Any, size: tuple[int, int]) -> tuple[Any, Any]:
        """The class ids and how sure each is, two arrays of shape `size`, from the logits of one image."""

    def prepare(self, data: Any) -> Prepared:
        """
        Read a request, see scripts/endpoint/handler.py.

        Args:
            data (`Any`): `{"inputs": ..., "parameters": ...}`, or the bytes of a JSON document that holds this.

        Raises:
            BadRequest: a request that cannot be met.
        """
        try:
            opened, parameters = read_request(_parsed(data), open_image, len(self.classes))
            labels = parameters.get("candidate_labels")
            labels = None if labels is None else tuple(label.strip() for label in labels)
            vectors = None if labels is None else self._vectors(labels)
            image = to_rgb_image(opened)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        job = Job(self.pixel_values(image), labels, vectors)
        return Prepared(job, (image.height, image.width), parameters.get("threshold", 0.0))

    def answer(self, prepared: Prepared, logits: Any) -> bytes:
        """The answer to a request as JSON, from its logits."""
        ids, confidence = self.confidence(logits, prepared.size)
        labels = self.classes if prepared.job.labels is None else prepared.job.labels
        return json.dumps(encode_segments(class_segments(ids, confidence, labels, prepared.threshold))).encode()


def open_requests(
    model: str, revision: str | None = None, bank: str | None = None, text_tower: bool = False
) -> Requests:
    """
    Args:
        model (`str`): Folder of a checkpoint or an export, or OWNER/NAME on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of a model on the Hub.
        bank (`str`, *optional*): Word bank with vectors for `candidate_labels`.
        text_tower (`bool`, *optional*, defaults to `False`): Whether words without a vector are sent through the text
            tower that the checkpoint names. It is loaded here and not during a request.

    Raises:
        InputError: a model, a bank or a tower that cannot be used.
        ModuleNotFoundError: a checkpoint, and torch is not installed.
    """
    folder = exported_folder(model)
    if folder is not None:
        from lclipseg.serving.graph_requests import GraphRequests

        return GraphRequests(folder, bank, text_tower)
    from lclipseg.serving.checkpoint_requests import CheckpointRequests

    return CheckpointRequests(model, revision, bank, text_tower)


def check_known(labels: Sequence[str], known: Iterable[str]) -> None:
    """A ValueError for labels that are not among the words, folded, that a server has vectors of."""
    words = set(known)
    unknown = [name for name in check_class_names(labels) if fold_name(name) not in words]
    if unknown:
        raise ValueError(
            f"this server has no vector for {', '.join(map(repr, unknown[:5]))}; it knows the model's classes and "
            "the words of its bank"
        )


def _parsed(data: Any) -> Any:
    if not isinstance(data, bytes):
        return data
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None
