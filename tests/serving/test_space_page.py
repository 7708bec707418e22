"""The Space's page in a browser, on this machine alone."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import browser
import pytest
import torch
from browser import MARKUP, PATIENCE, Keys

from modeling_lclipseg import LClipSegForSemanticSegmentation, WordBank

pytest.importorskip("gradio", reason="the page needs gradio")

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"
PHOTO = ROOT / "docs" / "demo" / "street.jpg"
TEMPLATE = "${1+1} {{value}}"

pytestmark = [pytest.mark.slow, browser.NO_BROWSER]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the shipped checkpoint, with a word bank whose words look like markup."""
    folder = tmp_path_factory.mktemp("space")
    own = LClipSegForSemanticSegmentation.from_pretrained(CHECKPOINT).class_embeddings
    road, tree = own[3], own[5]
    bank = WordBank((MARKUP, TEMPLATE), torch.stack([road, tree]))
    bank.save(folder / "words.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "scripts/space/app.py", "--model", CHECKPOINT, "--bank", folder / "words.safetensors"]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/", server, folder / "log")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(PATIENCE):
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            try:
                server.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            break
    pytest.fail(f"the page did not come up:\n{log.read_text()}")


class Visitor(browser.Visitor):
    def upload(self, path: Path) -> None:
        self.find("#image input[type=file]").send_keys(str(path))
        self.find("#image img")

    def write_classes(self, text: str) -> None:
        box = self.find("#classes textarea")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def segment(self, *classes: str) -> None:
        """Write the classes, if any, press the button and wait until what was shown before has been replaced."""
        if classes:
            self.write_classes(", ".join(classes))
        before = self.shown()
        self.find("#run").click()
        self.wait_for_another(self.shown, before)

    def shown(self) -> str:
        """Timings or notice: no two results have the same."""
        return " ".join(part.text for part in self.all("#timings p, #notice .notice"))

    def notice(self) -> str:
        return self.find("#notice .notice").text

    def overlay(self) -> str | None:
        images = self.all("#overlay img")
        return images[0].get_attribute("src") if images else None


@pytest.fixture
def visitor(address):
    with browser.browser(Visitor, "--disable-gpu") as visitor:
        visitor.driver.get(address)
        yield visitor


@pytest.fixture
def with_photo(visitor) -> Visitor:
    visitor.upload(PHOTO)
    return visitor


def test_image_is_segmented_into_the_classes_given(with_photo):
    with_photo.segment("road", "sky", "tree", "building")
    assert with_photo.overlay()
    table = {name: float(share.strip(" %")) for name, share in with_photo.table().items()}
    assert list(table.values()) == sorted(table.values(), reverse=True)
    assert set(table) == {"road", "sky", "tree", "building"}
    assert sum(table.values()) == pytest.approx(100, abs=0.3)


def test_opacity_changes_the_overlay_and_nothing_else(with_photo):
    with_photo.segment()
    overlay, shown = with_photo.overlay(), with_photo.shown()
    with_photo.find("#opacity input[type=range]").send_keys(Keys.END)
    with_photo.wait_for_another(with_photo.overlay, overlay)
    assert with_photo.shown() == shown  # another run of the network would have taken another time


def test_own_classes_come_back(visitor):
    before = visitor.find("#classes textarea").get_property("value")
    visitor.write_classes("road")
    visitor.find("#reset").click()
    assert visitor.wait(lambda: visitor.find("#classes textarea").get_property("value") == before)


def test_class_names_are_shown_as_text(with_photo):
    with_photo.segment("sky", MARKUP, TEMPLATE)
    assert set(with_photo.table()) == {"sky", MARKUP, TEMPLATE}


@pytest.mark.parametrize(
    ("classes", "said"),
    [(("road", "buildin"), "did you mean 'building'"), ((MARKUP, MARKUP), MARKUP)],
    ids=["unknown", "twice"],
)
def test_classes_that_cannot_be_used_get_a_message_that_shows_their_names_as_text(with_photo, classes, said):
    with_photo.segment(*classes)
    assert said in with_photo.notice()
    assert not with_photo.overlay()


def test_word_of_the_bank_is_found_and_added(with_photo):
    with_photo.write_classes("sky, tree")
    with_photo.find("#bank input").send_keys("b>x", Keys.ENTER)
    with_photo.segment()
    assert set(with_photo.table()) == {"sky", "tree", MARKUP}


@pytest.mark.parametrize("first", ["nothing", "the example"])
def test_broken_file_gets_a_message_in_the_page(visitor, tmp_path, first):
    if first == "the example":
        visitor.find("button.gallery-item").click()
        visitor.wait(visitor.table)
        assert visitor.overlay()
        visitor.find("#image [aria-label='Remove Image']").click()
    (tmp_path / "<i>broken.jpg").write_bytes(b"no image")
    visitor.upload(tmp_path / "<i>broken.jpg")
    visitor.segment()
    assert "not an image" in visitor.notice()
    assert str(tmp_path) not in visitor.notice()


def test_page_asks_no_other_server(with_photo):
    with_photo.segment()
    assert not [url for url in with_photo.requests() if "//127.0.0.1:" not in url]
