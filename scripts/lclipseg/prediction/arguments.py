"""What `lclipseg segment`, `lclipseg suggest` and `lclipseg evaluate` can be told."""

import os
import re
from dataclasses import dataclass, field
from typing import Literal

from lclipseg.console.errors import InputError
from lclipseg.prediction.inference_mode import InferenceMode

MAX_PIXELS = 178_956_970  # as the model package has it, whose import takes seconds


@dataclass
class SegmentArguments:
    model: str = field(metadata={"help": "Folder of a checkpoint or an export, or OWNER/NAME on the Hub."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    classes: str | None = field(
        default=None,
        metadata={
            "help": 'Classes, comma-separated: "sky, road, car, ..."; each pixel gets one of them. Default: the '
            "checkpoint's own."
        },
    )
    bank: str | None = field(
        default=None,
        metadata={
            "help": "Word bank with vectors of further words: FILE.safetensors or FILE#KEY. Default: the 360 words "
            "that ship here, for a checkpoint of their text tower."
        },
    )
    out: str = field(default="segmented", metadata={"help": "Folder for the results."})
    mode: Literal["whole", "slide"] = field(
        default="whole", metadata={"help": "One forward pass for an image, or overlapping windows."}
    )
    least_score: float | None = field(
        default=None,
        metadata={
            "help": "Pixels whose best class scores less are none of the classes (255 in a mask). With everyday "
            "checkpoints a class that is there scores 5 to 15, one that is not about 0: try 6. Default: every pixel "
            "gets a class."
        },
    )
    annotations: Literal["coco", "label-studio"] | None = field(
        default=None, metadata={"help": "Write one file for all images besides, for a labelling tool to begin with."}
    )
    max_pixels: int = field(
        default=MAX_PIXELS, metadata={"help": "Refuse images of more pixels than this, before decoding them."}
    )
    write: Literal["all", "masks", "parquet"] = field(
        default="all",
        metadata={
            "help": "All three files of an image; its mask alone, with classes.json; or tables of 1000 masks, as "
            "parquet files with the columns name and mask."
        },
    )
    resume: bool = field(
        default=False, metadata={"help": "Leave out images that have results in --out, made with the same options."}
    )
    share: str | None = field(
        default=None,
        metadata={
            "help": "I/N: of every N images the I-th alone, as one of N processes on any number of machines. Default: "
            "what `accelerate launch` says, else all."
        },
    )
    expected_processes: int | None = field(
        default=None, metadata={"help": "Fail unless so many processes run (launchers may silently start one)."}
    )
    split: str | None = field(
        default=None,
        metadata={
            "help": "The images are those of this split of tables: parquet, zip or tar files, or names of Hub data "
            "sets. Default: none, they are files."
        },
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column of a table, where not obvious."})

    @property
    def shared(self) -> tuple[int, int]:
        """The number of this process, from 0, and how many there are."""
        if self.share is not None:
            number, _, count = self.share.partition("/")
            return int(number) - 1, int(count)
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # as torch's launchers set them

    def __post_init__(self) -> None:
        if self.bank is not None and self.classes is None:
            raise InputError("--bank gives vectors to the words of --classes; add --classes")
        parts = re.fullmatch(r"(\d+)/(\d+)", self.share or "1/1")
        if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
            raise InputError(f"--share is {self.share!r}; give I/N with I from 1 to N, 2/8 for the second of eight")
        if self.image_column is not None and self.split is None:
            raise InputError("--image_column names a column of a table, which --split tells from image files")
        if self.annotations is not None and self.write == "parquet":
            raise InputError("--annotations needs masks that can be read again: --write all or masks")
        if self.annotations is not None and self.shared[1] > 1:
            raise InputError(
                "--annotations is one file of all images, which several processes cannot write: when they are done, "
                "run one with --annotations and --resume true, which reads their masks"
            )
        if self.max_pixels < 1:
            raise InputError(f"--max_pixels is {self.max_pixels}; give a number from 1")


@dataclass
class SuggestArguments:
    model: str = field(metadata={"help": "Folder of a checkpoint, or OWNER/NAME on the Hub."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    count: int = field(default=50, metadata={"help": "How many images to name."})
    labelled: str | None = field(
        default=None, metadata={"help": "Folder of data: images whose name has a mask there already are left out."}
    )
    out: str = field(default="suggested.csv", metadata={"help": "File to write: a line for each image named."})

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"--count is {self.count}; give a number from 1")


@dataclass
class EvaluateArguments:
    data: str = field(metadata={"help": "Data: a folder, a parquet or zip file, or a data set on the Hub."})
    split: str = field(default="test", metadata={"help": "Split of the data to score."})
    classes: str | None = field(default=None, metadata={"help": "classes.json to use instead of the data's own."})
    image_column: str | None = field(default=None, metadata={"help": "Image column of a table, where not obvious."})
    mask_column: str | None = field(default=None, metadata={"help": "Mask column of a table, where not obvious."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    mode: Literal["whole", "slide"] = field(
        default="whole", metadata={"help": "One forward pass for an image, or overlapping windows."}
    )
    flip: bool = field(default=False, metadata={"help": "Average the image and its flipped image."})
    window: int | None = field(
        default=None,
        metadata={"help": "Side of a window in pixels. Default: the image processor's size."},
    )
    stride: int | None = field(
        default=None, metadata={"help": "Distance between windows in pixels. Default: two thirds of the window."}
    )
    least_score: float | None = field(
        default=None,
        metadata={
            "help": "Pixels whose best class scores less are the data's class `none_of_these`, which the model is not "
            "asked for. Default: it is a class like any other."
        },
    )
    batch_size: int = field(default=1, metadata={"help": "Images for one forward pass, if they have the same size."})
    num_workers: int = field(default=0, metadata={"help": "Processes that decode images ahead."})
    limit: int | None = field(default=None, metadata={"help": "Score only the first so many images."})
    classes_from: Literal["checkpoint", "data"] = field(
        default="checkpoint",
        metadata={
            "help": "checkpoint: its own classes, which must have the names of the data's. data: give an "
            "open-vocabulary model the classes of the data, by --bank, the words that ship here or the text tower."
        },
    )
    bank: str | None = field(
        default=None, metadata={"help": "Class embeddings for --classes-from data: FILE.safetensors or FILE#KEY."}
    )
    expected_processes: int | None = field(
        default=None, metadata={"help": "Fail unless so many processes run (launchers may silently start one)."}
    )
    out: str | None = field(default=None, metadata={"help": "Folder for evaluation.json and evaluation.md."})

    def __post_init__(self) -> None:
        if self.bank is not None and self.classes_from != "data":
            raise InputError("--bank gives vectors for the classes of the data; add --classes-from data")
        for name, lowest in (("batch_size", 1), ("num_workers", 0), ("limit", 1), ("expected_processes", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"--{name} is {value}; give a number from {lowest}")
        _ = self.inference

    @property
    def inference(self) -> InferenceMode:
        """How the images are segmented; an [`InputError`] where the options do not go together."""
        return InferenceMode(self.mode, self.flip, self.window, self.stride)
