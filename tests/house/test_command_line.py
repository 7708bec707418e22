"""The command line: help and wrong arguments at once, options of every type, and libraries that are missing."""

import configparser
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from written_export import write_bank, write_export

from lclipseg.__main__ import COMMANDS
from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.extras import EXTRAS
from lclipseg.console.nearest import nearest
from lclipseg.data.open import load_segmentation_data
from lclipseg.prediction.arguments import MAX_PIXELS
from modeling_lclipseg.opening_lclipseg import DEFAULT_MAX_PIXELS

ROOT = Path(__file__).resolve().parents[2]
TORCH = ("torch", "torchvision", "transformers", "timm", "huggingface_hub")  # the extra of that name
HEAVY = ("torch", "torchvision", "transformers", "timm", "accelerate", "datasets", "onnx", "onnxruntime", "numpy")
ROOMS = ("data", "export", "networks", "prediction", "publishing", "serving", "training", "video")
PRELUDE = (
    "import sys\nsys.modules.update(dict.fromkeys({missing!r}))\nsys.argv[1:] = {argv!r}\n"  # None: not installed
)
RUN = "from lclipseg.__main__ import main\nmain()\n"


def run(argv: list[str], missing: tuple[str, ...] = (), code: str = RUN, **options) -> subprocess.CompletedProcess:
    """Run `lclipseg` (or `code`) in a process of its own, in which the libraries `missing` cannot be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    return subprocess.run(
        [sys.executable, "-c", PRELUDE.format(missing=missing, argv=argv) + code],
        env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        **options,
    )


# -------------------------------------------------------------------------------------------------------- without wait


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_imports_no_heavy_library(command):
    """That is what keeps it under a second: torch alone takes longer to import."""
    done = run([command, "--help"], missing=HEAVY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: lclipseg {command}") and f"    lclipseg {command} " in done.stdout
    for option in done.stdout.partition("\noptions:\n")[2].split("\n  --")[1:]:
        assert "Default: " in " ".join(option.split()) or "Required" in option


def test_package_its_python_calls_and_options_of_every_room_can_be_imported_without_a_library():
    code = (
        "import lclipseg\nassert not [name for name in sys.modules if name.startswith('lclipseg.')]\nlclipseg.train\n"
    )
    rooms = "".join(f"import lclipseg.{room}.arguments\n" for room in ROOMS)
    done = run([], code=code + rooms, missing=(*HEAVY, "huggingface_hub", "PIL", "rich"))
    assert done.returncode == 0, done.stderr


LOADED = f"""
def loaded():
    return [name for name in {TORCH} if sys.modules.get(name) is not None]
"""


def test_an_export_is_run_and_no_torch_is_loaded_where_it_could_be(tmp_path):
    folder, image = str(write_export(tmp_path / "export")), str(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "red").save(image)
    code = f"""{LOADED}
