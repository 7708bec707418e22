"""How a trained cell is scored: on its own classes, on classes that it did not see, or on data sets by their words."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lclipseg.data.class_list import CLASSES_FILE, ClassList
from lclipseg.lab.comparisons.grid import Cell
from modeling_lclipseg.names_lclipseg import fold_name

CALIBRATIONS = ("0", "0.5", "1", "1.5", "2", "3", "4")

Runner = Callable[[str, list[str]], None]  # a script, and what it is told


def score_cell(cell: Cell, folder: Path, data_root: str, words: list[str], run: Runner) -> dict[str, Any]:
    """
    What the results line says of the scores; whatever the cell is not scored by is `None` there.

    Args:
        cell ([`Cell`]): What was trained.
        folder (`Path`): Its run.
        data_root (`str`): Folder of the prepared data sets.
        words (`list[str]`): `--bank FILE`, or nothing.
        run (`Callable`): Runs a script.

    Returns:
        `dict`: `scores` (of the cell's own test split), `zero_shot` (seen and unseen classes) and `asked` (by data
        set).
    """
    checkpoint, scores = str(folder / "last"), folder / "scores"
    if cell.asked:
        own = _known_words(data_root, cell.trained_on)
        asked = {}
        for name in cell.asked:
            told = ["--data", f"{data_root}/{name}", "--split", "test", "--classes-from", "data", *words]
            run("evaluate.py", [checkpoint, *told, "--out", str(scores / name)])
            result = _read(scores / name / "evaluation.json")["scores"]
            classes = ClassList.load(Path(data_root, name, CLASSES_FILE))
            asked[name] = {
                "mean_iou": result["mean_iou"],
                "per_class": result["per_class"],
                "seen": [
                    label
                    for label, prompts in zip(classes.names, classes.prompts, strict=True)
                    if any(fold_name(word) in own for word in prompts)
                ],
            }
        return {"scores": None, "zero_shot": None, "asked": asked}
    on_test = ["--data", f"{data_root}/{cell.data}", "--split", "test"]
    if cell.held_out is None:
        run("evaluate.py", [checkpoint, *on_test, "--out", str(scores)])
        return {"scores": _read(scores / "evaluation.json")["scores"], "zero_shot": None, "asked": None}
    out = folder / "zero_shot.json"
    unseen = ["--unseen", str(cell.held_out_file), "--calibration", *CALIBRATIONS]
    run("zero_shot.py", [checkpoint, *on_test, *words, *unseen, "--out", str(out)])
    return {"scores": None, "zero_shot": {key: _read(out)[key] for key in ("unseen", "rows")}, "asked": None}


def headline(line: Mapping[str, Any]) -> str:
    """The scores of a results line in a few words."""
    if line["asked"] is not None:
        return ", ".join(f"{name} {100 * scores['mean_iou']:.1f}" for name, scores in line["asked"].items())
    if line["zero_shot"] is None:
        return f"test mIoU {100 * line['scores']['mean_iou']:.2f}"
    plain = line["zero_shot"]["rows"][0]
    return f"seen {100 * plain['seen_mean_iou']:.2f}, unseen {100 * plain['unseen_mean_iou']:.2f}"


def _known_words(data_root: str, names: Sequence[str]) -> set[str]:
    """Folded, every word that stands for a class of one of these data sets."""
    lists = [ClassList.load(Path(data_root, name, CLASSES_FILE)) for name in names]
    return {fold_name(word) for one in lists for prompts in one.prompts for word in prompts}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
