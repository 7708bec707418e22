"""Open a data source, whichever kind it is: a folder of pairs, or a table that `datasets` reads."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lclipseg.console.errors import InputError
from lclipseg.console.extras import missing_library
from lclipseg.data.class_list import ClassList
from lclipseg.data.imports.direct import as_data
from lclipseg.data.labelled import FolderData, SegmentationData
from lclipseg.data.layout import FolderLayout, is_folder_of_pairs

if TYPE_CHECKING:
    from lclipseg.data.tables import StreamedData

logger = logging.getLogger("lclipseg")


def load_segmentation_data(
    source: str | Path,
    split: str,
    *,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
    cache: bool = False,
) -> SegmentationData:
    """Open one split of a data source; images are decoded when they are asked for.

    Args:
        source (`str`): a folder (see splits.py), a parquet or zip file, or the name of a Hub data set.
        split (`str`): "train", "val" (or "validation") or "test"; a Hub data set may have others.
        classes (`str`, *optional*): a `classes.json` to use instead of the source's own.
        image_column, mask_column (`str`, *optional*): columns of a table, where they are not to be guessed by name.
        cache (`bool`): whether to keep decoded samples in memory.

    Raises:
        [`InputError`]: the source lacks the split, an image lacks its mask, or there is no class list.
    """
    columns = {"image_column": image_column, "mask_column": mask_column}
    return load_splits(source, [split], classes=classes, cache=cache, **columns)[0]


def load_splits(
    source: str | Path,
    splits: Sequence[str],
    *,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
    cache: bool = False,
) -> list[SegmentationData]:
    """As [`load_segmentation_data`] for several splits. What a folder holds besides them is named and counted."""
    root = Path(source).expanduser()
    if classes is None:
        root = as_data(root)
    if not is_folder_of_pairs(root):
        table = table_module().TableData
        return [table.open(str(source), split, classes, image_column, mask_column, cache) for split in splits]
    layout = FolderLayout.find(root)
    pairs = [layout.pairs(split) for split in splits]
    own_classes = ClassList.load(classes or layout.classes_file())
    left_out = layout.left_out()
    if left_out.counts:
        logger.warning(f"{root}: not used are {left_out}")
    return [FolderData(own_classes, of_split, cache) for of_split in pairs]


def stream_segmentation_data(
    source: str | Path,
    split: str,
    *,
    classes: str | Path | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
) -> "StreamedData":
    """As [`load_segmentation_data`] for a table too large to download or index: samples come one after the other."""
    if is_folder_of_pairs(Path(source).expanduser()):
        raise InputError(
            f"{source} is a folder of images and masks, whose files are read one at a time anyway; only tables are "
            "streamed"
        )
    return table_module().StreamedData.open(str(source), split, classes, image_column, mask_column)


def table_module() -> ModuleType:
    """Imported when such a source is opened: a machine that trains from a folder can do without `datasets`."""
    try:
        from lclipseg.data import tables
    except ModuleNotFoundError as error:
        message = missing_library("this data source", error.name)
        if message is None:
            raise
        raise InputError(message) from error
    return tables
