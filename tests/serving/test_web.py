"""The page in the browser, without a browser: its files, its pinned packages, and its modules under node."""

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name
from modeling_lclipseg.visualization_lclipseg import class_palette, class_shares, to_indexed_image

WEB = Path(__file__).resolve().parents[2] / "scripts" / "web"
SCRIPTS = sorted(WEB.glob("*.js"))
PAGE_FILES = [WEB / "index.html", WEB / "style.css", *SCRIPTS]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(not NODE, reason="there is no node")


def run_module(name: str, body: str, **given):
    """What `body`, the inside of an async function of the module `page` and of `given`, returns; node runs it."""
    script = (
        f"const page = await import({json.dumps((WEB / name).as_uri())});"
        f"const given = {json.dumps(given)};"
        f"const result = await (async () => {{ {body} }})();"
        "console.log(JSON.stringify(result ?? null));"
    )
    done = subprocess.run([NODE, "--input-type=module", "--eval", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MESSAGE = """
  const { UserError } = await import(given.userError);
  const messageOf = async (action) => {
    try { await action(); } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return error.message;
    }
    return null;
  };
"""


def message_of(name: str, body: str, **given) -> str | None:
    """What `body`, the inside of an async function as in `run_module`, tells the visitor; other errors fail."""
    user_error = (WEB / "user_error.js").as_uri()
    return run_module(name, f"{MESSAGE} return messageOf(async () => {{ {body} }})", userError=user_error, **given)


# ------------------------------------------------------------------------------------------------- files and packages


def test_everything_that_the_page_refers_to_is_there_and_built():
    built = (WEB / "build.mjs").read_text()
    names = {"index.html", *re.findall(r'(?:src|href)="([\w.]+)"', (WEB / "index.html").read_text())}
    for script in SCRIPTS:
        names |= set(re.findall(r'"\./([\w.]+\.js)"', script.read_text()))
    assert names >= {"style.css", "main.js", "worker.js"}
    assert {name for name in names if not (WEB / name).is_file()} == set()
    assert {path.name for path in PAGE_FILES if f'"{path.name}"' not in built} == set()


def test_every_package_is_pinned_to_one_version_with_its_checksum():
    wanted = json.loads((WEB / "package.json").read_text())["devDependencies"]
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert [name for name, entry in locked.items() if name and not entry["integrity"].startswith("sha512-")] == []


def test_no_file_of_the_page_names_another_server():
    found = {path.name: re.findall(r"(?:https?|wss?):?//[\w.]+", path.read_text()) for path in PAGE_FILES}
    assert {name: urls for name, urls in found.items() if urls} == {}


def test_policy_lets_scripts_come_from_the_host_of_the_page_alone():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (WEB / "index.html").read_text())[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert {rules[kind] for kind in ("connect-src", "worker-src", "style-src")} == {"'self'"}


def test_no_script_reads_text_as_markup():
    readers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|setHTMLUnsafe|\beval\(|new Function"
    assert {path.name for path in SCRIPTS if re.search(readers, path.read_text())} == set()


@needs_node
def test_build_takes_every_file_and_the_licence_of_onnx_runtime(tmp_path):
    web = tmp_path / "scripts" / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules"))
    photo = tmp_path / "docs" / "demo" / "street.jpg"
    runtime = web / "node_modules" / "onnxruntime-web" / "dist"
    names = re.findall(r'"(ort[\w.-]+)"', (WEB / "build.mjs").read_text())
    for path in (photo, *(runtime / name for name in names)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subprocess.run([NODE, web / "build.mjs", tmp_path / "out"], check=True, timeout=120)
    built = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    expected = {path.name for path in PAGE_FILES} | {f"vendor/{name}" for name in names}
    assert built == expected | {"example.jpg", "vendor/LICENSE"}
    licence = (tmp_path / "out" / "vendor" / "LICENSE").read_text()
    assert licence.startswith("MIT License\n\nCopyright (c) Microsoft Corporation")


# ------------------------------------------------------------------------------------------------------ the same rules


@needs_node
@pytest.mark.parametrize("count", [1, 11, 256])
def test_palette_is_pythons(count):
    assert run_module("palette.js", "return page.classPalette(given.count)", count=count) == (
        class_palette(count).tolist()
    )


@needs_node
def test_names_are_one_as_in_python():
    names = ["Sky", "  traffic \t light ", "STRASSE", "Straße", "ÄRGER", "<b>x</b>"]
    folded = run_module("word_bank.js", "return given.names.map(page.foldName)", names=names)
    assert folded == [fold_name(name) for name in names]


@needs_node
def test_shares_are_pythons():
    ids = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(np.uint8)
    shares = run_module(
        "label_map.js", "return page.classShares(Uint8Array.from(given.ids))", ids=ids.ravel().tolist()
    )
    expected = class_shares(ids, dict(enumerate("abcde")))
    assert [(share["id"], pytest.approx(share["share"])) for share in shares] == (
        [(share.class_id, share.share) for share in expected]
    )


@needs_node
def test_label_map_file_is_pythons():
    ids = np.random.default_rng(0).integers(0, 11, (7, 5)).astype(np.uint8)
    body = """
      const blob = await page.encodeIndexedPng(Uint8Array.from(given.ids), 5, 7, given.palette);
      return [...new Uint8Array(await blob.arrayBuffer())];
    """
    encoded = run_module("png.js", body, ids=ids.ravel().tolist(), palette=class_palette(11).tolist())
    image = Image.open(io.BytesIO(bytes(encoded)))
    assert image.mode == "P"
    assert np.array_equal(np.array(image), ids)
    assert np.array_equal(np.array(image.convert("RGB")), np.array(to_indexed_image(ids).convert("RGB")))


@needs_node
def test_browser_that_cannot_compress_gets_a_message():
    body = "delete globalThis.CompressionStream; return page.encodeIndexedPng(Uint8Array.of(0), 1, 1, [[0, 0, 0]])"
    assert "no CompressionStream" in message_of("png.js", body)


@needs_node
@pytest.mark.parametrize(
    ("width", "height", "expected"), [(960, 540, [960, 540]), (4000, 3000, [1600, 1200]), (1, 9000, [1, 1600])]
)
def test_large_pictures_are_worked_on_smaller(width, height, expected):
    body = "const size = page.workingSize(...given.sides, page.WORKING_SIDE); return [size.width, size.height]"
    assert run_module("picture.js", body, sides=[width, height]) == expected


# ---------------------------------------------------------------------------------------------------------- word banks

READ = """
  const { readFileSync } = await import("node:fs");
  const readBank = (path) => {
    const bytes = readFileSync(path);
    const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    const names = readFileSync(path.replace(".safetensors", "_names.json"), "utf8");
    return page.readWordBank(buffer, names, "words.safetensors");
  };
  const messageOf = (action) => {
    try { action(); } catch (error) { return error.message; }
    return null;
  };
"""


@needs_node
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.float64, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)],
)
def test_word_bank_is_read_as_python_reads_it(tmp_path, dtype, tolerance):
    path = tmp_path / "words.safetensors"
    WordBank(("sky", "<b>x</b>", "Straße"), torch.randn(3, 6)).save(path)
    save_file({"words": torch.randn(3, 6).to(dtype)}, path)
    body = (
        READ
        + """
      const bank = readBank(given.path);
      return bank.names.map((name) => [name, [...bank.find(name.toUpperCase())]]);
    """
    )
    read = run_module("word_bank.js", body, path=str(path))
    expected = WordBank.load(path)
    assert [name for name, _ in read] == list(expected.names)
    assert torch.allclose(torch.tensor([vector for _, vector in read]), expected.embeddings, atol=tolerance)


@needs_node
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"no bank", "words.safetensors is not a safetensors file"),
        (lambda data: data[:-8], "words.safetensors is cut short"),
        (lambda data: data[:-4] + b"\x00\x00\xc0\x7f", "vector 2 is zero or not finite"),
    ],
)
def test_damaged_word_bank_is_named(tmp_path, damage, message):
    path = tmp_path / "words.safetensors"
    WordBank(("sky", "road", "car"), torch.randn(3, 6)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    body = READ + "return messageOf(() => readBank(given.path))"
    assert message in run_module("word_bank.js", body, path=str(path))


@needs_node
@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        {"dtype": "F32", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1, 2]},
        {"dtype": "F32", "shape": "12", "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1, 2], "data_offsets": [8]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
    ],
)
def test_tensor_without_its_place_is_named(entry):
    header = json.dumps({"words": entry}).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8)
    body = 'page.readTensors(Uint8Array.from(given.data).buffer, "words.safetensors")'
    assert 'words.safetensors is damaged: its tensor "words"' in message_of("safetensors.js", body, data=list(data))


