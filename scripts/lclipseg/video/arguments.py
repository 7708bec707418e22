"""What `lclipseg segment` can be told besides, for videos, cameras and folders that are watched."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from lclipseg.console.errors import InputError
from lclipseg.prediction.arguments import SegmentArguments

OF_IMAGES = ("annotations", "write", "resume", "share", "split", "image_column", "expected_processes")
OVERLAY_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi")


@dataclass
class VideoArguments(SegmentArguments):
    outputs: list[Literal["overlay", "masks", "shares"]] = field(
        default_factory=lambda: ["overlay", "shares"],
        metadata={
            "help": "Of a video: its overlay as a video, the mask of every frame as a PNG, the share of every class "
            "in every frame as a CSV."
        },
    )
    overlay: str | None = field(
        default=None,
        metadata={
            "help": f"Of a video: the file of the overlay; its suffix ({', '.join(OVERLAY_SUFFIXES)}) says the "
            "format. Default: OUT/NAME_overlay.mp4."
        },
    )
    smooth: float = field(
        default=0.0,
        metadata={
            "help": "Of a video: how much of the scores before stays in those of a frame, from 0 to below 1, against "
            "flicker."
        },
    )
    show: bool = field(default=False, metadata={"help": "Of a video: show the overlay in a window."})
    limit: int | None = field(default=None, metadata={"help": "Of a video: end after so many frames."})
    timing: bool = field(default=False, metadata={"help": "Of a video: say what each stage takes."})
    watch: bool = field(
        default=False, metadata={"help": "Segment each image that is put into a folder, until Ctrl-C."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smooth < 1:
            raise InputError(f"--smooth is {self.smooth}; give a number from 0 (off) to below 1, such as 0.6")
        if self.smooth and self.mode != "whole":
            raise InputError(f"--smooth goes with --mode whole, not {self.mode}; leave one of them out")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}; give a number of frames from 1")
        if self.overlay is not None:
            if "overlay" not in self.outputs:
                raise InputError(f"--overlay {self.overlay} needs overlay among --outputs; add it")
            if Path(self.overlay).suffix.lower() not in OVERLAY_SUFFIXES:
                raise InputError(
                    f"--overlay {self.overlay} has none of the suffixes {', '.join(OVERLAY_SUFFIXES)}, which say the "
                    "format; give it one"
                )

    def check_for_images(self) -> None:
        """An [`InputError`] for an option that images have no use for."""
        for option in fields(VideoArguments)[len(fields(SegmentArguments)) :]:
            if option.name != "watch" and getattr(self, option.name) != _default(option):
                raise InputError(f"--{option.name} is for videos and cameras, and these are images; leave it out")

    def check_for_videos(self, given: str) -> None:
        """An [`InputError`] for an option that videos, such as the one given, have no use for."""
        for option in fields(SegmentArguments):
            if option.name in OF_IMAGES and getattr(self, option.name) != _default(option):
                raise InputError(
                    f"--{option.name} is for images, and {given} is a video, a camera or an address of one; leave "
                    f"--{option.name} out, or give frames as images"
                )


def _default(option) -> object:
    return option.default_factory() if callable(option.default_factory) else option.default
