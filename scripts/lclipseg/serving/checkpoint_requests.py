"""Requests answered by a checkpoint, with torch."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.console.hub import reach_hub
from lclipseg.networks.checkpoints import check_has_classes, load_model
from lclipseg.networks.class_embeddings import everyday_words
from lclipseg.networks.segmenter import Segmenter
from lclipseg.serving.batcher import Job
from lclipseg.serving.requests import Requests, check_known
from modeling_lclipseg import LClipSegVocabulary, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name


class TorchPass:
    """
    One forward pass over the jobs of a batch; the logits of each, (1, K, h, w).

    Args:
        model ([`LClipSegForSemanticSegmentation`]): In eval mode.
    """

    def __init__(self, model: Segmenter):
        self.model = model
        self._threads = torch.get_num_threads()

    @torch.no_grad()  # not inference_mode: what a model caches here must stay usable elsewhere
    def __call__(self, jobs: Sequence[Job]) -> Sequence[torch.Tensor]:
        torch.set_num_threads(self._threads)  # every thread has a number of its own, and takes the last one set by any
        pixel_values = torch.cat([job.pixel_values for job in jobs]).to(self.model.device, self.model.dtype)
        vectors = jobs[0].class_embeddings
        given = {} if vectors is None else {"class_embeddings": vectors.to(self.model.device)}
        logits: torch.Tensor = self.model(pixel_values=pixel_values, **given).logits
        return logits.cpu().split(1)


class CheckpointRequests(Requests):
    """See [`Requests`] and [`open_requests`]."""

    def __init__(self, model: str, revision: str | None = None, bank: str | None = None, text_tower: bool = False):
        network, self.image_processor = load_model(model, revision)
        check_has_classes(network)
        self._bank = everyday_words(network) if bank is None else _load_bank(bank, network)
        if text_tower:
            reach_hub(network.config.text_model_name_or_path or "")
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
        super().__init__(network.config.class_names, TorchPass(network))

    def begin_worker(self) -> None:
        """One core for each worker: what they do is short, and the network has the others."""
        torch.set_num_threads(1)

    def pixel_values(self, image: Image.Image) -> torch.Tensor:
        return self.image_processor(images=[image], return_tensors="pt")["pixel_values"]

    def confidence(self, logits: torch.Tensor, size: tuple[int, int]) -> tuple[Any, Any]:
        ((ids, confidence),) = self.image_processor.post_process_confidence(Logits(logits), [size])
        return ids.numpy(), confidence.numpy()

    def find_vectors(self, labels: tuple[str, ...]) -> torch.Tensor:
        if self._known_words is not None and self.network.head.takes_text:
            check_known(labels, self._known_words)
        return self.network.find_class_embeddings(labels, self._bank)


@dataclass(frozen=True)
class Logits:
    """As much of a model's output as post-processing reads."""

    logits: torch.Tensor


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
