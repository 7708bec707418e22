"""The checkpoints that ship here, loaded as a stranger does: by the code that each folder leads to."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from stranger import load_elsewhere
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from lclipseg.lab.cards import cards
from lclipseg.lab.cards.cards import CardArguments
from lclipseg.lab.cards.shipped import name_code, names_code

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))
PARTS = (("config.json", AutoModelForSemanticSegmentation), ("preprocessor_config.json", AutoImageProcessor))


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[Path, dict]:
    """What a stranger gets from each folder, offline."""
    sources = map(str, SHIPPED)
    return dict(
        zip(SHIPPED, load_elsewhere(tmp_path_factory.mktemp("stranger"), *sources, HF_HUB_OFFLINE="1"), strict=True)
    )


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_stranger_s_auto_classes_give_the_same_logits(found, folder):
    inputs = AutoImageProcessor.from_pretrained(folder)(Image.new("RGB", (96, 64), "green"), return_tensors="pt")
    with torch.no_grad():
        expected = AutoModelForSemanticSegmentation.from_pretrained(folder)(**inputs).logits
    given = found[folder]
    assert all(name.startswith(("transformers_modules.", "transformers.pipelines")) for name in given["modules"])
    torch.testing.assert_close(given["logits"], expected, atol=1e-4, rtol=1e-3)  # threads may differ, so rounding does
    assert given["base_state"].keys() == given["state"].keys()
    assert given["labels"]


def test_what_a_stranger_saves_is_loaded_by_its_own_code(found):
    given = found[SHIPPED[0]]
    saved = given["saved"]
    torch.testing.assert_close(saved["logits"], given["logits"], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(saved["processor_pixel_values"], given["pixel_values"])
    assert not any("lclipseg_hyphen_" in name for name in saved["modules"])  # as their folders' code is called


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_code_is_a_link_into_this_repository(folder):
    assert names_code(folder), "python scripts/cards.py"
    assert (folder / "modeling_lclipseg").resolve() == ROOT / "modeling_lclipseg"


@pytest.mark.parametrize(("file", "part"), PARTS)
def test_folder_without_code_names_none(tmp_path, file, part):
    """What an installed package saves, whatever the checkpoint said that it began with."""
    assert "auto_map" in json.loads((SHIPPED[0] / file).read_text())
    part.from_pretrained(SHIPPED[0]).save_pretrained(tmp_path)
    assert "auto_map" not in json.loads((tmp_path / file).read_text())


def test_checkpoint_without_its_code_is_found_and_mended(tmp_path):
    folder = Path(shutil.copytree(SHIPPED[0], tmp_path / "checkpoints" / SHIPPED[0].name, symlinks=True))
    before = (folder / "config.json").read_text()
    (folder / "modeling_lclipseg").unlink()
    (folder / "config.json").write_text(before.replace("LClipSegConfig", "Another"))
    with pytest.raises(InputError, match=folder.name):
        cards.main(CardArguments(checkpoints=str(folder.parent), check=True))
    name_code(folder)
    assert names_code(folder) and (folder / "config.json").read_text() == before
