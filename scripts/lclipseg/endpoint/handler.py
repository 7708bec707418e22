"""Serve the model of this repository on an Inference Endpoint of the Hub, which finds this file by its name.

It needs what requirements.txt says, and nothing but the files beside it.

    handler = EndpointHandler("folder of the model")
    handler({"inputs": <image>, "parameters": {"candidate_labels": ["road", "kerb"], "threshold": 0.5}})

Time and memory of a request grow with its pixels times its classes: scores are compared, and masks made, at the size
of the image. MAX_PIXEL_CLASSES bounds both. What the largest requests cost is measured by scripts/load.py of
the project, and stands in its docs/results/load.md.
"""

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

MAX_BYTES = 20_000_000  # of a compressed image
MAX_PIXELS = 25_000_000  # of an image
MAX_PIXEL_CLASSES = 300_000_000  # pixels times classes: 25 million pixels of 12 classes, or 2 million of 150
MAX_LABELS = 150
MAX_NAME_BYTES = 300  # of a text that may be the name of a file
MAX_LABEL_LETTERS = 100  # a text tower reads some 70 words or parts of words
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow runs other programs for some others
KEYS = ("inputs", "parameters", "options")  # of these, clients of the Hub send `options`, about its queue
PARAMETERS = ("candidate_labels", "threshold")


