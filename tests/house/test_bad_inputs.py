"""Strange and hostile image files: every way in takes, or refuses, each of them alike, and says which file it was.

What an image of each kind looks like once it is read stands in test_inputs.py; masks and class lists in test_data.py.
"""

import importlib.util
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import transformers
from photos import photo
from PIL import Image
from tiny_model import tiny_model
from transformers import dynamic_module_utils
from written_export import write_export

from lclipseg.console.errors import InputError
from lclipseg.data.augmentation import training_transform
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data
from lclipseg.data.samples import TrainingSamples
from lclipseg.prediction import checkpoint_segmenter, files
from lclipseg.prediction.arguments import SegmentArguments
from lclipseg.prediction.evaluate import evaluate_model
from modeling_lclipseg import LClipSegImageProcessor
from modeling_lclipseg.opening_lclipseg import open_image
from modeling_lclipseg.pipeline_lclipseg import LClipSegPipeline

SIZE = (48, 32)  # width, height
SCENE = photo(48, 32)
EXIF_ORIENTATION = 0x0112
HANDLER = Path(__file__).resolve().parents[2] / "scripts" / "lclipseg" / "endpoint" / "handler.py"


# ----------------------------------------------------------------------------------------------------------- the files


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def of_values(values: Any, dtype: Any) -> bytes:
    return saved(Image.fromarray(np.resize(np.asarray(values, dtype=dtype), SIZE[::-1])), "TIFF")


def palette_with_transparency() -> bytes:
    return saved(SCENE.convert("P"), transparency=bytes(range(256)))


def turned() -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    return saved(SCENE, "JPEG", exif=exif)


def animation(file_format: str) -> bytes:
    others = [Image.new("RGB", size) for size in (SIZE, (5, 7))]
    return saved(SCENE, file_format, save_all=True, append_images=others[: 1 if file_format == "GIF" else 2])


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file that promises so many pixels and holds hardly any."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = (header, *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def text_bomb() -> bytes:
    return png_of(4, 4, (b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000))))


PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(file) (w) file\n"
ACCEPTED = {
    "grey.png": (saved(SCENE.convert("L")), SIZE),
    "grey with transparency.png": (saved(SCENE.convert("LA")), SIZE),
    "transparency.png": (saved(SCENE.convert("RGBA")), SIZE),
    "palette with transparency.png": (palette_with_transparency(), SIZE),
    "print colours.jpg": (saved(SCENE.convert("CMYK"), "JPEG"), SIZE),
    "lab.tif": (saved(SCENE.convert("LAB"), "TIFF"), SIZE),
    "one bit.png": (saved(SCENE.convert("1")), SIZE),
    "16 bits.png": (saved(Image.fromarray(np.full(SIZE[::-1], 40_000, dtype=np.uint16))), SIZE),
    "32 bits.tif": (of_values([0, 65535], np.int32), SIZE),
    "float.tif": (of_values([0, 0.5, 1], np.float32), SIZE),
    "on its side.jpg": (turned(), SIZE[::-1]),
    "orientation that is none.jpg": (saved(SCENE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08garbage"), SIZE),
    "1 x 1.png": (saved(Image.new("RGB", (1, 1))), (1, 1)),
    "4000 x 1.png": (saved(Image.new("RGB", (4000, 1))), (4000, 1)),
    "1 x 4000.png": (saved(Image.new("L", (1, 4000))), (1, 4000)),
    "37 x 61.bmp": (saved(SCENE.resize((37, 61)), "BMP"), (37, 61)),
    "jpeg called.png": (saved(SCENE, "JPEG"), SIZE),
    "animation called.png": (animation("GIF"), SIZE),
    "pages of many sizes.tif": (animation("TIFF"), SIZE),
    "[b]markup <i>.png": (saved(SCENE), SIZE),
}
REFUSED = {
    "nothing.png": (b"", "not an image"),
    "[red]text <b>called.png": (b"a note\n", "not an image"),
    "drawing called.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    "beginning of a.png": (b"\x89PNG\r\n\x1a\n", ": "),
    "beginning of a.bmp": (b"BM" + bytes(60), ": "),
    "cut.png": (saved(SCENE)[:2000], "damaged or cut short"),
    "cut.jpg": (saved(SCENE, "JPEG")[:-400], "damaged or cut short"),
    "bomb.png": (png_of(60_000, 60_000), "too large"),
    "bomb of text.png": (text_bomb(), "too large"),
    "float of 0 to 255.tif": (of_values([0, 255], np.float32), r"divide it by its full scale"),
    "float with NaN.tif": (of_values([0, np.nan], np.float32), "NaN"),
    "float with infinity.tif": (of_values([0, np.inf], np.float32), r"values in \[0, 1\]"),
    "negative.tif": (of_values([-1, 5], np.int32), r"0\.\.65535, but this one holds -1\.\.5; scale it"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(40), "by itself: pip install pillow-heif|a format other than"),
    "program called.png": (PROGRAM, "EPS is a program.* convert it to PNG|a format other than BMP"),
}


# ------------------------------------------------------------------------------------------------------------- ways in


MODEL = tiny_model()
PROCESSOR = LClipSegImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})