@needs_node
def test_large_word_bank_is_held_against_the_tower():
    body = """
      const count = 200000; // more than a function takes arguments
      const matrix = { shape: [count, 2], values: new Float32Array(2 * count).fill(1) };
      const names = Array.from({ length: count }, (_, row) => `word ${row}`);
      const bank = new page.WordBank(names, matrix, "words.safetensors");
      const own = { width: 2, center: Float32Array.of(...given.center) };
      bank.checkSameTower(own);
    """
    assert message_of("word_bank.js", body, center=[1, 0]) is None
    assert "goes down to -0.71" in message_of("word_bank.js", body, center=[-1, 0])


@needs_node
@pytest.mark.parametrize("foreign", [False, True])
def test_vectors_of_another_text_tower_are_refused(tmp_path, foreign):
    common = torch.nn.functional.one_hot(torch.tensor([int(foreign), 0]), 64).float()
    vectors = common[:, None] + 0.05 * torch.randn(2, 5, 64)
    for name, rows in zip(("words", "own"), vectors, strict=True):
        WordBank(tuple("abcde"), rows).save(tmp_path / f"{name}.safetensors")
        save_file({"words": rows.contiguous(), "class_center": common[1]}, tmp_path / f"{name}.safetensors")
    body = READ + "return messageOf(() => readBank(given.words).checkSameTower(readBank(given.own)))"
    banks = {name: str(tmp_path / f"{name}.safetensors") for name in ("words", "own")}
    message = run_module("word_bank.js", body, **banks)
    assert (message is not None) == foreign
    assert not foreign or "do not come from this model's text tower" in message


