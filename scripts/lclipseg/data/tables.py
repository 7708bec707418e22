"""Labelled images from what the `datasets` library reads: Hub data sets, parquet files, image folders and zips with a
metadata file, tars in the form of WebDataset. The only file that needs the library."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import fsspec
import torch
from datasets.distributed import split_dataset_by_node
from datasets.exceptions import DatasetsError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from PIL import Image
from pyarrow import parquet

from lclipseg.console.errors import InputError, naming
from lclipseg.data.class_list import CLASSES_FILE, ClassList
from lclipseg.data.files import check_source_exists
from lclipseg.data.labelled import Sample, SegmentationData, UnreadableError, check_sample
from lclipseg.data.splits import same_split
from modeling_lclipseg.opening_lclipseg import open_image

MASK_COLUMNS = ("mask", "label", "segmentation_map", "annotation", "mask.png", "seg.png", "label.png", "png")
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "webp", "image.jpg", "image.png", "png")  # but the first: of WebDataset
FILE_BUILDERS = {".parquet": "parquet", ".zip": "imagefolder", ".tar": "webdataset"}
METADATA_HINT = (
    'A folder or zip of images needs a metadata.jsonl of lines like {"file_name": "a.jpg", "mask_file_name": "a.png"}'
)
SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class TableColumns:
    """Which columns of a table are images and masks, and what the mask ids mean."""

    image: str
    mask: str
    classes: ClassList

    @classmethod
    def find(
        cls,
        features: datasets.Features,
        source: str,
        classes: str | Path | None,
        image_column: str | None,
        mask_column: str | None,
    ) -> "TableColumns":
        """Find columns by name where none are given. Raises [`InputError`] if a column or the classes are missing."""
        image = _column(features, "image", image_column, IMAGE_COLUMNS, source)
        mask = _column(features, "mask", mask_column, MASK_COLUMNS, source)
        return cls(image, mask, _classes(features, source, classes))

    def encoded(self, rows: Any) -> Any:
        """`rows` (`datasets.Dataset` or `datasets.IterableDataset`) without other columns, images as their files."""
        rows = rows.select_columns([self.image, self.mask])
        for name in (self.image, self.mask):
            rows = rows.cast_column(name, datasets.Image(decode=False))
        return rows

    def read(self, row: dict[str, Any], name: str, source: str) -> Sample:
        """
        Decode and check an encoded row.

        Raises:
            [`UnreadableError`]: its image or mask cannot be decoded.
            [`InputError`]: they do not belong together, or the mask has an id that is no class.
        """
        image_name, mask_name = (f"{name} of {source}, column {column!r}" for column in (self.image, self.mask))
        image, mask = _opened(row[self.image], image_name), _opened(row[self.mask], mask_name)
        return check_sample(image, mask, self.classes, name, image_name, mask_name)


def cell_bytes(value: dict[str, Any] | None) -> bytes:
    """
    The file that a cell holds, or that it names by a path or an address, which may lie in a zip.

    Raises:
        ValueError, OSError: there is none.
    """
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise ValueError("there is no image")
    if value["bytes"] is not None:
        return value["bytes"]
    with fsspec.open(value["path"], "rb") as file:
        return file.read()


def _opened(value: dict[str, Any] | None, name: str) -> Image.Image:
    try:
        return open_image(cell_bytes(value), name=name)
    except (ValueError, OSError) as error:
        raise UnreadableError(naming(name, error)) from error


class TableData(SegmentationData):
    """The rows of a `datasets.Dataset`."""

    def __init__(self, rows: datasets.Dataset, columns: TableColumns, split: str, source: str, cache: bool = False):
        super().__init__(columns.classes, [f"{split}-{index:06d}" for index in range(len(rows))], cache)
        self.rows, self.columns, self.source = columns.encoded(rows), columns, source

    @classmethod
    def open(
        cls,
        source: str,
        split: str,
        classes: str | Path | None = None,
        image_column: str | None = None,
        mask_column: str | None = None,
        cache: bool = False,
    ) -> "TableData":
        rows = TableSplit.find(source, split).load()
        columns = TableColumns.find(rows.features, source, classes, image_column, mask_column)
        return cls(rows, columns, split, source, cache)

    def fingerprint(self) -> str:
        return f"{len(self)} rows of {self.rows.data.nbytes} bytes"

    def _read(self, index: int) -> Sample:
        return self.columns.read(self.rows[index], self.names[index], self.source)


class TableImages:
    """The images of a split of a table, without masks."""

    def __init__(self, rows: datasets.Dataset, column: str, source: str):
        self.rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
        self.column, self.source = column, source

    @classmethod
    def open(cls, source: str, split: str, image_column: str | None = None) -> "TableImages":
        """Raises [`InputError`] if there is no such source, split or column."""
        rows = TableSplit.find(source, split).load()
        return cls(rows, _column(rows.features, "image", image_column, IMAGE_COLUMNS, source), source)

    def __len__(self) -> int:
        return len(self.rows)

    def encoded(self, index: int) -> bytes:
        """The file of an image. Raises `ValueError` or `OSError` if there is none."""
        return cell_bytes(self.rows[index][self.column])


class StreamedData(torch.utils.data.IterableDataset):
    """
    The rows of a `datasets.IterableDataset`, in turn.

    Args:
        rows (`datasets.IterableDataset`): The rows.
        columns ([`TableColumns`]): Which of their columns count.
        split, source (`str`): For names and messages.
        num_rows (`int`, *optional*): How many there are, where that is known.
    """

    def __init__(
        self, rows: datasets.IterableDataset, columns: TableColumns, split: str, source: str, num_rows: int | None
    ):
        self.rows, self.columns, self.split, self.source, self.num_rows = rows, columns, split, source, num_rows
        self.classes = columns.classes

    @classmethod
    def open(
        cls,
        source: str,
        split: str,
        classes: str | Path | None = None,
        image_column: str | None = None,
        mask_column: str | None = None,
    ) -> "StreamedData":
        found = TableSplit.find(source, split)
        rows = found.stream()
        if rows.features is None:
            rows = rows._resolve_features()  # reads the first rows
        columns = TableColumns.find(rows.features, source, classes, image_column, mask_column)
        return cls(columns.encoded(rows), columns, split, source, found.num_rows())

    def shuffled(self, seed: int, buffer_size: int = 1000) -> "StreamedData":
        """The same rows in another order: shards shuffled, and rows within a window of `buffer_size` rows."""
        return self._with(self.rows.shuffle(seed, buffer_size=buffer_size))

    def share(self, process: int, num_processes: int, limit: int | None = None) -> "StreamedData":
        """Every row, or every one of the first `limit`, belongs to exactly one of the processes: those of one."""
        rows = self.rows if limit is None else self.rows.take(limit)
        return self._with(split_dataset_by_node(rows, process, num_processes))

    def fingerprint(self) -> str:
        """What stays the same while the data do: here only how many rows there are."""
        return f"{self.num_rows} rows"

    def read(self, row: dict[str, Any], name: str) -> Sample:
        """Decode a row; see [`TableColumns.read`]."""
        return self.columns.read(row, name, self.source)

    def __iter__(self) -> Iterator[Sample]:
        # Rows as they come: a shuffled stream numbers them anew.
        for count, row in enumerate(self.rows):
            yield self.read(row, f"{self.split}-{count:06d}")

    def _with(self, rows: datasets.IterableDataset) -> "StreamedData":
        return StreamedData(rows, self.columns, self.split, self.source, self.num_rows)


@dataclass(frozen=True)
class TableSplit:
    """One split of what `datasets` can read, and how."""

    builder: str
    data_files: dict[str, list[str]] | None
    name: str
    source: str

    @classmethod
    def find(cls, source: str, split: str) -> "TableSplit":
        """Raises [`InputError`] if there is no such source or split."""
        path = Path(source).expanduser()
        builder, data_files = str(path) if path.is_dir() else source, None
        if path.is_dir() and (shards := tar_shards(path)):
            builder, data_files = FILE_BUILDERS[".tar"], shards
        if path.is_file():
            if path.suffix.lower() not in FILE_BUILDERS:
                raise InputError(
                    f"{path} is no data set: give a folder, a .parquet, .zip or .tar file, or a Hub data set name"
                )
            builder, data_files = FILE_BUILDERS[path.suffix.lower()], {split_of(path): [str(path)]}
        check_source_exists(source)
        with _table_errors(source):
            splits = datasets.get_dataset_split_names(builder, data_files=data_files)
        name = next((name for name in same_split(split) if name in splits), None)
        if name is None:
            raise InputError(f"{source} has no split {split!r}; it has {splits}")
        return cls(builder, data_files, name, source)

    def load(self) -> datasets.Dataset:
        """All rows, downloaded and indexed."""
        with _table_errors(self.source):
            return datasets.load_dataset(self.builder, data_files=self.data_files, split=self.name)

    def stream(self) -> datasets.IterableDataset:
        """The rows one after the other."""
        with _table_errors(self.source):
            return datasets.load_dataset(self.builder, data_files=self.data_files, split=self.name, streaming=True)

    def num_rows(self) -> int | None:
        """How many rows there are, if the metadata of the data set or of its parquet files tell."""
        with _table_errors(self.source):
            builder = datasets.load_dataset_builder(self.builder, data_files=self.data_files)
        if builder.info.splits and self.name in builder.info.splits:
            return builder.info.splits[self.name].num_examples or None
        files = [str(file) for file in (builder.config.data_files or {}).get(self.name, [])]
        if files and all(file.endswith(".parquet") and Path(file).is_file() for file in files):
            return sum(parquet.read_metadata(file).num_rows for file in files)
        return None


@contextmanager
def _table_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (DatasetsError, OSError, ValueError) as error:
        raise InputError(f"`datasets` cannot read {source}: {error}. {METADATA_HINT}") from error


def split_of(path: Path) -> str:
    """The split that a file's name tells ("val.parquet", "test-00000.zip"), else "train"."""
    first = path.stem.replace("_", "-").replace(".", "-").split("-")[0].lower()
    return SPLIT_WORDS.get(first, "train")


