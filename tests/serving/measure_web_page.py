"""How fast exports run in a browser: not a test, but where the table in docs/deploying.md is from.

    python tests/serving/measure_web_page.py EXPORT EXPORT --rounds 15

The exports (`lclipseg export --vocabulary open --label_map`) take turns in the page's own worker in headless Chromium,
on a photograph of 512x512 pixels, by WebAssembly: with one thread, and with as many as the machine has processors (up
to 4) on a host that isolates the page. Printed are the
medians and quartiles of the milliseconds of a run by the clock, the processor time of a run, all of the browser's
processes taken together, and how many times as much of it as the first export each takes, as the median of the rounds'
own ratios: other work on the machine lengthens it less. `--webgpu` compares WebGPU's
label maps with WebAssembly's instead, by a software adapter, whose speed says nothing. It needs chromium with
chromedriver, `pip install selenium`, and `npm ci` in scripts/web.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests" / "support")]

import browser  # noqa: E402

from lclipseg.lab.timing.stopwatch import Ratio, Timing  # noqa: E402

SIDE, WARM_UP, RUNS = 512, 2, 5  # rounds that do not count, and runs of a round
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
OPEN = """
const [folder, backend, classes] = arguments;
(async () => {
  const [{ Segmenter }, { readWordBank }] = await Promise.all([import("./segmenter.js"), import("./word_bank.js")]);
  const read = (name) => fetch(new URL(`${folder}/${name}`, location.href));
  const names = await (await read("class_embeddings_names.json")).text();
  const vectorsFile = await (await read("class_embeddings.safetensors")).arrayBuffer();
  const bank = readWordBank(vectorsFile, names, "class_embeddings.safetensors");
  const chosen = bank.vectors.slice(0, classes);
  const values = new Float32Array(chosen.length * bank.width);
  chosen.forEach((vector, row) => values.set(vector, row * bank.width));
  const segmenter = new Segmenter();
  const vectors = { values, count: chosen.length, width: bank.width };
  const opened = await segmenter.open(await (await read("model.onnx")).arrayBuffer(), vectors, backend);
  const { InputImage } = await import("./image.js");
  const pixels = (await InputImage.decode(await (await fetch("photo.png")).blob(), "photo")).prepare();
  (window.opened ??= []).push({ segmenter, vectors, pixels });
  return opened;
"""
RUN = """
const [index, maps, runs] = arguments;
(async () => {
  const { segmenter, vectors, pixels } = window.opened[index];
  const milliseconds = [];
  let result;
  while (milliseconds.length < runs) {
    result = await segmenter.segment(pixels, vectors);
    milliseconds.push(result.milliseconds);
  }
  const { backend, indices, scores } = result;
  return { milliseconds, backend, indices: maps && [...indices], scores: maps && [...scores] };
"""


class Page(browser.Visitor):
    threads = 1

    def processor_ms(self) -> float:
        """What all processes of the browser have taken so far."""
        driver = psutil.Process(self.driver.service.process.pid)
        times = [process.cpu_times() for process in driver.children(recursive=True)]
        return 1000 * sum(one.user + one.system for one in times)

    def ask(self, script: str, *arguments) -> dict:
        """What a script comes to, which may take longer than the driver waits for an answer."""
        ended = "})().catch((error) => ({ error: String(error) })).then((answer) => (window.answer = answer));"
        self.driver.execute_script(f"window.answer = null;{script}{ended}", *arguments)
        while (answer := self.driver.execute_script("return window.answer")) is None:
            time.sleep(0.2)
        if "error" in answer:
            raise SystemExit(f"error: {answer['error']}")
        return answer


def prepare(site: Path, exports: list[Path]) -> None:
    subprocess.run(["node", ROOT / "scripts" / "web" / "build.mjs", site], check=True, stdout=subprocess.DEVNULL)
    for index, export in enumerate(exports):
        shutil.copytree(export, site / str(index))
    shutil.copytree(exports[0], site / "model")
    Image.open(ROOT / "docs" / "demo" / "street.jpg").resize((SIDE, SIDE)).save(site / "photo.png")


def opened(
    stack: ExitStack, site: Path, headers: dict, flags: list[str], asked: list[tuple[int, str]], classes
) -> Page:
    """A browser with the exports of these numbers, each on a backend."""
    page = stack.enter_context(browser.browser(Page, *flags))
    page.driver.get(stack.enter_context(browser.served(site, headers)))
    for index, backend in asked:
        said = page.ask(OPEN, str(index), backend, classes)
        print(f"export {index}: {said}", file=sys.stderr)
        page.threads = said["threads"]
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--classes", type=int, default=11, help="The first so many of the exports' classes.")
    parser.add_argument("--webgpu", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        site = Path(folder)
        prepare(site, args.exports)
        if args.webgpu:
            compare(args, stack, site)
        else:
            measure(args, stack, site)


def compare(args: argparse.Namespace, stack: ExitStack, site: Path) -> None:
    asked = list(itertools.product(range(len(args.exports)), ("wasm", "webgpu")))
    page = opened(stack, site, {}, SOFTWARE_GPU, asked, args.classes)
    for index, export in enumerate(args.exports):
        expected, found = (page.ask(RUN, 2 * index + backend, True, 1) for backend in (0, 1))
        same = np.mean(np.equal(found["indices"], expected["indices"]))
        apart = np.abs(np.subtract(found["scores"], expected["scores"])).mean()
        ran = f"{export.name} on {found['backend']}"
        print(f"{ran}: {same:.5f} of the pixels as by WebAssembly, scores {apart:.4f} apart on average")


def measure(args: argparse.Namespace, stack: ExitStack, site: Path) -> None:
    asked = [(index, "wasm") for index in range(len(args.exports))]
    pages = [opened(stack, site, headers, ["--disable-gpu"], asked, args.classes) for headers in ({}, ISOLATED)]
    turns = list(itertools.product(range(len(pages)), range(len(asked))))
    clock: dict[tuple[int, int], list[float]] = {turn: [] for turn in turns}
    processor: dict[tuple[int, int], list[float]] = {turn: [] for turn in turns}
    for number in range(WARM_UP + args.rounds):
        for turn in turns:
            page, index = turn
            before = pages[page].processor_ms()
            taken = pages[page].ask(RUN, index, False, RUNS)["milliseconds"]
            if number >= WARM_UP:
                clock[turn] += taken
                processor[turn].append((pages[page].processor_ms() - before) / RUNS)
    print("| export | threads | ms by the clock | ms of processors | times the first |\n|---|---:|---:|---:|---:|")
    for page, index in turns:
        both = (Timing.of(times[page, index]) for times in (clock, processor))
        ms = " | ".join(f"{one.median:.0f} ({one.quartiles[0]:.0f} to {one.quartiles[1]:.0f})" for one in both)
        ratio = Ratio.of(processor[page, index], processor[page, 0])
        print(f"| {args.exports[index].name} | {pages[page].threads} | {ms} | {ratio.median:.2f} |")


if __name__ == "__main__":
    main()
