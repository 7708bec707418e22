"""The Space's page in a browser: headless Chromium, driven by chromedriver, on this machine alone."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch

from modeling_lclipseg import LClipSegForSemanticSegmentation, WordBank

pytest.importorskip("gradio", reason="the page needs gradio")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
By = pytest.importorskip("selenium.webdriver.common.by").By
StaleElement = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
Keys = webdriver.Keys

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"
PHOTO = ROOT / "docs" / "demo" / "street.jpg"
DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
]
PATIENCE = 120  # seconds; the machine may be busy
MARKUP = "<b>x</b>"
TEMPLATE = "${1+1} {{value}}"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DRIVER and CHROMIUM), reason="there is no chromium with chromedriver"),
]


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


class Visitor:
    """A browser with the page open."""

    def __init__(self, driver):
        self.driver = driver

    def find(self, selector: str):
        return self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector))[0]

    def wait(self, condition):
        """What `condition` says once it is true; parts that the page replaces meanwhile are read again."""
        return WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElement]).until(lambda _: condition())

    def wait_for_another(self, read, before):
        """What `read` says once it says anything but `before`."""
        return self.wait(lambda: None if read() in (before, "", None) else read())

    def upload(self, path: Path) -> None:
        self.find("#image input[type=file]").send_keys(str(path))
        self.find("#image img")

    def write_classes(self, text: str) -> None:
        box = self.find("#classes textarea")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)

    def segment(self) -> None:
        """Press the button and wait until what was shown before has been replaced."""
        before = self.shown()
        self.find("#run").click()
        self.wait_for_another(self.shown, before)

    def shown(self) -> str:
        """Timings or notice: no two results have the same."""
        parts = self.driver.find_elements(By.CSS_SELECTOR, "#timings p, #notice .notice")
        return " ".join(part.text for part in parts)

    def overlay(self) -> str | None:
        images = self.driver.find_elements(By.CSS_SELECTOR, "#overlay img")
        return images[0].get_attribute("src") if images else None

    def table(self) -> dict[str, float]:
        """Share in percent by class name, in the order of the table."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#shares tbody tr")
        cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]
        return {name: float(re.sub(r"[^\d.]", "", share)) for name, share, _ in cells}

    def external_requests(self) -> set[str]:
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        urls = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        return {url for url in urls if url.startswith(("http", "ws")) and "//127.0.0.1:" not in url}


@pytest.fixture
def visitor(address):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            driver.get(address)
            yield Visitor(driver)
        finally:
            driver.quit()


def test_image_is_segmented_into_the_classes_given(visitor):
    visitor.upload(PHOTO)
    visitor.write_classes("road, sky, tree, building")
    visitor.segment()
    assert visitor.overlay()
    table = visitor.table()
    assert list(table.values()) == sorted(table.values(), reverse=True)
    assert set(table) == {"road", "sky", "tree", "building"}
    assert sum(table.values()) == pytest.approx(100, abs=0.3)


def test_opacity_changes_the_overlay_and_nothing_else(visitor):
    visitor.upload(PHOTO)
    visitor.segment()
    overlay, shown = visitor.overlay(), visitor.shown()
    slider = visitor.find("#opacity input[type=range]")
    slider.send_keys(Keys.END)
    visitor.wait_for_another(visitor.overlay, overlay)
    assert visitor.shown() == shown  # another run of the network would have taken another time


def test_unknown_word_gets_a_message_in_the_page(visitor):
    visitor.upload(PHOTO)
    visitor.write_classes("road, buildin")
    visitor.segment()
    message = visitor.find("#notice .notice").text
    assert "no vector for 'buildin'" in message
    assert "did you mean 'building'" in message
    assert not visitor.overlay()


def test_own_classes_come_back(visitor):
    before = visitor.find("#classes textarea").get_property("value")
    visitor.write_classes("road")
    visitor.find("#reset").click()
    assert visitor.wait(lambda: visitor.find("#classes textarea").get_property("value") == before)


def test_class_names_are_shown_as_text(visitor):
    visitor.upload(PHOTO)
    visitor.write_classes(f"sky, {MARKUP}, {TEMPLATE}")
    visitor.segment()
    assert set(visitor.table()) == {"sky", MARKUP, TEMPLATE}


def test_class_names_in_messages_are_shown_as_text(visitor):
    visitor.upload(PHOTO)
    visitor.write_classes(f"{MARKUP}, {MARKUP}")
    visitor.segment()
    assert MARKUP in visitor.find("#notice .notice").text


def test_word_of_the_bank_is_found_and_added(visitor):
    visitor.upload(PHOTO)
    visitor.write_classes("sky, tree")
    visitor.find("#bank input").send_keys("b>x", Keys.ENTER)
    visitor.segment()
    assert set(visitor.table()) == {"sky", "tree", MARKUP}


def test_broken_file_gets_a_message_in_the_page(visitor, tmp_path):
    broken = tmp_path / "<i>broken.jpg"
    broken.write_bytes(b"no image")
    visitor.upload(broken)
    visitor.segment()
    message = visitor.find("#notice .notice").text
    assert "not an image" in message
    assert str(tmp_path) not in message


def test_broken_file_after_the_example_gets_a_message_too(visitor, tmp_path):
    visitor.find("button.gallery-item").click()
    visitor.wait(visitor.table)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    visitor.find("#image [aria-label='Remove Image']").click()
    visitor.upload(tmp_path / "broken.jpg")
    visitor.segment()
    assert "not an image" in visitor.find("#notice .notice").text


def test_example_is_segmented_by_one_click(visitor):
    visitor.find("button.gallery-item").click()
    visitor.wait(visitor.table)
    assert visitor.overlay()


def test_page_asks_no_other_server(visitor):
    visitor.upload(PHOTO)
    visitor.segment()
    assert visitor.external_requests() == set()
