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
from modeling_lclipseg.class_vectors_lclipseg import fold_name
from modeling_lclipseg.visualization_lclipseg import class_palette, class_shares, to_indexed_image

WEB = Path(__file__).resolve().parents[1] / "scripts" / "web"
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
