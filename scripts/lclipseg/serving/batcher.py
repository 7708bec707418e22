"""Requests that wait together go through the network together, in one thread of its own.

Only images of one padded size and of the same classes share a pass, so that nothing is padded for a neighbour's
sake: a network that pools over the image sees its padding, too. What is left is the order in which a larger batch
adds up its products, which moves a logit in its last digits; with `max_batch` 1 not even that.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("lclipseg")


@dataclass(eq=False)
class Job:
    """
    One image that waits for its pass.

    Args:
        pixel_values (tensor or array of shape `(1, 3, height, width)`): As the image processor gives it, padded.
        labels (`tuple[str, ...]`, *optional*): Its classes; `None` are the model's own.
        class_embeddings (tensor or array of shape `(num_classes, class_embed_dim)`, *optional*): Their vectors.
        logits (`Future`): Will have the logits, of shape `(1, num_classes, height / 4, width / 4)`. To cancel it
            before the pass has begun takes the job out.
    """

    pixel_values: Any
    labels: tuple[str, ...] | None = None
    class_embeddings: Any = None
    logits: "Future[Any]" = field(default_factory=Future)

    def fits(self, other: "Job") -> bool:
        """Whether both can share a pass."""
        return self.labels == other.labels and self.pixel_values.shape == other.pixel_values.shape


class Batcher:
    """
    Runs the network over jobs, in batches of whatever waits when it becomes free; no job waits for company.

    Args:
        forward (`Callable[[Sequence[Job]], Sequence]`): The network: from jobs that fit each other to the logits of
            each.
        max_batch (`int`): The most images of one pass.
        observe (`Callable[[int], None]`, *optional*): Is told the size of every batch.
    """

    def __init__(
        self,
        forward: Callable[[Sequence[Job]], Sequence[Any]],
        max_batch: int,
        observe: Callable[[int], None] = lambda size: None,
    ):
        self.forward = forward
        self.max_batch = max_batch
        self.observe = observe
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether jobs are worked on."""
        return self._thread.is_alive() and not self._closing

    def submit(self, job: Job) -> "Future[Any]":
        """Put a job at the end of the queue; its `logits`."""
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.logits

    def close(self) -> None:
        """Finish all jobs that were submitted, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self.observe(len(batch))
            self._run(batch)

    def _next_batch(self) -> list[Job]:
        """The oldest job and those that fit it, all begun; empty at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return []
                batch: list[Job] = []
                left: deque[Job] = deque()
                for job in self._waiting:
                    if batch and (len(batch) == self.max_batch or not job.fits(batch[0])):
                        left.append(job)
                    elif job.logits.set_running_or_notify_cancel():
                        batch.append(job)
                self._waiting = left
                if batch:
                    return batch

    def _run(self, batch: Sequence[Job]) -> None:
        try:
            logits = self.forward(batch)
        except Exception as error:
            logger.exception("a batch of %d images failed", len(batch))
            for job in batch:
                job.logits.set_exception(error)
            return
        for job, one in zip(batch, logits, strict=True):
            job.logits.set_result(one)
