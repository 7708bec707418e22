"""Where moving images come from: a file, a camera or an address."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lclipseg.console.errors import InputError

VIDEO_SUFFIXES = frozenset(
    {
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    }
)
SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")


@dataclass(frozen=True)
class Place:
    """
    Args:
        given (`int` or `str`): The number of a camera, an address, or the path of a file.
        name (`str`): What its results are called.
        shown (`str`): What messages call it; an address without its password.
    """

    given: int | str
    name: str
    shown: str

    @property
    def is_file(self) -> bool:
        return isinstance(self.given, str) and "://" not in self.given


def is_moving(text: str) -> bool:
    """Whether an input of the command is a video, a camera or an address, rather than images."""
    if Path(text).expanduser().is_dir():
        return False
    return "://" in text or _camera(text) is not None or Path(text).suffix.lower() in VIDEO_SUFFIXES


def find_place(text: str) -> Place:
    """
    What [`is_moving`] says yes to.

    Raises:
        InputError: an address of another kind, or no such file.
    """
    camera = _camera(text)
    if camera is not None:
        return Place(camera, f"camera{camera}", f"camera {camera}")
    if "://" in text:
        return _address(text)
    path = Path(text).expanduser()
    if not path.is_file():
        what = "is no regular file" if path.exists() else "there is no such file"
        raise InputError(f"{text}: {what}")
    return Place(str(path.resolve()), path.stem, text)


def _camera(text: str) -> int | None:
    """The number of a camera: `0` or `/dev/video0`, where no file has that name."""
    found = re.fullmatch(r"(?:/dev/video)?(\d{1,4})", text)
    is_other = found is None or (text.isdecimal() and Path(text).exists())
    return None if is_other else int(found[1])  # type: ignore[index]


def _address(text: str) -> Place:
    scheme = text.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise InputError(f"an address that begins with {scheme}:// is not known; allowed are {', '.join(SCHEMES)}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError(f"this {scheme} address cannot be read: {error}") from None
    where = f"{host}{f':{port}' if port else ''}{parts.path}"
    name = re.sub(r"[^\w.-]+", "-", f"{host}{parts.path}").strip("-.") or scheme
    return Place(text, name, f"{scheme}://{where}")  # not the user, nor the query, which may hold a key


__all__ = ["VIDEO_SUFFIXES", "Place", "find_place", "is_moving"]
