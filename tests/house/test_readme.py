"""README and the card say what is true: code runs, links lead somewhere, numbers are those of the result files."""

import ast
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_export import write_export

from lclipseg.__main__ import COMMANDS
from lclipseg.lab.comparisons.finished import FinishedTable
from lclipseg.lab.comparisons.grid import Comparison, ResultLines
from lclipseg.lab.comparisons.tables import summary_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD = (ROOT / "model_cards" / "lclipseg-mbv3s-camvid.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("model_cards/*.md")]


def result(name: str) -> dict:
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))["scores"]


def test_six_lines_of_python_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    code = README.split("## Six lines of Python")[1].split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(code, names)
    assert names["label_map"].shape == (540, 960)


def test_lines_that_translate_grey_masks_do_so(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_folder" / "masks" / "a.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.array([[0, 255, 7]], dtype=np.uint8)).save(path)
    exec((ROOT / "docs" / "data.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], {})
    assert np.asarray(Image.open(path)).tolist() == [[0, 1, 254]]


@pytest.mark.parametrize("vocabulary", ["open", "baked"])
@pytest.mark.parametrize("label_map", [True, False])
def test_an_export_is_run_by_the_lines_of_the_guide(monkeypatch, tmp_path, vocabulary, label_map):
    monkeypatch.chdir(tmp_path)
    image = Image.new("RGB", (90, 64), "lime")
    image.paste("blue", (0, 0, 45, 64))
    image.save("street.jpg", quality=100)
    write_export(tmp_path / "exported", vocabulary, label_map)
    guide = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8").split("## Without torch")[1].split("\n## ")[0]
    opened, mapped, prepared = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict = {}
    exec(opened + (mapped if label_map else prepared), names)
    assert names["label_map"].shape == (64, 90)
    classes = json.loads(names["notes"]["classes"])
    assert [classes[names["label_map"][30, column]] for column in (20, 70)] == ["blue", "green"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_between_files_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/{name}.md" for name in ("data", "training", "deploying", "video"))]
)
def test_commands_of_the_documents_exist(name):
    document = (ROOT / name).read_text(encoding="utf-8")
    for script in set(re.findall(r"scripts/\w+\.py", document)):
        assert (ROOT / script).is_file()
    for command in re.findall(r"(?m)^lclipseg ([a-z][a-z-]+)", document):
        assert command in COMMANDS
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", document)):
        assert f"\n{target}:" in makefile


def test_contributing_has_every_room_in_its_own_words():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "scripts" / "lclipseg").glob("*/__init__.py"):
        assert f"| `{path.parent.name}` | {ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))} |" in text


def test_readme_has_every_extra():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8").split("[options.extras_require]")[1].split("[")[0]
    for extra in re.findall(r"(?m)^(\w+) =$", setup):
        assert f"| `lclipseg[{extra}]` |" in README


def test_methods_in_the_readme_are_those_of_the_results_lines():
    finished = FinishedTable(Comparison.load("methods"), "cpu", ResultLines(ROOT / "docs/results/grid.jsonl").read())
    assert summary_table(finished) in README


def test_results_in_the_readme_and_in_the_card_are_the_measured_ones():
    name = "lclipseg-mbv3s-camvid"
    row = next(line for line in README.splitlines() if "recipes/camvid-street.yaml" in line)
    scores = result(name)
    assert f"**{100 * scores['mean_iou']:.1f}**" in row
    assert f"| {100 * result(f'{name}-flip')['mean_iou']:.1f} |" in row
    assert f"| {100 * scores['pixel_accuracy']:.1f} |" in row
    for class_name, iou in scores["per_class"].items():
        assert f"| {class_name} | {100 * iou:.2f} |" in CARD


def test_no_file_names_a_private_path():
    wrong = re.compile("/" + r"(?:work|root|home)/")
    for folder, _, files in os.walk(ROOT):
        if not {".git", ".venv", ".venv-oldest", "runs", "data"} & set(Path(folder).relative_to(ROOT).parts):
            for file in files:
                if file.endswith((".py", ".md", ".json", ".jsonl", ".yaml", ".cfg", ".toml")):
                    assert not wrong.search((Path(folder) / file).read_text(encoding="utf-8")), f"{folder}/{file}"