# ------------------------------------------------------------------------------------------------------- class lists

CLASSES = """
  const bankOf = (names) => ({
    names, width: 2,
    vectors: names.map((_, row) => Float32Array.of(row, 1)),
    find: (name) => (names.includes(name) ? Float32Array.of(names.indexOf(name), 2) : undefined),
    spelling: (name) => name,
  });
  const classes = new page.ClassList(bankOf(["sky", "road"]));
  const bank = bankOf(["kerb", "lane"]);
"""


@needs_node
def test_class_that_is_switched_off_leaves_the_others_their_ids():
    body = (
        CLASSES
        + """
      classes.add("lane", bank);
      classes.toggle(1);
      return [classes.chosen, classes.names, [...classes.vectors.values]];
    """
    )
    assert run_module("class_list.js", body) == [[0, 2], ["sky", "road", "lane"], [0, 1, 1, 2]]


@needs_node
@pytest.mark.parametrize(
    ("action", "message"),
    [
        ('classes.add(" SKY ", bank)', '"sky" is one of the classes already'),
        (
            'classes.add("kreb", bank)',
            'There is no vector for "kreb": it is neither in the model nor in the word bank',
        ),
        ('classes.add("roads", null)', 'no word bank is loaded (did you mean "road"?)'),
        ('classes.add(" ", bank)', "Write a word first"),
        ("classes.toggle(0); classes.toggle(1)", "At least one class must stay"),
    ],
)
def test_class_that_cannot_be_gets_a_reason(action, message):
    body = CLASSES + f"try {{ {action} }} catch (error) {{ return error.message; }}"
    assert message in run_module("class_list.js", body)


