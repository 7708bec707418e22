"""The page in the browser on real images, held against Python."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest
from browser import MARKUP, Keys, served, webdriver
from PIL import ExifTags, Image

from lclipseg.networks.checkpoints import load_model
from lclipseg.prediction.segment import segment_images
from modeling_lclipseg import WordBank
from modeling_lclipseg.visualization_lclipseg import draw_overlay

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "scripts" / "web"
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"
EXPORT = ["--format", "onnx", "--vocabulary", "open", "--label_map", "true"]
PHOTO = ROOT / "docs" / "demo" / "street.jpg"
NODE = shutil.which("node")
NO_GPU = ["--disable-gpu"]
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
AGREEMENT = 0.99  # of the pixels, with Python: images are decoded and sums are added in another order

pytestmark = [
    pytest.mark.slow,
    browser.NO_BROWSER,
    pytest.mark.skipif(not NODE, reason="there is no node"),
    pytest.mark.skipif(
        not (WEB / "node_modules" / "onnxruntime-web").is_dir(), reason="run `npm ci` in scripts/web first"
    ),
]


ISOLATED = {  # without them a browser shares no memory between threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
POLICY = re.search(r'Content-Security-Policy" content="([^"]+)"', (WEB / "index.html").read_text())[1]
GOVERNED = {**ISOLATED, "Content-Security-Policy": POLICY}  # as README.md advises: it governs the worker, too


@pytest.fixture(scope="module")
def model():
    return load_model(CHECKPOINT)


@pytest.fixture(scope="module")
def site(tmp_path_factory, model):
    """The page with the shipped checkpoint, and beside it a word bank with a word that looks like markup."""
    pytest.importorskip("onnxscript", reason="the export needs the extra `export`")
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([NODE, WEB / "build.mjs", folder], check=True, timeout=120)
    command = [sys.executable, "scripts/export.py", CHECKPOINT, "--out", folder / "model", *EXPORT]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    own = model[0].class_embeddings
    WordBank((MARKUP, "lane"), own[[3, 5]]).save(folder / "words.safetensors")
    return folder


@pytest.fixture(scope="module")
def address(site):
    with served(site) as url:
        yield url


class Visitor(browser.Visitor):
    def open(self, url: str) -> "Visitor":
        self.driver.get(url)
        self.wait(lambda: self.text("status").startswith("Ready") or self.text("notice"))
        return self

    def text(self, element_id: str) -> str:
        return self.find(f"#{element_id}").text

    def result_of(self, action) -> str:
        """The latency after `action`, once another result than before is shown; no two take the same time."""
        before = self.text("latency")
        action()
        return self.wait(lambda: self.text("latency") != before and not self.all("body.busy") and self.text("latency"))

    def notice_after(self, action) -> str:
        action()
        return self.wait(lambda: self.text("notice"))

    def choose(self, *paths: Path, element_id: str = "file") -> None:
        self.find(f"#{element_id}").send_keys("\n".join(map(str, paths)))

    def show(self, path: Path) -> str:
        """Choose an image and wait for its result; the latency."""
        return self.result_of(lambda: self.choose(path))

    def press(self, element_id: str) -> None:
        self.find(f"#{element_id}").click()

    def chip(self, name: str):
        return next(chip for chip in self.all("#chips button") if chip.text == name)

    def add_word(self, word: str) -> None:
        self.find("#word").send_keys(word, Keys.ENTER)

    def saved(self, button: str) -> Image.Image:
        """The image that a button saves."""
        for path in self.downloads.iterdir():
            path.unlink()
        self.press(button)
        path = self.wait(lambda: next(iter(self.downloads.glob("*.png")), None))
        image = Image.open(path)
        image.load()
        return image


@pytest.fixture
def browse():
    """Starts a browser with some flags; all of them are closed in the end."""
    with contextlib.ExitStack() as open_ones:
        yield lambda *flags: open_ones.enter_context(browser.browser(Visitor, *flags))


@pytest.fixture
def visitor(browse, address):
    return browse(*NO_GPU).open(address)


@pytest.fixture
def with_photo(visitor):
    visitor.show(PHOTO)
    return visitor


@pytest.fixture
def with_webgpu(browse, address):
    """Opens the page with a backend; the test is skipped where the machine has no WebGPU."""

    def opened(backend: str) -> Visitor:
        visitor = browse(*SOFTWARE_GPU).open(f"{address}?backend={backend}")
        if "WebGPU failed" in visitor.text("backend"):
            pytest.skip(f"this machine has no WebGPU: {visitor.text('backend')}")
        return visitor

    return opened


def in_python(model, path: Path, ids: list[int] | None = None, least: float | None = None) -> np.ndarray:
    """The mask that Python makes of an image file, of all of the checkpoint's classes or some of them."""
    network, image_processor = model
    ids = ids or list(range(len(network.class_embeddings)))
    vectors = network.class_embeddings[ids]
    image = Image.open(path)
    (label_map,) = segment_images(network, image_processor, [image], class_embeddings=vectors, least_score=least)
    return np.array([*ids, 255])[label_map.numpy()]  # -1, no class, is the last one


