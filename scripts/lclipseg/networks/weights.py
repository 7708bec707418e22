"""Which weights a result is of."""

import hashlib
from pathlib import Path

from transformers.utils import SAFE_WEIGHTS_NAME

from lclipseg.networks.export_record import EXPORT_FILE, MODEL_FILE


def weights_sha256(folder: str | Path) -> str | None:
    """The SHA-256 of what runs in a folder, by which a result knows it: the graph of an exported model, or a
    checkpoint's weights; None where there is none, as with a name on the Hub."""
    folder = Path(folder).expanduser()
    weights = folder / (MODEL_FILE if (folder / EXPORT_FILE).is_file() else SAFE_WEIGHTS_NAME)
    if not weights.is_file():
        return None
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
