"""The checkpoints that ship here lead to their code and their card; test_publish_to_hub.py loads them by it."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from lclipseg.console.errors import InputError
from lclipseg.export.finish import licence_beside
from lclipseg.lab.cards import cards
from lclipseg.lab.cards.cards import CardArguments
from lclipseg.lab.cards.shipped import name_code, names_code

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))
PARTS = (("config.json", AutoModelForSemanticSegmentation), ("preprocessor_config.json", AutoImageProcessor))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.name)
def test_code_and_card_are_links_into_this_repository(folder):
    assert names_code(folder), "python scripts/cards.py"
    assert (folder / "modeling_lclipseg").resolve() == ROOT / "modeling_lclipseg"
    assert licence_beside(str(folder)) is not None


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
    (folder / "README.md").unlink()
    (folder / "config.json").write_text(before.replace("LClipSegConfig", "Another"))
    with pytest.raises(InputError, match=folder.name):
        cards.main(CardArguments(checkpoints=str(folder.parent), check=True))
    name_code(folder)
    assert names_code(folder) and (folder / "config.json").read_text() == before