def agreement(visitor: Visitor, expected: np.ndarray) -> float:
    """Part of the pixels in which the label map that the page saves is `expected`."""
    mask = visitor.saved("save-mask")
    assert mask.mode == "P"
    assert (mask.height, mask.width) == expected.shape
    return float((np.array(mask) == expected).mean())


def photo_as_png(folder: Path) -> Path:
    Image.open(PHOTO).save(folder / "street.png")
    return folder / "street.png"


def photo_lying_on_its_side(folder: Path) -> Path:
    """Turned, with the EXIF orientation that turns it back."""
    turned = Image.open(PHOTO).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    return folder / "turned.jpg"


def photo_with_a_hole(folder: Path) -> Path:
    photo = Image.open(PHOTO).convert("RGBA")
    photo.paste((0, 0, 0, 0), (300, 100, 700, 300))
    photo.save(folder / "hole.png")
    return folder / "hole.png"


@pytest.mark.parametrize("make", [lambda folder: PHOTO, photo_as_png, photo_lying_on_its_side, photo_with_a_hole])
def test_label_map_is_pythons(visitor, model, tmp_path, make):
    path = make(tmp_path)
    visitor.show(path)
    assert agreement(visitor, in_python(model, path)) >= AGREEMENT


def test_label_map_of_other_classes_is_pythons(with_photo, model):
    for name in ("tree", "sky"):
        with_photo.result_of(with_photo.chip(name).click)
    ids = [id_ for id_, name in model[0].config.id2label.items() if name not in ("tree", "sky")]
    assert agreement(with_photo, in_python(model, PHOTO, ids)) >= AGREEMENT


def test_pixels_below_the_least_score_are_those_of_python(with_photo, model):
    latency = with_photo.text("latency")
    move = "arguments[0].value = 6; arguments[0].dispatchEvent(new Event('input'))"
    with_photo.driver.execute_script(move, with_photo.find("#least"))
    expected = in_python(model, PHOTO, least=6)
    assert with_photo.text("least-value") == "6.0" and "none of these" in with_photo.table()
    assert 0 < (expected == 255).mean() < 1 and agreement(with_photo, expected) >= AGREEMENT
    assert with_photo.text("latency") == latency  # no network ran


def test_label_map_by_webgpu_is_pythons(with_webgpu, model):
    visitor = with_webgpu("webgpu")
    visitor.show(PHOTO)
    assert visitor.text("backend") == "Runs on: WebGPU."
    assert agreement(visitor, in_python(model, PHOTO)) >= AGREEMENT


def test_backend_that_is_slower_on_a_trial_image_is_not_taken(with_webgpu):
    visitor = with_webgpu("fastest")
    taken = re.search(r"took (\d+) ms on WebGPU and (\d+) ms on WebAssembly", visitor.text("backend"))
    webgpu, webassembly = map(int, taken.groups())
    visitor.show(PHOTO)
    assert visitor.text("backend").startswith(f"Runs on: {'WebGPU' if webgpu < webassembly else 'WebAssembly'}")


def test_where_webgpu_fails_webassembly_takes_over(browse, address):
    visitor = browse(*NO_GPU).open(f"{address}?backend=webgpu")
    assert "WebAssembly" in visitor.text("backend")
    assert "WebGPU failed" in visitor.text("backend")
    visitor.show(PHOTO)
    assert visitor.table()


