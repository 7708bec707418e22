"""What a load test sends, and what must come back: requests that can be met, and eleven kinds that cannot."""

import base64
import json
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from lclipseg.endpoint.handler import MAX_LABELS, MAX_PIXEL_CLASSES, MAX_PIXELS
from lclipseg.serving.app import MAX_BODY

JSON = "application/json"
PATCH = 32  # pixels of a side of the patches in the largest images: of many colours, so that many classes are found


@dataclass(frozen=True)
class Sent:
    """
    A request.

    Args:
        kind (`str`): What it is, for the record.
        status (`int`): The status that its answer must have.
        body (`bytes`): What is sent.
        content_type (`str`): As what.
        size (`tuple[int, int]`, *optional*): Width and height of the masks that must come back.
        method (`str`), path (`str`): To whom.
        chunked (`bool`): Whether the length of the body is kept from the server.
    """

    kind: str
    status: int
    body: bytes
    content_type: str = JSON
    size: tuple[int, int] | None = None
    method: str = "POST"
    path: str = "/"
    chunked: bool = False


def good_requests(image: Image.Image, width: int, labels: list[str]) -> list[Sent]:
    """
    The requests that a server must meet: a file of either format, upright and lying; JSON with and without classes.

    Args:
        image (`PIL.Image.Image`): A photograph, lying.
        width (`int`): The width in pixels to bring it to.
        labels (`list[str]`): Classes of the model.
    """
    lying = image.convert("RGB").resize((width, width * image.height // image.width))
    upright = lying.transpose(Image.Transpose.ROTATE_90)
    jpeg, png = _file(lying, "JPEG"), _file(upright, "PNG")
    chosen = {"candidate_labels": labels[:5], "threshold": 0.3}
    return [
        Sent("JPEG", 200, jpeg, "image/jpeg", lying.size),
        Sent("PNG, upright", 200, png, "image/png", upright.size),
        Sent("JSON", 200, _json({"inputs": _text(jpeg)}), size=lying.size),
        Sent("JSON with classes", 200, _json({"inputs": _text(jpeg), "parameters": chosen}), size=lying.size),
    ]


def bad_requests(jpeg: bytes) -> list[Sent]:
    """The requests that a server must refuse, made from a good JPEG file."""
    text, large = _text(jpeg), bytes(MAX_BODY + 1)
    return [
        Sent("not an image", 400, b"no image " * 50, "image/png"),
        Sent("cut short", 400, jpeg[: len(jpeg) // 2], "image/jpeg"),
        Sent("empty body", 400, b"", "image/png"),
        Sent("broken JSON", 400, b'{"inputs": "' + text[:99].encode()),
        Sent("unknown parameter", 400, _json({"inputs": text, "parameters": {"word_bank": "x.safetensors"}})),
        Sent("too many classes", 400, _json({"inputs": text, "parameters": {"candidate_labels": ["sky"] * 200}})),
        Sent("a few bytes of PNG that claim 60,000 x 60,000 pixels", 400, _bomb(60_000), "image/png"),
        Sent("too large", 413, large, "image/png"),
        Sent("too large, of unsaid length", 413, large, "image/png", chunked=True),
        Sent("wrong path", 404, jpeg, "image/jpeg", path="/predict"),
        Sent("wrong method", 405, jpeg, "image/jpeg", method="PUT"),
    ]


def largest_requests(own_classes: int, words: list[str]) -> list[Sent]:
    """
    The costliest requests that are allowed: the most pixels with the model's own classes, and the most classes.

    Args:
        own_classes (`int`): How many classes the model has.
        words (`list[str]`): As many words as a request may name, or more, of the server's word bank.
    """
    by_pixels = _patchwork(min(MAX_PIXELS, MAX_PIXEL_CLASSES // own_classes))
    by_classes = _patchwork(MAX_PIXEL_CLASSES // MAX_LABELS)
    request = {"inputs": _text(_file(by_classes, "JPEG")), "parameters": {"candidate_labels": words[:MAX_LABELS]}}
    return [
        Sent(f"{_megapixels(by_pixels)}, own classes", 200, _file(by_pixels, "JPEG"), "image/jpeg", by_pixels.size),
        Sent(f"{_megapixels(by_classes)}, {MAX_LABELS} classes", 200, _json(request), size=by_classes.size),
    ]


def check_answer(sent: Sent, status: int, content: bytes, allowed: tuple[int, ...] = ()) -> str | None:
    """
    What is wrong with an answer, or `None`.

    Args:
        sent ([`Sent`]): The request.
        status (`int`), content (`bytes`): Its answer.
        allowed (`tuple[int, ...]`): Further statuses that are right, with an error message.
    """
    if status != sent.status and status not in allowed:
        return f"{sent.kind}: status {status} instead of {sent.status}: {content[:200]!r}"
    try:
        answer = json.loads(content)
    except ValueError:
        return f"{sent.kind}: the answer is no JSON: {content[:200]!r}"
    if status != 200:
        well_formed = isinstance(answer, dict) and isinstance(answer.get("error"), str) and answer["error"]
        return None if well_formed else f"{sent.kind}: status {status} without a message: {content[:200]!r}"
    for segment in answer:
        if set(segment) != {"label", "score", "mask"} or not 0 <= segment["score"] <= 1:
            return f"{sent.kind}: a segment is not well formed: {str(segment)[:200]}"
        if mask(segment).shape[::-1] != sent.size:
            return f"{sent.kind}: a mask has another size than the image"
    return None


def mask(segment: dict[str, Any]) -> np.ndarray:
    """The mask of a segment of an answer, (H, W), 255 where the class is."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(segment["mask"]))))


def _patchwork(pixels: int) -> Image.Image:
    side = int(pixels**0.5)
    cells = side // PATCH + 1
    colours = np.random.default_rng(0).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((side, side), Image.Resampling.NEAREST)


def _megapixels(image: Image.Image) -> str:
    return f"{image.width * image.height / 1e6:.0f} million pixels"


def _bomb(side: int) -> bytes:
    """The head of a PNG file of `side` x `side` pixels, with next to nothing in it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(100)))]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _file(image: Image.Image, file_format: str) -> bytes:
    file = BytesIO()
    image.save(file, file_format)
    return file.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()
