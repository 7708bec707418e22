"""A clean data set for check_data.py in a folder, and what the check says of it."""

import io
from pathlib import Path

import numpy as np
from data_folders import SIZE, make_image
from PIL import Image

from lclipseg.commands.check_data import parse
from lclipseg.data.check.check import check_data
from lclipseg.data.check.problems import Kind
from lclipseg.data.check.report import DataReport, Problem


def mask_of(seed: int, high: int = 3, size: tuple[int, int] = SIZE) -> Image.Image:
    ids = np.random.default_rng(seed).integers(0, high, (size[1], size[0]), dtype=np.uint8)
    ids[0, :3] = 0, 1, 2  # every class in every mask
    return Image.fromarray(ids)


def write_pairs(folder: Path, stems: list[str], first_seed: int = 0) -> None:
    for seed, stem in enumerate(stems, start=first_seed):
        for path, image in ((folder / "images", make_image(seed)), (folder / "masks", mask_of(seed))):
            path.mkdir(parents=True, exist_ok=True)
            image.save(path / f"{stem}.png")


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def write_source(folder: Path) -> Path:
    """A clean folder: four pairs in the split "train", two in "val"."""
    write_pairs(folder / "train", ["a", "b", "c", "d"])
    write_pairs(folder / "val", ["a", "b"], first_seed=10)
    (folder / "classes.json").write_text('["sky", "road", "tree"]')
    return folder


def check(source: Path | str, *arguments: str) -> DataReport:
    (only,), args = parse([str(source), "--workers", "1", *arguments])
    return check_data(only, args)


def found(report: DataReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def problem(report: DataReport, kind: Kind) -> Problem:
    return next(problem for problem in report.problems if problem.kind == kind.name.lower())


def write(data: Path, files: dict[str, Image.Image | bytes | str | None]) -> None:
    """Put files into the folder, in place of those of their names; one without content is taken away."""
    for name, content in files.items():
        if content is None:
            (data / name).unlink()
        elif isinstance(content, Image.Image):
            content.save(data / name)
        else:
            (data / name).write_bytes(content.encode() if isinstance(content, str) else content)


def no_mask(data):
    write(data, {"train/masks/b.png": None})


def wrong_id(data):
    write(data, {"train/masks/b.png": mask_of(1, 4)})


def copy_in_another_split(data):
    (data / "val/images/b.png").write_bytes((data / "train/images/a.png").read_bytes())