def test_overlay_is_pythons(with_photo):
    label_map, overlay = np.array(with_photo.saved("save-mask")), with_photo.saved("save-overlay").convert("RGB")
    names = dict(enumerate(chip.text for chip in with_photo.all("#chips button")))
    expected = draw_overlay(Image.open(PHOTO), label_map, names, opacity=0.6, legend=False)
    difference = np.abs(np.array(overlay, dtype=int) - np.array(expected, dtype=int))
    assert difference.mean() < 1
    assert (difference > 4).mean() < 0.001


def test_opacity_runs_no_network(visitor):
    latency = visitor.show(PHOTO)
    visitor.find("#opacity").send_keys(Keys.END)
    assert visitor.text("opacity-value") == "100 %"
    tint = np.array(visitor.saved("save-overlay").convert("RGB"))
    mask = visitor.saved("save-mask")
    assert np.array_equal(tint, np.array(mask.convert("RGB")))
    assert visitor.text("latency") == latency  # another run of the network would have taken another time


def test_large_image_is_worked_on_smaller(visitor, tmp_path):
    Image.open(PHOTO).resize((3200, 1800)).save(tmp_path / "large.jpg")
    latency = visitor.show(tmp_path / "large.jpg")
    assert "Worked on at 1600 x 900 of 3200 x 1800 pixels" in latency
    assert visitor.saved("save-mask").size == (1600, 900)


def test_broken_file_gets_a_message_that_shows_its_name_as_text(visitor, tmp_path):
    (tmp_path / "<b>x<b>.jpg").write_bytes(b"no image")
    notice = visitor.notice_after(lambda: visitor.choose(tmp_path / "<b>x<b>.jpg"))
    assert notice.startswith("<b>x<b>.jpg is not an image")


def test_class_name_is_shown_as_text(with_photo):
    with_photo.result_of(with_photo.chip("road").click)
    with_photo.result_of(lambda: with_photo.add_word(MARKUP))  # it has the vector of the road
    assert MARKUP in with_photo.table()
    assert with_photo.chip(MARKUP)
    assert not with_photo.all("b")


def test_word_bank_is_searched_and_its_words_are_buttons(with_photo):
    with_photo.find("#word").send_keys("an")
    (match,) = with_photo.all("#matches button")
    assert match.text == "lane"
    with_photo.result_of(match.click)
    assert with_photo.chip("lane").get_attribute("aria-pressed") == "true"
    with_photo.result_of(with_photo.find("#reset").click)
    assert "lane" not in with_photo.text("chips")


def test_word_bank_of_the_visitor_is_used(visitor, model, tmp_path):
    WordBank(("meadow",), model[0].class_embeddings[[5]]).save(tmp_path / "mine.safetensors")
    visitor.choose(tmp_path / "mine.safetensors", tmp_path / "mine_names.json", element_id="bank")
    visitor.wait(lambda: visitor.text("bank-about") == "mine.safetensors: 1 words.")
    visitor.add_word("Meadow")
    assert visitor.wait(lambda: visitor.chip("meadow"))


def test_last_class_stays(visitor):
    _, *others = visitor.all("#chips button")
    for name in [chip.text for chip in others]:
        visitor.chip(name).click()
    assert "At least one class must stay" in visitor.notice_after(visitor.all("#chips button")[0].click)


def test_same_image_can_be_chosen_again(with_photo):
    with_photo.result_of(with_photo.find("#example").click)
    assert with_photo.find("#file").get_property("value") == ""  # else choosing the same file again is no change
    assert with_photo.show(PHOTO)


def test_file_that_cannot_be_saved_gets_a_message(with_photo):
    with_photo.driver.execute_script("delete globalThis.CompressionStream")
    assert "no CompressionStream" in with_photo.notice_after(with_photo.find("#save-mask").click)


def test_class_under_the_pointer_is_named(with_photo):
    tint = with_photo.find("#tint")
    pointer = webdriver.ActionChains(with_photo.driver)
    pointer.move_to_element_with_offset(tint, 0, int(tint.size["height"] * 0.4)).perform()
    assert with_photo.wait(lambda: with_photo.text("pointed")) == "road"


FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def test_camera_is_segmented_frame_by_frame(browse, address):
    visitor = browse(*NO_GPU, *FAKE_CAMERA).open(address)
    visitor.press("camera")
    visitor.wait(lambda: "frames a second" in visitor.text("status"))
    assert visitor.result_of(lambda: None)  # the next frame
    visitor.press("camera")
    visitor.wait(lambda: visitor.text("camera") == "Camera")
    assert visitor.saved("save-mask").size == (640, 480)