@needs_node
@pytest.mark.parametrize(("count", "refused"), [(256, False), (257, True)])
def test_more_classes_than_a_byte_numbers_are_refused(count, refused):
    body = CLASSES + "new page.ClassList(bankOf(Array.from({ length: given.count }, (_, id) => `class ${id}`)))"
    message = message_of("class_list.js", body, count=count)
    assert (message is not None) == refused
    assert not refused or "The model has 257 classes of its own, but a label map holds no more than 256" in message


# ----------------------------------------------------------------------------------------------- files beside the page

HOST = """
  const header = new TextEncoder().encode('{"words": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}');
  const bank = new Uint8Array(8 + header.length + 8);
  bank[0] = header.length;
  bank.set(header, 8);
  bank.set(new Uint8Array(Float32Array.of(1, 0).buffer), 8 + header.length);
  const files = {
    "model/model.onnx": "graph",
    "model/export.json": '{"model": "runs/mine/", "vocabulary": "open", "label_map": true}',
    "model/class_embeddings.safetensors": bank,
    "model/class_embeddings_names.json": '{"names": {"words": ["sky"]}}',
    ...given.files,
  };
  globalThis.fetch = async (url) => {
    const file = files[url.pathname.split("/scripts/web/").at(-1)];
    if (file === "offline") throw new TypeError("Failed to fetch");
    if (file) return new Response(file);
    const page = { status: given.status, headers: { "Content-Type": "text/html; charset=utf-8" } };
    return new Response("<!doctype html>", page);
  };
"""


@needs_node
@pytest.mark.parametrize("status", [404, 200])  # some hosts answer with a page of theirs where there is no file
def test_word_bank_beside_the_page_need_not_be_there(status):
    body = HOST + "return [(await page.readModelFiles()).own.names, await page.readFurtherWords()]"
    assert run_module("model_files.js", body, status=status, files={}) == [["sky"], None]


@needs_node
@pytest.mark.parametrize("status", [404, 200])
@pytest.mark.parametrize("file", ["model/model.onnx", "model/export.json", "model/class_embeddings_names.json"])
def test_model_file_that_is_missing_is_named(file, status):
    message = message_of("model_files.js", HOST + "await page.readModelFiles()", status=status, files={file: ""})
    assert f"{file.replace('_names.json', '.safetensors')} is missing beside this page" in message


@needs_node
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model/model.onnx": "offline"}, "model/model.onnx could not be loaded (Failed to fetch)"),
        ({"model/export.json": "null"}, "not exported with open vocabulary"),
        ({"model/export.json": "{"}, "model/export.json cannot be read as JSON"),
    ],
)
def test_model_file_that_cannot_be_read_gets_a_reason(files, message):
    assert message in message_of("model_files.js", HOST + "await page.readModelFiles()", status=404, files=files)


# ------------------------------------------------------------------------------------------------------------- camera

CAMERA = """
  const video = { srcObject: null, play: async () => {} };
  globalThis.document = { createElement: () => video };
  const track = { running: true, stop: () => (track.running = false) };
  const mediaDevices = { getUserMedia: async () => ({ getTracks: () => [track] }) };
  Object.defineProperty(globalThis, "navigator", { value: { mediaDevices }, configurable: true });
  const refuse = (name) => Promise.reject(Object.assign(new Error("no"), { name }));
  const camera = new page.Camera();
"""


@needs_node
def test_camera_that_is_stopped_before_it_is_allowed_does_not_run():
    body = (
        CAMERA
        + "const started = camera.start(); camera.stop(); await started; return [track.running, video.srcObject]"
    )
    assert run_module("camera.js", body) == [False, None]


@needs_node
def test_camera_that_is_stopped_before_it_plays_is_no_error():
    body = (
        CAMERA
        + """
      video.play = () => { camera.stop(); return refuse("AbortError"); };
      await camera.start();
      return [track.running, camera.stopped];
    """
    )
    assert run_module("camera.js", body) == [False, True]


