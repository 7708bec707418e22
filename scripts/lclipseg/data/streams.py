"""Training from a table that is too large to download or to keep open: its rows come one after the other.

The main process reads rows, still encoded, and shares them out; worker processes decode and augment. What a run sees
thus does not depend on their number, and memory holds the window of the shuffling and the batches under way.
"""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from torchvision.transforms import v2

from lclipseg.console.errors import InputError
from lclipseg.data.labelled import UnreadableError
from lclipseg.data.samples import Samples, mix
from lclipseg.data.tables import StreamedData


class StreamedSamples(Samples):
    """
    Samples of a stream that begins again, shuffled anew, when it ends. Every row of an epoch goes to one process.

    Args:
        data ([`StreamedData`]): The rows.
        transform, seed: see [`Samples`].
        images_per_epoch (`int`, *optional*): How many rows there are, where the data do not say it themselves.
    """

    def __init__(self, data: StreamedData, transform: v2.Transform, seed: int, images_per_epoch: int | None = None):
        super().__init__(transform, seed)
        self.data = data
        self._images_per_epoch = images_per_epoch or data.num_rows
        self.epoch_lengths: list[int] = []  # of the epochs that this process has read to their end

    @property
    def images_per_epoch(self) -> int | None:
        return self._images_per_epoch

    def state(self) -> dict[str, Any]:
        return {"epoch_lengths": self.epoch_lengths}

    def load_state(self, state: dict[str, Any]) -> None:
        self.epoch_lengths = list(state["epoch_lengths"])

    def batches(self, size: int, start: int, process: int, num_processes: int) -> Iterator[list[tuple[int, dict]]]:
        rows = enumerate(self._rows(start * size, process, num_processes), start * size)
        keys = ((number * num_processes + process, row) for number, row in rows)
        while batch := list(islice(keys, size)):
            yield batch

    def __getitem__(self, key: tuple[int, dict]) -> dict[str, Any]:
        position, row = key
        try:
            sample = self.data.read(row, f"{self.data.split} row {position}")
        except UnreadableError as error:
            return self._empty(position, error)
        return self._augmented(*self._tensors(sample), position)

    def _rows(self, skipped: int, process: int, num_processes: int) -> Iterator[dict]:
        """The rows of one process, epoch after epoch, without the first `skipped`."""
        for number in count():
            known = self.epoch_lengths[number] if number < len(self.epoch_lengths) else None
            if known is not None and skipped >= known:
                skipped -= known
                continue
            length = 0
            for row in self.data.shuffled(mix(self.seed, number)).share(process, num_processes).rows:
                length += 1
                if length > skipped:
                    yield row
            if length == 0:
                raise InputError(
                    f"{self.data.source} has no row for process {process + 1} of {num_processes} in its split "
                    f"{self.data.split!r}"
                )
            if known is None:
                self.epoch_lengths.append(length)
            skipped = max(0, skipped - length)
