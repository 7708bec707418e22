"""Files that people and commands write: YAML and JSON."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import Any

import yaml

from lclipseg.console.errors import InputError


def read_text(path: str | Path) -> str:
    """A text in UTF-8, or in UTF-16 with the byte order mark of Windows' programs; without that mark."""
    content = Path(path).read_bytes()
    text = content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: str | Path, what: str = "") -> Any:
    """
    What a YAML file holds.

    Args:
        path (`str` or `Path`): The file.
        what (`str`, *optional*): What it is, for messages: "the list of classes ".

    Raises:
        [`InputError`]: the file cannot be read, or is not valid YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except OSError as error:
        raise InputError(f"{what}{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{what}{path} is not valid YAML: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a file that holds one JSON object.

    Raises:
        [`InputError`]: it is missing, damaged or holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object")
    return content
