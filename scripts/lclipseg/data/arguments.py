"""What `lclipseg check-data`, `lclipseg prepare-data` and `lclipseg import` can be told."""

from dataclasses import dataclass, field
from typing import Literal

from lclipseg.console.errors import InputError


@dataclass
class CheckArguments:
    split: list[str] | None = field(default=None, metadata={"help": "Splits to check. Default: all that there are."})
    classes: str | None = field(default=None, metadata={"help": "A classes.json to use instead of the data's own."})
    image_column: str | None = field(default=None, metadata={"help": "Column of a table that holds the images."})
    mask_column: str | None = field(default=None, metadata={"help": "Column of a table that holds the masks."})
    workers: int | None = field(
        default=None, metadata={"help": "Processes. Default: one a processor, fewer for less than 1000 pairs each."}
    )
    quick: bool = field(
        default=False,
        metadata={
            "help": "Read only the headers of the images: damaged pixels and equal images stay unseen. Masks are read "
            "in full all the same."
        },
    )
    out: str | None = field(default=None, metadata={"help": "Folder for the report in Markdown and JSON."})

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}; give a number from 1.")


@dataclass
class PrepareArguments:
    source: str = field(metadata={"help": "Folder with the downloaded archives, or with what was unpacked from them."})
    out: str = field(metadata={"help": "Folder to write: classes.json, and SPLIT/images and SPLIT/masks."})
    keep: str | None = field(
        default=None, metadata={"help": "Text file of the classes to keep, one a line, instead of the recipe's own."}
    )


FORMATS = ("coco", "colours", "yolo", "labelme", "label-studio", "cvat", "ade20k-full")
PUBLISHED = ("ade20k", "cityscapes", "coco_stuff", "mapillary_vistas", "mapillary_vistas_v2", "pascal_context")


@dataclass
class ImportArguments:
    out: str = field(metadata={"help": "Folder to write: classes.json, images and masks, in splits if there are any."})
    format: str | None = field(
        default=None,
        metadata={
            "help": f"One of {', '.join(FORMATS)}, or a published set: {', '.join(PUBLISHED)}. Default: what the "
            "files look like."
        },
    )
    images: str | None = field(default=None, metadata={"help": "Folder of the images, where they lie elsewhere."})
    rest: str | None = field(
        default=None,
        metadata={
            "help": "What pixels are that no object covers: the name of a class, or ignore. Default: background; "
            "ignore where the export names every pixel (panoptic, stuff)."
        },
    )
    empty: Literal["keep", "skip"] = field(
        default="keep",
        metadata={"help": "Images that are annotated as showing no object: keep them as all rest, or skip them."},
    )
    missing: Literal["error", "skip"] = field(
        default="error",
        metadata={"help": "Images that an annotation names and that are not there: end, or leave them out."},
    )
    boxes: Literal["error", "fill", "ignore"] | None = field(
        default=None,
        metadata={
            "help": "Boxes: fill them with their class, leave their pixels unlabelled, or end. Default: fill those "
            "that were drawn as areas (LabelMe, CVAT, Label Studio), error for those of detection data."
        },
    )
    line_width: int | None = field(
        default=None, metadata={"help": "Draw open lines so many pixels wide. Default: they are an error."}
    )
    keep: str | None = field(
        default=None, metadata={"help": "Text file of the classes to keep, one a line; others become unlabelled."}
    )

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in (*FORMATS, *PUBLISHED):
            raise InputError(f"--format is {self.format!r}; give one of {', '.join((*FORMATS, *PUBLISHED))}")
        if self.line_width is not None and not 1 <= self.line_width <= 1000:
            raise InputError(f"--line_width is {self.line_width}; give a number from 1 to 1000")
