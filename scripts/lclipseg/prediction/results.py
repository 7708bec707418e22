"""Where `lclipseg segment` writes to, files or parquet, and what is there already."""

import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.console.extras import require
from lclipseg.console.torch_free import ClassShare, class_shares, draw_overlay, to_indexed_image
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.inputs import ImageJob, result_files

ROWS_A_FILE = 1000  # of parquet: what a process that is killed has to do again
CLASSES_FILE = "classes.json"
OPTIONS_FILE = "segment.json"  # beside it: what the masks were made with
WEIGHTS = (".safetensors", ".onnx")
SHOWN_SHARES = 5
# What `datasets` reads the columns as.
FEATURES = {"name": {"dtype": "string", "_type": "Value"}, "mask": {"_type": "Image"}}


@dataclass(frozen=True)
class SegmentationRecord:
    """What stands in NAME.json; sizes in pixels, shares are parts of all pixels, options see [`options_of`]."""

    image: str
    width: int
    height: int
    model: str
    id2label: dict[int, str]
    shares: list[ClassShare]
    options: dict[str, Any]

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
        options (`dict[str, Any]`): all that a label map depends on besides its image, see [`options_of`].
        id2label (`dict[int, str]`): the classes.
    """

    def __init__(self, out: Path, options: Mapping[str, Any], id2label: Mapping[int, str]):
        self.out, self.options, self.id2label = out, dict(options), dict(id2label)

    @abstractmethod
    def label_map(self, job: ImageJob) -> np.ndarray | None:
        """
        The label map (height, width) of an image that has been written before; `None` if it is not there.

        Raises:
            InputError: it was made with other options.
        """

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
        content = _read(record)
        if content.get("image") != job.source:
            return None
        _check_same(record, content.get("options"), self.options)
        return _read_mask(mask)

    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        shares = class_shares(label_map, self.id2label)
        record = SegmentationRecord(
            job.source, image.width, image.height, self.options["model"], self.id2label, shares, self.options
        )
        overlay_path, mask_path, record_path = result_files(self.out, job.name)
        record_path.parent.mkdir(parents=True, exist_ok=True)
        draw_overlay(image, label_map, self.id2label).save(overlay_path)
        to_indexed_image(label_map).save(mask_path)
        _written_whole(record_path, lambda path: path.write_text(record.to_json(), encoding="utf-8"))
        return f"{record.summary()} -> {overlay_path}"


class MaskFiles(_Files):
    """NAME_mask.png, and what they all have in common once."""

    def __init__(self, out: Path, options: Mapping[str, Any], id2label: Mapping[int, str]):
        super().__init__(out, options, id2label)
        _write_common(out, self.options, self.id2label)

    def label_map(self, job: ImageJob) -> np.ndarray | None:
        return _read_mask(result_files(self.out, job.name)[1])

    def write(self, job: ImageJob, image: Image.Image, label_map: np.ndarray) -> str:
        mask = result_files(self.out, job.name)[1]
        mask.parent.mkdir(parents=True, exist_ok=True)
        _written_whole(mask, lambda path: to_indexed_image(label_map).save(path, format="PNG"))
        return f"-> {mask}"


class ParquetFiles(Results):
    """
    Tables of the columns `name` and `mask`, an encoded PNG, as `datasets` reads them, and what they share once.

    Args:
        process (`int`): the number of this process, which its files are called by.
        resume (`bool`): whether it goes on with what is there.

    Raises:
        InputError: its files are there, and it does not go on with them: every image would be there twice.
    """

    def __init__(self, out: Path, options: Mapping[str, Any], id2label: Mapping[int, str], process: int, resume: bool):
        require("datasets")  # the extra that brings pyarrow
        super().__init__(out, options, id2label)
        if not resume and (there := sorted(out.glob(f"masks-{process:05d}-*.parquet"))):
            raise InputError(f"{there[0]} is there already: --resume true goes on with it, or give another --out")
        _write_common(out, self.options, self.id2label)
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


def options_of(args: SegmentArguments, inputs: Sequence[str], id2label: Mapping[int, str]) -> dict[str, Any]:
    """All that a label map depends on besides its image; of tables, whose images are called by number, also these."""
    options = {name: getattr(args, name) for name in ("model", "revision", "bank", "mode", "least_score")}
    options["classes"] = [id2label[number] for number in sorted(id2label)]
    options["weights"] = _digest(Path(args.model).expanduser())
    if args.split is not None:
        options |= {"inputs": list(inputs), "split": args.split, "image_column": args.image_column}
    return options


def _digest(model: Path) -> str | None:
    """What tells two trainings in one folder apart; `None` for a name on the Hub."""
    files = sorted(path for path in model.glob("*") if path.suffix in WEIGHTS) if model.is_dir() else []
    digest = sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16] if files else None


def _write_common(out: Path, options: Mapping[str, Any], id2label: Mapping[int, str]) -> None:
    """classes.json and the options. Raises [`InputError`] if there are others."""
    path, content = out / CLASSES_FILE, {"classes": [id2label[number] for number in sorted(id2label)]}
    if path.is_file() and _read(path) != content:
        raise InputError(f"{path} names other classes than {content['classes']}: give another --out")
    noted = out / OPTIONS_FILE
    if noted.is_file():
        _check_same(noted, _read(noted), options)
    _written_whole(path, lambda part: part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8"))
    _written_whole(noted, lambda part: part.write_text(json.dumps(options, ensure_ascii=False), encoding="utf-8"))


def _check_same(record: Path, before: Any, now: Mapping[str, Any]) -> None:
    """An [`InputError`] where results were made with other options."""
    before = before if isinstance(before, dict) else {}
    other = [
        f"{name} {before.get(name)!r:.60} (now {value!r:.60})"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if other:
        raise InputError(f"{record}: its results were made with {', '.join(other)}; give the same, or another --out")


def _read(path: Path) -> dict[str, Any]:
    """A record; an empty one where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_mask(path: Path) -> np.ndarray | None:
    """The ids of a mask that was written whole; `None` where there is none."""
    try:
        return np.asarray(Image.open(path))
    except (OSError, SyntaxError):  # the latter is Pillow's word for a damaged PNG
        return None


def _written_whole(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there as a whole or not at all; several processes may write the same one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
