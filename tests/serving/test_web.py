"""The page in the browser, without a browser: its own tests under node, and what it must do as Python does."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name
from modeling_lclipseg.visualization_lclipseg import class_palette, class_shares, to_indexed_image

WEB = Path(__file__).resolve().parents[2] / "scripts" / "web"
NODE = shutil.which("node")
NAMES = ["Sky", "  traffic \t light ", "STRASSE", "Straße", "ÄRGER", "<b>x</b>"]
IDS = np.random.default_rng(0).integers(0, 11, (8, 4)).astype(np.uint8)  # shares in 32nds, which are exact
SCORES = np.random.default_rng(1).integers(0, 8, IDS.shape) / 2  # some are just the least
LEAST = 1.5
ABOVE = np.where(SCORES >= LEAST, IDS, np.int16(-1))


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """`node --test` in scripts/web, and the folder with what Python does and the label map that the page writes."""
    if not NODE:
        pytest.skip("there is no node")
    folder = tmp_path_factory.mktemp("web")
    bank = WordBank(("sky", "<b>x</b>", "Straße"), torch.randn(3, 6))
    bank.save(folder / "words.safetensors")
    tensors = load_file(folder / "words.safetensors")
    save_file({**tensors, "class_center": torch.arange(6.0)}, folder / "words.safetensors")
    expected = {
        "palettes": [class_palette(count).tolist() for count in (1, 256, 11)],
        "folded": {name: fold_name(name) for name in NAMES},
        "ids": IDS.tolist(),
        "shares": [{"id": at.class_id, "share": at.share} for at in class_shares(IDS, dict(enumerate("abcdefghijk")))],
        "scores": SCORES.tolist(),
        "least": LEAST,
        "above": np.asarray(to_indexed_image(ABOVE)).tolist(),
        "shares_above": [
            {"id": 255 if at.class_id is None else at.class_id, "share": at.share}
            for at in class_shares(ABOVE, dict(enumerate("abcdefghijk")))
        ],
        "vectors": dict(zip(bank.names, bank.embeddings.tolist(), strict=True)),
        "center": torch.arange(6.0).tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    environment = {**os.environ, "LCLIPSEG_WEB_EXPECTED": str(folder)}
    done = subprocess.run([NODE, "--test"], cwd=WEB, env=environment, capture_output=True, text=True, timeout=300)
    return done, folder


def test_page_passes_its_own_tests_and_skips_none(ran):
    done, _ = ran
    assert done.returncode == 0, done.stdout
    assert "skipped 0" in done.stdout


def test_label_map_that_the_page_writes_is_pythons(ran):
    image = Image.open(ran[1] / "label_map.png")
    assert image.mode == "P"
    assert np.array_equal(np.array(image), IDS)
    assert np.array_equal(np.array(image.convert("RGB")), np.array(to_indexed_image(IDS).convert("RGB")))