@needs_node
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ('mediaDevices.getUserMedia = () => refuse("NotAllowedError")', "The camera was refused"),
        ('video.play = () => refuse("NotSupportedError")', "The camera cannot be used: no"),
    ],
)
def test_camera_that_fails_gets_a_reason(failure, message):
    assert message in message_of("camera.js", f"{CAMERA} {failure}; await camera.start()")


# ------------------------------------------------------------------------------------------------------------- worker

# In place of ONNX Runtime: it lists its open sessions; a backend fails when it is opened, or in the run of that number
# (the first and second are on the trial picture).
RUNTIME = """
  export const env = { wasm: {}, webgpu: {} };
  export class Tensor {}
  const fails = (backend, when) => {
    if (self.failures[backend] === when) throw new Error(`${backend} gave up`);
  };
  export class InferenceSession {
    static async create(model, { executionProviders: [backend] }) {
      fails(backend, "open");
      self.open.push(backend);
      let runs = 0;
      return {
        run: async () => {
          fails(backend, ++runs);
          const end = performance.now() + (backend === self.slow ? 20 : 0);
          while (performance.now() < end);
          return { segmentation: { data: new Uint8Array(1), dispose: () => {} } };
        },
        release: async () => self.open.splice(self.open.indexOf(backend), 1),
      };
    }
  }
"""
WORKER = """
  const answers = new Map();
  globalThis.self = {
    ...given, open: [],
    postMessage: ({ id, result, error }) => answers.get(id)(result ?? { error }),
  };
  const ask = (id, question) => new Promise((resolve) => {
    answers.set(id, resolve);
    self.onmessage({ data: { id, ...question } });
  });
  await import(given.worker);
  const opened = await ask(0, { task: "open", buffer: null, vectors: {}, backend: given.backend });
  const pixels = { rgb: null, width: 1, height: 1 };
  const { backend, note, error } = await ask(1, { task: "segment", pixels, vectors: {} });
  return { opened: opened.error ?? opened.backend, open: self.open, backend, note, error };
"""


@pytest.fixture
def worker(tmp_path):
    """What the worker says of a run, and which sessions it has open after it."""
    shutil.copy(WEB / "worker.js", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "vendor").mkdir()
    for name in ("ort.wasm.min.mjs", "ort.min.mjs"):
        (tmp_path / "vendor" / name).write_text(RUNTIME)

    def run(backend: str, failures: dict, slow: str = "") -> dict:
        given = {"worker": (tmp_path / "worker.js").as_uri(), "backend": backend, "failures": failures, "slow": slow}
        return run_module("user_error.js", WORKER, **given)

    return run


@needs_node
@pytest.mark.parametrize(("slow", "taken"), [("wasm", "webgpu"), ("webgpu", "wasm")])
def test_faster_backend_is_the_only_one_that_stays_open(worker, slow, taken):
    ran = worker("fastest", {}, slow)
    assert (ran["backend"], ran["open"]) == (taken, [taken])
    assert ran["note"].startswith("A trial picture took")


@needs_node
@pytest.mark.parametrize(
    ("backend", "when"), [("fastest", "open"), ("fastest", 1), ("webgpu", "open"), ("webgpu", 1), ("fastest", 3)]
)
def test_webgpu_that_fails_gives_its_memory_back(worker, backend, when):
    ran = worker(backend, {"webgpu": when}, slow="wasm")
    assert (ran["backend"], ran["open"]) == ("wasm", ["wasm"])
    assert ran["note"] == "WebGPU failed (webgpu gave up), so WebAssembly is used."


@needs_node
@pytest.mark.parametrize("when", ["open", 1])
def test_webassembly_that_fails_is_not_laid_to_webgpu(worker, when):
    ran = worker("fastest", {"wasm": when})
    assert (ran["backend"], ran["open"]) == ("webgpu", ["webgpu"])
    assert ran["note"] == "WebAssembly failed (wasm gave up), so WebGPU is used."


@needs_node
def test_where_both_backends_fail_that_of_webassembly_is_said(worker):
    ran = worker("fastest", {"wasm": "open", "webgpu": "open"})
    assert (ran["opened"], ran["open"]) == ("wasm gave up", [])
