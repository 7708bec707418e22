"""The files that are written of a video: where they lie, and those that are no video."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lclipseg.console.errors import InputError
from lclipseg.console.torch_free import to_indexed_image
from lclipseg.video.arguments import VideoArguments
from lclipseg.video.places import Place


@dataclass(frozen=True)
class ResultPaths:
    """Where the results of a video go; `None` for what is not asked for."""

    overlay: Path | None
    masks: Path | None
    shares: Path | None

    @classmethod
    def of(cls, place: Place, out: Path, args: VideoArguments) -> "ResultPaths":
        """
        OUT/NAME_overlay.mp4, OUT/NAME_masks and OUT/NAME_shares.csv.

        Raises:
            InputError: one of them exists.
        """
        overlay = out / f"{place.name}_overlay.mp4" if args.overlay is None else Path(args.overlay).expanduser()
        paths = cls(
            overlay if "overlay" in args.outputs else None,
            out / f"{place.name}_masks" if "masks" in args.outputs else None,
            out / f"{place.name}_shares.csv" if "shares" in args.outputs else None,
        )
        for path in paths.given():
            if path.exists():
                option = "--overlay" if path == overlay and args.overlay is not None else "--out"
                raise InputError(f"{path} exists already; give another {option}, or remove it")
        return paths

    def given(self) -> list[Path]:
        """Those that are asked for."""
        return [path for path in (self.overlay, self.masks, self.shares) if path is not None]


class SharesTable:
    """
    A CSV with a line a frame: `frame`, `seconds`, and of each class its part of all pixels.

    Args:
        path (`Path`): The file.
        id2label (`Mapping[int, str]`): The name of each class.
    """

    def __init__(self, path: Path, id2label: Mapping[int, str]):
        self._ids = sorted(id2label)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        first = ("frame", "seconds")
        names = [f"{id2label[index]} (class)" if id2label[index] in first else id2label[index] for index in self._ids]
        self._rows.writerow([*first, *names])

    def add(self, index: int, seconds: float, ids: np.ndarray) -> None:
        """The label map (height, width) of a frame."""
        counts = np.bincount(ids[ids >= 0], minlength=self._ids[-1] + 1)  # -1: none of the classes
        self._rows.writerow([index, f"{seconds:.3f}", *(f"{counts[one] / ids.size:.4f}" for one in self._ids)])

    def close(self) -> None:
        self._file.close()


class MaskFolder:
    """
    PNG files of the class ids, with a palette, called by the number of the frame: 000012.png.

    Args:
        path (`Path`): The folder, which is made.
    """

    def __init__(self, path: Path):
        self._path = path
        path.mkdir(parents=True)

    def add(self, index: int, ids: np.ndarray) -> None:
        """The label map (height, width) of a frame."""
        to_indexed_image(ids).save(self._path / f"{index:06}.png")


__all__ = ["MaskFolder", "ResultPaths", "SharesTable"]
