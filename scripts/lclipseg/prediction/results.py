"""Where `lclipseg segment` writes to, files or parquet, and what is there already."""

import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.console.extras import require
from lclipseg.console.torch_free import ClassShare, class_shares, draw_overlay, to_indexed_image
from lclipseg.prediction.inputs import ImageJob, result_files

ROWS_A_FILE = 1000  # of parquet: what a process that is killed has to do again
CLASSES_FILE = "classes.json"
SHOWN_SHARES = 5
# What `datasets` reads the columns as.
FEATURES = {"name": {"dtype": "string", "_type": "Value"}, "mask": {"_type": "Image"}}


@dataclass(frozen=True)
class SegmentationRecord:
    """What stands in NAME.json; sizes in pixels, shares are parts of all pixels."""

    image: str
    width: int
    height: int
    model: str
    id2label: dict[int, str]
    shares: list[ClassShare]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def summary(self) -> str:
        shown = [f"{share.name} {100 * share.share:.1f} %" for share in self.shares[:SHOWN_SHARES]]
        more = len(self.shares) - len(shown)
        return ", ".join(shown) + (f", {more} more" if more else "")


class Results(ABC):
    """
    Args:
        out (`Path`): the folder to write to, which is there.
        model (`str`): what segments, for records.
        id2label (`dict[int, str]`): its classes.
    """

    def __init__(self, out: Path, model: str, id2label: Mapping[int, str]):
        self.out, self.model, self.id2label = out, model, dict(id2label)

    @abstractmethod
    def label_map(self, job: ImageJob) -> np.ndarray | None:
        """The label map (height, width) of an image that has been written before; `None` if it is not there."""

    @abstractmethod
    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        """Write what an upright image was segmented into. Returns a line about it."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


class _Files(Results):
    """Each image's own, which leave nothing to write at the end."""

    def close(self) -> None:
        return


class AllFiles(_Files):
    """NAME_overlay.png, NAME_mask.png and, when these are whole, NAME.json."""

    def label_map(self, job: ImageJob) -> np.ndarray | None:
        _, mask, record = result_files(self.out, job.name)
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            same = [str(self.model), {str(number): name for number, name in self.id2label.items()}]
            return np.asarray(Image.open(mask)) if [content["model"], content["id2label"]] == same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        shares = class_shares(label_map, self.id2label)
        record = SegmentationRecord(job.source, image.width, image.height, self.model, self.id2label, shares)
        overlay_path, mask_path, record_path = result_files(self.out, job.name)
        record_path.parent.mkdir(parents=True, exist_ok=True)
        draw_overlay(image, label_map, self.id2label).save(overlay_path)
        to_indexed_image(label_map).save(mask_path)
        _written_whole(record_path, lambda path: path.write_text(record.to_json(), encoding="utf-8"))
        return f"{record.summary()} -> {overlay_path}"


class MaskFiles(_Files):
    """NAME_mask.png, and classes.json once."""

    def __init__(self, out: Path, model: str, id2label: Mapping[int, str]):
        super().__init__(out, model, id2label)
        _write_classes(out, self.id2label)

    def label_map(self, job: ImageJob) -> np.ndarray | None:
        mask = result_files(self.out, job.name)[1]
        return np.asarray(Image.open(mask)) if mask.is_file() else None

    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        mask = result_files(self.out, job.name)[1]
        mask.parent.mkdir(parents=True, exist_ok=True)
        _written_whole(mask, lambda path: to_indexed_image(label_map).save(path, format="PNG"))
        return f"-> {mask}"


class ParquetFiles(Results):
    """
    Tables of the columns `name` and `mask`, an encoded PNG, as `datasets` reads them, and classes.json once.

    Args:
        process (`int`): the number of this process, which its files are called by.
    """

    def __init__(self, out: Path, model: str, id2label: Mapping[int, str], process: int):
        require("datasets")  # the extra that brings pyarrow
        super().__init__(out, model, id2label)
        _write_classes(out, self.id2label)
        self.process = process
        self._rows: list[dict[str, Any]] = []
        self._there: set[str] | None = None

    def label_map(self, job: ImageJob) -> np.ndarray | None:
        if self._there is None:
            self._there = self._names()
        return np.empty((0, 0)) if job.name in self._there else None

    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        encoded = io.BytesIO()
        to_indexed_image(label_map).save(encoded, "PNG")
        self._rows.append({"name": job.name, "mask": {"bytes": encoded.getvalue(), "path": None}})
        if len(self._rows) == ROWS_A_FILE:
            self.close()
        return f"-> {self.out}"

    def close(self) -> None:
        if not self._rows:
            return
        import pyarrow
        from pyarrow import parquet

        mask = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        noted = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
        schema = pyarrow.schema([("name", pyarrow.string()), ("mask", mask)], metadata=noted)
        table = pyarrow.Table.from_pylist(self._rows, schema)
        number = len(list(self.out.glob(f"masks-{self.process:05d}-*.parquet")))
        _written_whole(
            self.out / f"masks-{self.process:05d}-{number:05d}.parquet", lambda path: parquet.write_table(table, path)
        )
        self._rows = []

    def _names(self) -> set[str]:
        """Those in the files of all processes, also of an earlier call with another number of them."""
        from pyarrow import parquet

        files = sorted(self.out.glob("masks-*.parquet"))
        return {name for file in files for name in parquet.read_table(file, columns=["name"])["name"].to_pylist()}


def _write_classes(out: Path, id2label: Mapping[int, str]) -> None:
    """classes.json. Raises [`InputError`] if there is one of other classes."""
    path, content = out / CLASSES_FILE, {"classes": [id2label[number] for number in sorted(id2label)]}
    try:
        there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else content
    except ValueError:
        there = None
    if there != content:
        raise InputError(f"{path} names other classes than {content['classes']}: give another --out")
    _written_whole(path, lambda part: part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8"))


def _written_whole(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there as a whole or not at all; several processes may write the same one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
