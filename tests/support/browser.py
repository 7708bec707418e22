"""Headless Chromium, driven by chromedriver, for the tests of pages; they are skipped where it cannot be had."""

import functools
import http.server
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
By = pytest.importorskip("selenium.webdriver.common.by").By
StaleElement = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
WebDriverWait = pytest.importorskip("selenium.webdriver.support.ui").WebDriverWait
Keys = webdriver.Keys

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NO_BROWSER = pytest.mark.skipif(not (DRIVER and CHROMIUM), reason="there is no chromium with chromedriver")
FLAGS = [
    "--headless", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-quic", "--disable-sync", "--window-size=1280,1000",
]  # fmt: skip
PATIENCE = 300  # seconds; the machine may be busy
MARKUP = "<b>x</b>"  # a name that would like to be more


class Visitor:
    """A browser with the page open. Selectors are those of CSS."""

    def __init__(self, driver: Any, downloads: Path):
        self.driver = driver
        self.downloads = downloads

    def wait(self, condition):
        """What `condition` says once it is true; parts that the page replaces meanwhile are read again."""
        waiting = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.2, ignored_exceptions=[StaleElement])
        return waiting.until(lambda _: condition())

    def wait_for_another(self, read, before):
        """What `read` says once it says anything but `before`."""
        return self.wait(lambda: None if read() in (before, "", None) else read())

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def find(self, selector: str):
        return self.wait(lambda: self.all(selector))[0]

    def table(self) -> dict[str, str]:
        """Share by class name, in the order of the table."""
        cells = [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in self.all("#shares tbody tr")]
        return {name: share for name, share, _ in cells}

    def requests(self) -> set[str]:
        """All addresses that were asked for over a network."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        urls = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        return {url for url in urls if url.startswith(("http", "ws"))}


@contextmanager
def browser(visitor: type[Visitor], *flags: str) -> Iterator[Any]:
    """A browser of its own, closed in the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        downloads = Path(folder) / "downloads"
        downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        for flag in [*FLAGS, *flags, f"--user-data-dir={folder}/profile"]:
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield visitor(driver, downloads)
        finally:
            driver.quit()


@contextmanager
def served(folder: Path, headers: dict[str, str] | None = None):
    """The address of a static host, as `python -m http.server` is one, that sends some headers with every file."""

    class Host(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def end_headers(self):
            for header in (headers or {}).items():
                self.send_header(*header)
            super().end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Host, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