def tar_shards(folder: Path) -> dict[str, list[str]]:
    """The tars of a folder, and of those of splits in it, by their split."""
    shards: dict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.glob("*.tar")):
        shards[split_of(path)].append(str(path))
    for path in sorted(folder.glob("*/*.tar")):
        if (split := SPLIT_WORDS.get(path.parent.name.lower())) is not None:
            shards[split].append(str(path))
    return dict(shards)


def _column(
    features: datasets.Features, role: str, given: str | None, candidates: tuple[str, ...], source: str
) -> str:
    name = given or next((candidate for candidate in candidates if candidate in features), None)
    if name is None or name not in features:
        wanted = repr(given) if given else " or ".join(map(repr, candidates))
        raise InputError(
            f"{source} has no column {wanted}; it has {list(features)}. Name one with {role}_column. {METADATA_HINT}"
        )
    feature = features[name]
    encoded = isinstance(feature, dict) and "bytes" in feature  # parquet files that `datasets` did not write
    if not encoded and feature != datasets.Value("binary") and not isinstance(feature, datasets.Image):
        raise InputError(f"column {name!r} of {source} holds {feature}, not images. Name another with {role}_column")
    return name


def _classes(features: datasets.Features, source: str, classes: str | Path | None) -> ClassList:
    """The class list given, beside the data, in the features, or in the Hub repository, in this order."""
    if classes is not None:
        return ClassList.load(classes)
    path = Path(source).expanduser()
    if path.exists():
        beside = (path if path.is_dir() else path.parent) / CLASSES_FILE
        if beside.is_file():
            return ClassList.load(beside)
    # A list of class labels names what a mask can hold; a single label would name the whole image.
    labels = [
        feature.feature
        for feature in features.values()
        if isinstance(feature, datasets.List) and isinstance(feature.feature, datasets.ClassLabel)
    ]
    if len(labels) == 1:
        return ClassList.parse(labels[0].names, where=f"the class labels of {source}")
    if not path.exists():
        try:
            return ClassList.load(hf_hub_download(source, CLASSES_FILE, repo_type="dataset"))
        except (EntryNotFoundError, OSError):
            pass
    raise InputError(
        f'{source} does not say what its mask ids mean. Give a {CLASSES_FILE}, such as {{"classes": ["sky", "road"]}}'
    )