@dataclass(frozen=True)
class Given:
    """An image file, the size (width, height) that it is to have, and a folder for what comes of it."""

    file: Path
    size: tuple[int, int]
    folder: Path

    def mask(self) -> Image.Image:
        return Image.new("L", self.size)

    def data(self) -> SegmentationData:
        """A data set of this image alone. That its size is the mask's is checked when it is read."""
        for part in ("images", "masks"):
            (self.folder / "train" / part).mkdir(parents=True)
        (self.folder / "classes.json").write_text(json.dumps(MODEL.config.class_names))
        self.mask().save(self.folder / "train" / "masks" / f"{self.file.stem}.png")
        self.file.rename(self.folder / "train" / "images" / self.file.name)
        return load_segmentation_data(self.folder, "train")


def to_image_processor(given: Given) -> None:
    PROCESSOR(given.file, given.mask())


def to_segment(given: Given, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(checkpoint_segmenter, "load_runnable", lambda source, revision: (MODEL, PROCESSOR))
    check_command(given, "tiny", capsys)


def to_segment_with_an_export(given: Given, capsys: pytest.CaptureFixture) -> None:
    check_command(
        given, str(write_export(given.folder / "export", size={"shortest_edge": 32, "longest_edge": 64})), capsys
    )


def check_command(given: Given, model: str, capsys: pytest.CaptureFixture) -> None:
    out = given.folder / "out"
    status = files.segment_files([str(given.file)], SegmentArguments(model=model, out=str(out)))
    errors = capsys.readouterr().err
    if status:
        raise ValueError(errors.removeprefix("failed: "))
    record = json.loads((out / f"{given.file.stem}.json").read_text())
    assert (record["width"], record["height"]) == given.size


def to_train(given: Given) -> None:
    transform = training_transform((32, 32), 32, (0.5, 2.0), 0.75, PROCESSOR.image_mean, PROCESSOR.image_std)
    sample = TrainingSamples(given.data(), transform, seed=0)[0]
    if sample["unreadable"]:  # a run names such an image, and ends where there are too many
        raise InputError(sample["unreadable"])
    assert sample["pixel_values"].shape == (3, 32, 32)


def to_evaluate(given: Given) -> None:
    assert evaluate_model(MODEL, PROCESSOR, given.data()).num_pixels == given.size[0] * given.size[1]


def to_handler(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """In test_handler.py the handler runs in a process of its own, and loads the model itself."""
    spec = importlib.util.spec_from_file_location("handler", HANDLER)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(dynamic_module_utils, "get_class_from_dynamic_module", lambda reference, folder: open_image)
    segmenter = LClipSegPipeline(model=MODEL, image_processor=PROCESSOR)
    monkeypatch.setattr(transformers, "pipeline", lambda *arguments, **options: segmenter)
    for segment_ in module.EndpointHandler()({"inputs": given.file.read_bytes()}):
        assert Image.open(BytesIO(module.base64.b64decode(segment_["mask"]))).size == given.size


@pytest.fixture(params=[to_image_processor, to_segment, to_segment_with_an_export, to_train, to_evaluate, to_handler])
def give(request, tmp_path, monkeypatch, capsys) -> Callable[[str, bytes, tuple[int, int]], None]:
    """Put a file of the name and content in by one of the ways; a ValueError if it is refused."""
    extra = {"monkeypatch": monkeypatch, "capsys": capsys}

    def put(name: str, content: bytes, size: tuple[int, int] = SIZE) -> None:
        given = Given(tmp_path / name, size, tmp_path / "made")
        given.file.write_bytes(content)
        entry = request.param
        try:
            entry(given, **{key: value for key, value in extra.items() if key in entry.__annotations__})
        except ValueError as error:
            says_which = "inputs: " if entry is to_handler else name
            assert says_which in str(error)
            raise

    return put


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", ACCEPTED)
def test_image_is_taken_at_its_own_size_by_every_way_in(give, name):
    give(name, *ACCEPTED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_image_is_refused_by_every_way_in_with_its_name(give, name):
    content, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        give(name, content)


# ---------------------------------------------------------------------------------------- what is no file of its own


@pytest.mark.parametrize(
    ("make", "said"),
    [(Path.mkdir, "this is a folder"), (os.mkfifo, "no regular file"), (lambda path: None, "no such")],
)
def test_path_that_leads_to_no_file_is_named_at_once(tmp_path, make, said):
    make(tmp_path / "x.png")
    with pytest.raises(ValueError, match=rf"x\.png: .*{said}"):
        PROCESSOR(tmp_path / "x.png")


def test_folder_with_the_name_of_a_image_is_no_image_of_a_data_set(tmp_path):
    given = Given(tmp_path / "a.png", SIZE, tmp_path / "data")
    given.file.write_bytes(saved(SCENE))
    data = given.data()
    (given.folder / "train" / "images" / "b.png").mkdir()
    assert load_segmentation_data(given.folder, "train").names == data.names == ["a"]


@pytest.mark.parametrize("form", [bytes, BytesIO, Path])
def test_heic_is_read_where_its_library_is_installed(tmp_path, monkeypatch, form):
    """A stand-in for the library; what it does itself is its own to test."""
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    content = REFUSED["phone.heic"][0]
    (tmp_path / "x.heic").write_bytes(content)
    library = ModuleType("pillow_heif")
    library.register_heif_opener = (
        lambda: Image.register_open(  # type: ignore[attr-defined]
            "HEIF", lambda file, name: Image.new("RGB", (3, 2)), lambda head: head[4:12] == b"ftypheic"
        )
    )
    monkeypatch.setitem(sys.modules, "pillow_heif", library)
    assert open_image(tmp_path / "x.heic" if form is Path else form(content)).size == (3, 2)


@pytest.mark.parametrize("form", [bytes, BytesIO, Path])
def test_name_that_is_given_is_that_of_every_message(tmp_path, form):
    def opened(content: bytes) -> Image.Image:
        (tmp_path / "x").write_bytes(content)
        return open_image(tmp_path / "x" if form is Path else form(content), name="a name")

    with pytest.raises(ValueError, match=r"^a name: not an image"):
        opened(b"")
    with pytest.raises(ValueError, match=r"^a name: this image holds NaN"):
        PROCESSOR(opened(REFUSED["float with NaN.tif"][0]))
    with pytest.raises(ValueError, match=r"^a name: a mask must have one channel"):
        PROCESSOR(SCENE, opened(saved(SCENE)))


def test_image_that_the_caller_opened_is_checked_when_it_is_decoded():
    with pytest.raises(ValueError, match="damaged or cut short"):
        PROCESSOR(Image.open(BytesIO(saved(SCENE)[:2000])))
