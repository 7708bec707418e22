"""What `lclipseg check-data` and `lclipseg prepare-data` can be told."""

from dataclasses import dataclass, field

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