import lclipseg
from lclipseg.commands import segment
given = [{image!r}, "--model", {folder!r}, "--classes", "red, blue", "--out", {str(tmp_path)!r}]
assert segment.main(*segment.parse(given)) == 0
found = lclipseg.segment({image!r}, model={folder!r})
assert found.shares == {{"red": 1.0}} and found.overlay(legend=False).width == 64
assert not loaded(), loaded()
import modeling_lclipseg
from modeling_lclipseg.opening_lclipseg import open_image
from lclipseg.console import torch_free
assert loaded() and open_image is torch_free.open_image
from transformers import AutoConfig
assert AutoConfig.for_model("lclipseg").model_type == "lclipseg"
"""
    done = run([], code=code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("classes", [[], ["--classes", "yellow, red", "--bank"]])
def test_an_export_is_run_where_there_is_no_torch(tmp_path, classes):
    bank = [write_bank(tmp_path)] if classes else []
    Image.new("RGB", (64, 64), "yellow").save(tmp_path / "a.png")
    argv = ["segment", str(tmp_path / "a.png"), "--model", str(write_export(tmp_path / "export")), "--out", "out"]
    done = run([*argv, *classes, *bank], missing=TORCH, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ("yellow 100.0 %" if classes else "red 100.0 %") in done.stdout


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("checkpoints/lclipseg-mbv3s-camvid", 'pip install "lclipseg[torch]"'),
        ("owner/name", 'pip install "lclipseg[torch]"'),
        ("checkpoints/lclipseg-mbv3s", "did you mean"),
    ],
)
def test_checkpoint_without_torch_is_told_what_to_install(model, said, tmp_path):
    done = run(["segment", "docs/demo/cat.jpg", "--model", model, "--out", str(tmp_path)], missing=TORCH, cwd=ROOT)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    code = f"import lclipseg\nlclipseg.segment('a.png', model={model!r})\n"
    done = run([], missing=TORCH, code=code, cwd=ROOT)
    assert "InputError" in done.stderr and said in done.stderr


def test_word_that_only_a_text_tower_knows_is_told_what_to_install(tmp_path):
    folder = str(write_export(tmp_path / "export"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    argv = ["segment", str(tmp_path / "a.png"), "--model", folder, "--classes", "rde", "--out", str(tmp_path)]
    done = run(argv, missing=TORCH)
    assert done.returncode == 2 and "did you mean 'red'?" in done.stderr and '"lclipseg[torch]"' in done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["segment", "a.png", "--model", "m", "--bank", "b.safetensors"], "add --classes"),
        (["segment", "a.png", "--model", "m", "--max-pixels", "0"], "--max_pixels is 0; give a number from 1"),
        (["evaluate", "m", "--data", "d", "--window", "32"], "window 32 needs mode 'slide'"),
        (["evaluate", "m", "--data", "d", "--batch-size", "0"], "--batch_size is 0; give a number from 1"),
        (["evaluate", "m", "--data", "d", "--batchsize", "4"], "Did you mean 'batch_size'?"),
        (["train", "--data", "d", "--output_dir", "o", "--model", "mobilenetv3"], "Did you mean 'lclipseg-mbv3'?"),
        (["train", "--data", "d"], "--output_dir is missing"),
        (["train", "--data", "d", "--output_dir", "o", "--learning", "4"], "Did you mean 'learning_rate'?"),
        (["train", "--data", "./sett", "--output_dir", "o"], "the data source ./sett does not exist"),
        (["evaluate", "./no/checkpoint", "--data", "."], "there is no folder no/checkpoint"),
        (["check"], "Did you mean 'check-data'?"),
        (["export", "m", "--int8"], "--int8 and --calibration"),
        (["export", "m", "--label_map", "perhaps"], "give true or false, not 'perhaps'"),
        (["serve", "m", "--port", "70000"], "--port 70000"),
        (["publish", "r", "--repo", "street"], "give OWNER/NAME"),
        (["check-data", "d", "--workers", "0"], "--workers is 0; give a number from 1"),
        (["prepare-data", "camvid", "--source", "s"], "required: --out"),
        (["embed", "sky", "--text_model", "t", "--templates", "a photo"], "must hold {} once"),
        (["merge-banks", "b", "--keys", "a", "--text_model", "t", "--template", "a{}", "--out", "x.pt"], "ends in .s"),
    ],
)
def test_wrong_arguments_are_told_before_a_heavy_library_is_imported(argv, said):
    done = run(argv, missing=HEAVY)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr


def test_limit_of_pixels_is_the_model_packages():
    assert MAX_PIXELS == DEFAULT_MAX_PIXELS


# --------------------------------------------------------------------------------------------------- missing libraries


LINE = 'error: `{name}` needs the library {library}, which is not installed: pip install "lclipseg[{extra}]"\n'


NEEDS = [("publish", "jinja2", "train"), *(("serve", library, "serve") for library in EXTRAS["serve"])]
NEEDS += [("export", "onnx", "export"), ("export", "onnx_ir", "export"), ("export", "onnxruntime", "onnx")]
NEEDS += [("evaluate", "torch", "torch"), ("check-data", "torch", "torch")]
PLACES = {"publish": ["--repo", "org/name"], "evaluate": ["--data", "d"]}


@pytest.mark.parametrize(("command", "library", "extra"), NEEDS)
def test_command_names_the_extra_that_it_lacks(command, library, extra):
    done = run([command, "m", *PLACES.get(command, [])], missing=(library, "torch", "transformers"))
    assert (done.returncode, done.stderr) == (2, LINE.format(name=f"lclipseg {command}", library=library, extra=extra))


def test_command_from_a_checkout_names_the_extra_that_it_lacks():
    door = ROOT / "scripts" / "serve.py"
    code = f"import runpy\nsys.argv[0] = {str(door)!r}\nrunpy.run_path({str(door)!r}, run_name='__main__')\n"
    done = run(["m"], missing=("uvicorn", "torch", "transformers"), code=code)
    assert (done.returncode, done.stderr) == (2, LINE.format(name="serve.py", library="uvicorn", extra="serve"))


def test_table_names_the_extra_that_it_needs(tmp_path, monkeypatch):
    (tmp_path / "table.parquet").write_bytes(b"")
    monkeypatch.delattr("lclipseg.data.tables", raising=False)
    monkeypatch.delitem(sys.modules, "lclipseg.data.tables", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)  # not installed
    said = 'this data source needs the library datasets, which is not installed: pip install "lclipseg[train]"'
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        load_segmentation_data(tmp_path / "table.parquet", "train")


def test_module_of_no_extra_keeps_its_traceback():
    code = "from lclipseg.console.frame import run_command\nrun_command(lambda: __import__('no_such_library'))\n"
    done = run([], code=code)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_reader_that_goes_away_ends_a_command_without_a_traceback():
    code = "from lclipseg.console.frame import run_command\nrun_command(lambda: print('x' * 1_000_000))\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1


MODULES = {"opencv-python-headless": "cv2"}  # where it is not called as what is installed


def test_every_extra_installs_what_it_is_named_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra, libraries in EXTRAS.items():
        listed = {re.split(r"[<>=]", line)[0] for line in setup["options.extras_require"][extra].split()}
        assert set(libraries) <= {MODULES.get(name, name) for name in listed}


# ------------------------------------------------------------------------------------------------------------- options


@dataclass
class Options:
    name: str
    size: int | None = None
    share: float = 0.5
    shown: bool = False
    kept: bool = True
    mode: Literal["whole", "slide"] = "whole"
    words: list[str] = field(default_factory=lambda: ["sky"], metadata={"help": "Words, 100 % of them."})


def options(*argv: str) -> Options:
    return arguments.parse("", Options, argv=["--name", "a", *argv])[0]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], Options("a")),
        (["--size", "3", "--share", "1e-3"], Options("a", size=3, share=0.001)),
        (["--shown"], Options("a", shown=True)),
        (["--shown", "TRUE", "--kept", "no"], Options("a", shown=True, kept=False)),
        (["--mode=slide"], Options("a", mode="slide")),
        (["--words", "road", "car"], Options("a", words=["road", "car"])),
    ],
)
def test_options_have_the_types_of_their_fields(argv, expected):
    assert options(*argv) == expected


def test_default_lists_are_not_shared():
    options().words.append("road")
    assert options().words == ["sky"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("mobilenetv3", "mobilenetv3_large"), ("resnet", "resnet50"), ("RESNET50", "resnet50"), ("resent50", "resnet50"),
     ("large", "mobilenetv3_large"), ("resnet50-v2", "resnet50"), ("xyz", None)],
)  # fmt: skip
def test_nearest_name_begins_with_what_was_given_before_letters_are_compared(given, meant):
    assert nearest(given, ["resnet50", "mobilenetv3_large", "mobilenetv2"]) == meant


@pytest.mark.parametrize("argv", [["--size", "x"], ["--shown", "x"], ["--mode", "x"], ["--words"], ["--share"]])
def test_value_of_another_type_ends_with_status_2(argv):
    with pytest.raises(SystemExit) as ended:
        options(*argv)
    assert ended.value.code == 2


def test_help_shows_types_and_defaults(capsys):
    with pytest.raises(SystemExit):
        options("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for part in (
        "--name TEXT Required.",
        "--size INTEGER Default: none.",
        "--share NUMBER Default: 0.5.",
        "[true|false] Default: true.",
        "{whole,slide}",
    ):
        assert part in shown
    assert "Words, 100 % of them. Default: sky." in shown


@pytest.mark.parametrize("spelling", ["--crop-size", "--crop_size"])
def test_dashes_and_underscores_are_the_same(spelling):
    @dataclass
    class Crop:
        crop_size: list[int] = field(default_factory=list)

    assert arguments.parse("", Crop, argv=[spelling, "3", "4"])[0].crop_size == [3, 4]


def test_unknown_option_is_named_as_it_was_given():
    with pytest.raises(InputError, match=r"no option '--si-ze'\. Did you mean 'size'\?"):
        options("--si-ze", "3")
