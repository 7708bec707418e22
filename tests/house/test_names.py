"""Names of classes and files are text: no document, image, terminal or path ever reads them as anything else.

Cards: test_cards.py; the Space: test_space.py and test_space_page.py; the page in the browser: test_web_page.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_names import HOSTILE, rendered
from photos import save_photo
from PIL import Image
from tiny_model import save_checkpoint, tiny_model

from lclipseg.console import errors as cli
from lclipseg.console.frame import run_command
from lclipseg.data.class_list import ClassList
from lclipseg.prediction.arguments import EvaluateArguments, SegmentArguments
from lclipseg.prediction.files import segment_files
from lclipseg.prediction.scoring import score
from modeling_lclipseg import draw_overlay

TRAVERSING = [
    "../../outside",
    "/tmp/absolute",
    "C:\\x",
    "..",
    "a/b",
    "CON",
    "x" * 5000,
    "{name}",
    "%s %n",
    "$(touch x)",
]
NAMES = [*HOSTILE, *TRAVERSING, "[bold]rich[/bold]", "[/]", "\u202eright to left", "naïve 北京 🚲"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint whose classes have the names."""
    model = tiny_model().set_classes(NAMES, torch.ones(len(NAMES), 32).cumsum(0).sin())
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), model, shortest_edge=64)


@pytest.fixture
def photo(tmp_path) -> Path:
    return save_photo(tmp_path / "[red]photo <b> $(x) .png", (64, 64))


def test_segment_keeps_the_names_and_writes_its_three_files_alone(checkpoint, photo, tmp_path, capsys):
    before = set(tmp_path.rglob("*"))
    assert segment_files([str(photo)], SegmentArguments(model=str(checkpoint), out=str(tmp_path / "out"))) == 0
    record = json.loads((tmp_path / "out" / f"{photo.stem}.json").read_text(encoding="utf-8"))
    assert list(record["id2label"].values()) == NAMES
    assert len(set(tmp_path.rglob("*")) - before) == 4  # the folder and its files
    assert str(photo) in capsys.readouterr().out


def test_evaluation_shows_the_names_letter_by_letter(checkpoint, photo, tmp_path, capsys):
    data = tmp_path / "[data] <i>"
    for part in ("images", "masks"):
        (data / "test" / part).mkdir(parents=True)
    (data / "classes.json").write_text(json.dumps(NAMES))
    photo.rename(data / "test" / "images" / "a.png")
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64) % len(NAMES)).save(data / "test/masks/a.png")
    score(str(checkpoint), EvaluateArguments(data=str(data), out=str(tmp_path / "out")))
    page = rendered((tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8"))
    assert page.tags == {"h1", "p", "table", "thead", "tbody", "tr", "th", "td"}
    assert str(data) in page.text
    assert all(name in page.text for name in NAMES if name.isprintable())
    assert list(json.loads((tmp_path / "out" / "evaluation.json").read_text())["scores"]["per_class"]) == NAMES
    assert "[bold]rich[/bold]" in capsys.readouterr().out


def test_legend_is_drawn_and_class_list_comes_back_with_any_name(tmp_path):
    for name in NAMES:
        assert draw_overlay(Image.new("RGB", (50, 50)), np.zeros((50, 50), dtype=int), {0: name}).width > 50
    ClassList.parse(NAMES, "x").save(tmp_path / "classes.json")
    assert ClassList.load(tmp_path / "classes.json").names == tuple(NAMES)


def test_terminal_is_not_steered_by_a_name(capsys):
    def fail() -> None:
        raise cli.InputError("x\x1b[2J.png: broken\x07\nand this is the second line")

    with pytest.raises(SystemExit):
        run_command(fail)
    assert capsys.readouterr().err == "error: x\\x1b[2J.png: broken\\x07\nand this is the second line\n"