@pytest.fixture
def with_camera(browse, address):
    """Whose camera is allowed by a call of `allow`, see slow_camera.js."""
    visitor = browse(*NO_GPU, *FAKE_CAMERA).open(address)
    visitor.driver.execute_script((WEB / "tests" / "slow_camera.js").read_text())
    return visitor


def running(visitor) -> list[bool]:
    """Of every stream of the camera that was opened, whether it runs."""
    return visitor.driver.execute_script("return running()")


def test_second_click_before_the_camera_is_allowed_takes_the_first_back(with_camera):
    for _ in range(3):
        with_camera.press("camera")
    assert with_camera.driver.execute_script("return allow.length") == 2
    with_camera.driver.execute_script("allow[0](); allow[1]()")
    with_camera.wait(lambda: "frames a second" in with_camera.text("status"))
    assert sorted(running(with_camera)) == [False, True]
    with_camera.press("camera")
    assert with_camera.text("camera") == "Camera"
    assert running(with_camera) == [False, False]
    assert not with_camera.text("notice")


def test_image_that_is_chosen_while_the_camera_starts_takes_its_place(with_camera):
    with_camera.press("camera")
    with_camera.show(PHOTO)
    with_camera.driver.execute_script("allow[0]()")
    with_camera.wait(lambda: running(with_camera) == [False])
    assert with_camera.text("camera") == "Camera"
    assert not with_camera.text("notice")
    assert with_camera.saved("save-mask").size == Image.open(PHOTO).size


def test_front_camera_is_shown_as_in_a_mirror(browse, address):
    two = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream=device-count=2"]
    visitor = browse(*NO_GPU, *two)
    script = (WEB / "tests" / "phone_cameras.js").read_text()
    visitor.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    visitor.open(address).press("camera")
    for mirrored in (False, True):
        visitor.wait(lambda: "frames a second" in visitor.text("status"))
        assert bool(visitor.all("#stage.mirrored")) == mirrored
        visitor.press("other-camera")
    assert visitor.driver.execute_script("return wanted") == ["environment", "user", "environment"]


def test_camera_is_released_when_the_page_is_hidden(with_camera):
    with_camera.press("camera")
    with_camera.driver.execute_script("allow[0]()")
    with_camera.wait(lambda: running(with_camera) == [True])
    page = with_camera.driver.current_window_handle
    with_camera.driver.switch_to.new_window("tab")
    with_camera.driver.switch_to.window(page)
    assert with_camera.wait(lambda: running(with_camera) == [False])
    assert with_camera.text("status") == "The camera was stopped, as this page was hidden."


def test_camera_that_gives_no_image_is_switched_off(with_camera):
    with_camera.driver.execute_script("HTMLMediaElement.prototype.play = () => Promise.reject(new Error('no image'))")
    with_camera.press("camera")
    notice = with_camera.notice_after(lambda: with_camera.driver.execute_script("allow[0]()"))
    assert "The camera cannot be used: no image" in notice
    assert with_camera.text("camera") == "Camera"
    assert running(with_camera) == [False]


def test_browser_without_webassembly_gets_a_message(browse, address):
    visitor = browse(*NO_GPU)
    visitor.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": "delete globalThis.WebAssembly"}
    )
    assert "no WebAssembly" in visitor.open(address).text("notice")


def test_threads_are_used_where_the_host_isolates_the_page(browse, site):
    with served(site, ISOLATED) as url:
        visitor = browse(*NO_GPU).open(url)
        threads = min(4, visitor.driver.execute_script("return navigator.hardwareConcurrency"))
        assert f"WebAssembly, {threads} thread" in visitor.text("backend")


def test_policy_may_govern_the_worker_too(browse, site):
    with served(site, GOVERNED) as url:
        visitor = browse(*NO_GPU).open(url)
        visitor.show(PHOTO)
        assert visitor.table()


def test_page_asks_no_other_server(visitor, address):
    visitor.result_of(visitor.find("#example").click)
    asked = visitor.requests()
    assert any(url.endswith("model.onnx") for url in asked)
    assert not [url for url in asked if not url.startswith(address)]


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(visitor, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    visitor.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    visitor.result_of(visitor.find("#example").click)
    assert visitor.driver.execute_script("return document.documentElement.scrollWidth") <= width
