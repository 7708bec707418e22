"""From a request to its answer, without what is between: a server has the network run over many requests together."""

import contextlib
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lclipseg.console.errors import InputError
from lclipseg.endpoint.handler import encode_segments, read_request
from lclipseg.networks.checkpoints import check_has_classes, load_model
from lclipseg.networks.class_embeddings import everyday_words
from lclipseg.serving.batcher import Job
from modeling_lclipseg import LClipSegVocabulary, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names, fold_name
from modeling_lclipseg.inputs_lclipseg import open_image, to_rgb_image
from modeling_lclipseg.pipeline_lclipseg import LClipSegPipeline

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


class RequestSegmenter:
    """
    What the requests of one model have in common. Its methods may be called from several threads.

    Args:
        model (`str`): Folder of a checkpoint, or OWNER/NAME on the Hub.
        revision (`str`, *optional*): Branch, tag or commit of a model on the Hub.
        bank (`str`, *optional*): Word bank with vectors for `candidate_labels`.
        text_tower (`bool`, *optional*, defaults to `False`): Whether words without a vector are sent through the text
            tower that the checkpoint names. It is loaded here and not during a request.

    Raises:
        InputError: a model, a bank or a tower that cannot be used.
    """

    def __init__(self, model: str, revision: str | None = None, bank: str | None = None, text_tower: bool = False):
        network, self.image_processor = load_model(model, revision)
        check_has_classes(network)
        self._bank = everyday_words(network) if bank is None else _load_bank(bank, network)
        if text_tower:
            _named("--text_tower true", lambda: network.find_class_embeddings(["a word"]))
        else:
            network.drop_text_model()  # which the checkpoint may hold
            network.config.text_model_name_or_path = None
        self._known_words = None
        if not text_tower:
            trained = network.trained_classes()[0] if network.open_vocabulary else ()
            words = () if self._bank is None else self._bank.names
            self._known_words = {fold_name(word) for word in (*network.config.class_names, *trained, *words)}
        with contextlib.suppress(ValueError):  # an unusual backbone is served as it is
            network = network.fold()
        if torch.cuda.is_available():
            network = network.to("cuda")
        self.network: Any = network
        self._pipeline = LClipSegPipeline(model=network, image_processor=self.image_processor)
        self._vectors = functools.lru_cache(REMEMBERED_LABEL_LISTS)(self._find_vectors)

    @property
    def classes(self) -> list[str]:
        """The classes of a request that names none."""
        return list(self.network.config.class_names)

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
        pixel_values = self.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        job = Job(pixel_values, labels, vectors)
        return Prepared(job, (image.height, image.width), parameters.get("threshold", 0.0))

    def answer(self, prepared: Prepared, logits: torch.Tensor) -> bytes:
        """The answer to a request as JSON, from its logits (1, K, h, w)."""
        ((ids, confidence),) = self.image_processor.post_process_confidence(Logits(logits), [prepared.size])
        segments = self._pipeline.postprocess(
            {"ids": [ids], "confidence": [confidence]}, labels=prepared.job.labels, threshold=prepared.threshold
        )
        return json.dumps(encode_segments(segments)).encode()

    def _find_vectors(self, labels: tuple[str, ...]) -> torch.Tensor:
        known = self._known_words
        unknown = [] if known is None else [name for name in check_class_names(labels) if fold_name(name) not in known]
        if unknown and self.network.head.takes_text:
            raise ValueError(
                f"this server has no vector for {', '.join(map(repr, unknown[:5]))}; it knows the model's classes and "
                "the words of its bank"
            )
        return self.network.find_class_embeddings(labels, self._bank)


@dataclass(frozen=True)
class Logits:
    """As much of a model's output as post-processing reads."""

    logits: torch.Tensor


def _parsed(data: Any) -> Any:
    if not isinstance(data, bytes):
        return data
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None


def _load_bank(bank: str, model: LClipSegVocabulary) -> WordBank:
    """The bank, once it is clear that it is of the model's text tower."""

    def load() -> WordBank:
        words = WordBank.load(bank)
        model.find_class_embeddings(words.names[:1], words)
        return words

    return _named(f"--bank {bank}", load)


def _named(option: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ValueError as error:
        raise InputError(f"{option}: {error}") from error