class EndpointHandler:
    """
    Segments one image for a request.

    Args:
        path (`str`, *optional*): The folder of the model; by default the one of this file.
    """

    def __init__(self, path: str = ""):
        import torch  # not above: what reads requests and writes answers, below, is also used where there is none
        from transformers import pipeline
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        folder = str(path or Path(__file__).resolve().parent)
        device = 0 if torch.cuda.is_available() else -1
        self.segment = pipeline("image-segmentation", model=folder, trust_remote_code=True, device=device)
        model: Any = self.segment.model
        with contextlib.suppress(ValueError):  # an unusual backbone is served as it is
            self.segment.model = model.fold()
        self.open_image = get_class_from_dynamic_module("opening_lclipseg.open_image", folder)

    def __call__(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """
        Args:
            data (`dict`): `inputs`, an image (PIL image, bytes of a file, or these as base64 text), and optional
                `parameters`: `candidate_labels`, a list of classes instead of the model's own, and `threshold`, the
                lowest score of a segment, 0 to 1.

        Returns:
            `list[dict]`: `label`, `score` (0 to 1) and `mask` (a PNG file as base64 text: grey, of the image's size,
            255 where the class is) of every class that was found.

        Raises:
            ValueError: a request that cannot be met; the Endpoint answers with status 400 and the message.
        """
        model: Any = self.segment.model
        image, parameters = read_request(data, self.open_image, len(model.config.class_names))
        segments: Any = self.segment(image, **parameters)
        return encode_segments(segments)


def read_request(
    data: Any, open_image: Callable[..., Image.Image], own_classes: int
) -> tuple[Image.Image, dict[str, Any]]:
    """
    A request's image, decoded only if it is not too large, and its parameters, all checked.

    Args:
        data (`Any`): What came in; see [`EndpointHandler`].
        open_image (`Callable`): The one of opening_lclipseg.py.
        own_classes (`int`): How many classes the model has where the request names none.

    Raises:
        ValueError: a request that cannot be met.
    """
    if not isinstance(data, Mapping) or "inputs" not in data:
        raise ValueError('a request must be {"inputs": <image>, "parameters": {...}}; `inputs` is missing')
    unknown = sorted(str(key) for key in data if key not in KEYS)
    if unknown:
        hint = "; those belong into `parameters`" if set(unknown) & set(PARAMETERS) else ""
        raise ValueError(f"a request has no keys {', '.join(unknown):.200}; allowed: {', '.join(KEYS)}{hint}")
    parameters = _checked_parameters(data.get("parameters"))
    classes = len(parameters.get("candidate_labels", range(own_classes)))
    return _image(data["inputs"], open_image, classes), parameters


def encode_segments(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pipeline's segments in the form of an answer: masks as PNG files in base64 text."""
    return [{**segment, "mask": _base64_png(segment["mask"])} for segment in segments]


def check_bytes(count: int) -> None:
    """A ValueError for an image of more bytes than are allowed."""
    if count > MAX_BYTES:
        raise ValueError(f"inputs: {count:,} bytes are more than the {MAX_BYTES:,} allowed; send a smaller image")


def _image(inputs: Any, open_image: Callable[..., Image.Image], classes: int) -> Image.Image:
    """The image of `inputs`. A text is never a path or an address here."""
    max_pixels = min(MAX_PIXELS, MAX_PIXEL_CLASSES // classes)
    name = "inputs" if max_pixels == MAX_PIXELS else f"inputs, for {classes} classes"
    if isinstance(inputs, str):
        inputs = _from_base64(inputs)
    if isinstance(inputs, bytes):
        check_bytes(len(inputs))
        try:
            return open_image(inputs, max_pixels, name, FORMATS)
        except ValueError as error:
            raise ValueError(f"{error}{_what_came(inputs)}") from error
    if not isinstance(inputs, Image.Image):
        raise ValueError(
            f"`inputs` must be an image, the bytes of an image file or these as base64 text, not "
            f"{type(inputs).__name__}"
        )
    if inputs.width * inputs.height > max_pixels:
        raise ValueError(f"{name}: {inputs.width} x {inputs.height} pixels are more than the {max_pixels:,} allowed")
    return inputs


def _from_base64(text: str) -> bytes:
    check_bytes(len(text) * 3 // 4)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        # `base64 FILE` breaks its lines; what is made for addresses has - and _.
        return base64.b64decode("".join(text.split()).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(
            "`inputs` is a text, but not the base64 text of an image file; a path or an address is not read here"
        ) from None


OTHER_KINDS = {
    b"data:": 'a "data:" address',
    b"\x1f\x8b": "a body packed by gzip",
    b"PK\x03\x04": "a zip file",
    b"%PDF": "a PDF",
}


def _what_came(body: bytes) -> str:
    """What a body seems to be that is no image, by how HTTP clients send one: for the end of a message, or nothing."""
    start = body[:200].lstrip()
    take = 'send the file itself (curl --data-binary @FILE), or JSON {"inputs": <its base64 text>}'
    if not start:
        came = "nothing came"
    elif body.startswith((b"\x89PNG\x1a", b"\x89PNG\n\x1a")):
        came = "a PNG file without its line ends came, as `curl -d @FILE` sends it"
    elif start.startswith(b"--") and b"form-data" in body[:1000].lower():
        came = "a form came (multipart/form-data, as `curl -F` sends it)"
    elif re.match(rb"\w+=[^=]", start):
        came = "a form came (application/x-www-form-urlencoded)"
    elif (kind := next((kind for magic, kind in OTHER_KINDS.items() if body.startswith(magic)), None)) is not None:
        came = f"{kind} came"
    elif start.startswith(b"{"):
        came, take = "JSON came without its header", 'add "Content-Type: application/json"'
    elif start.startswith(b"<"):
        came = "a page or an SVG drawing came"
    elif len(body) > MAX_NAME_BYTES and _is_base64(body):  # that of a JPEG file begins with a slash, as a path does
        came = "base64 text came as it is"
    elif len(body) <= MAX_NAME_BYTES and body.isascii() and body.decode().isprintable() and {*b"./"} & {*body}:
        came = "the name or address of a file came"
    else:
        return ""
    return f"; {came}: {take}"


def _is_base64(body: bytes) -> bool:
    try:
        return bool(base64.b64decode(b"".join(body.split()).replace(b"-", b"+").replace(b"_", b"/"), validate=True))
    except (binascii.Error, ValueError):
        return False


def _checked_parameters(parameters: Any) -> dict[str, Any]:
    """The parameters that may come from outside; the pipeline has others, which read files."""
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, Mapping):
        raise ValueError(f"`parameters` must be an object, not {type(parameters).__name__}")
    given = {name: value for name, value in parameters.items() if value is not None}
    unknown = sorted(set(given) - set(PARAMETERS))
    if unknown:
        raise ValueError(f"there are no parameters {', '.join(unknown):.200}; allowed: {', '.join(PARAMETERS)}")
    labels, threshold = given.get("candidate_labels", [""]), given.get("threshold", 0)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"`candidate_labels` must be a list of texts, not {labels!r:.80}")
    if not 1 <= len(labels) <= MAX_LABELS:
        raise ValueError(f"`candidate_labels` has {len(labels)} entries; allowed: 1 to {MAX_LABELS}")
    longest = max(labels, key=len)
    if len(longest) > MAX_LABEL_LETTERS:
        raise ValueError(
            f"`candidate_labels` has one of {len(longest)} letters ({longest!r:.40}); allowed: {MAX_LABEL_LETTERS}"
        )
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` is {threshold!r:.80}; allowed: a number from 0 to 1")
    return given


def _base64_png(mask: Image.Image) -> str:
    file = BytesIO()
    mask.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
