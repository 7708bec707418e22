"""Image files, and images of the web: opened within limits, with errors that name the file and the nearest fix.

Nothing here needs torch. What becomes of an image that is open stands in inputs_lclipseg.py.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from os import PathLike, fspath
from os.path import exists, isdir, isfile
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

# Twice Pillow's own limit, beyond which Pillow itself refuses: about 13,400 x 13,400 pixels.
DEFAULT_MAX_PIXELS = 178_956_970
DEFAULT_MAX_BYTES = 500_000_000  # of a file from the web
DEFAULT_TIMEOUT = 60.0  # seconds
# Brands of ISO media files that are images, and what brings Pillow to read them.
INSTALLED_BY = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "pip install pillow-heif"
    ),
    **dict.fromkeys((b"avif", b"avis"), "pip install --upgrade pillow"),
}


def open_header(
    file: str | PathLike | bytes | BinaryIO,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
) -> ImageFile.ImageFile:
    """
    Open an image without decoding a pixel, and check its size. Format, mode and EXIF tags are known from then on.

    Args:
        file, max_pixels, name, formats: See [`open_image`].

    Raises:
        ValueError: the file is missing, a folder or a pipe, unreadable, no image or too large. The message starts with
            the name.
    """
    name = _name_of(file) if name is None else name
    if isinstance(file, (str, PathLike)) and exists(file) and not isfile(file):
        what = "a folder; give the images in it" if isdir(file) else "no regular file"  # a pipe would never end
        raise ValueError(f"{name}: this is {what}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` decides
            image = _opened(BytesIO(file) if isinstance(file, bytes) else file, formats)
    except FileNotFoundError:
        raise ValueError(f"{name}: there is no such file") from None
    except UnidentifiedImageError:
        if formats is None and (line := _line_to_install(BytesIO(file) if isinstance(file, bytes) else file)):
            raise ValueError(f"{name}: a phone's format that Pillow does not read by itself: {line}") from None
        readable = f"a format other than {', '.join(formats)}" if formats else "a format that Pillow does not read"
        raise ValueError(f"{name}: not an image, or of {readable}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: too large to be opened safely. {error}") from None
    except Exception as error:  # Pillow's format plugins raise nearly anything on a damaged header
        raise ValueError(f"{name}: cannot be read: {error}") from error
    if image.width * image.height > max_pixels:
        image.close()
        raise ValueError(
            f"{name}: {image.width} x {image.height} pixels are more than the {max_pixels:,} allowed; scale it down "
            "or raise `max_pixels`"
        )
    return image


def open_image(
    file: str | PathLike | bytes | BinaryIO,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
) -> Image.Image:
    """
    Read an image file completely. Its size is checked in the header, before any pixel is decoded.

    Args:
        file (`str`, `PathLike`, `bytes` or a binary file): Path of the file, its content, or the file, opened.
        max_pixels (`int`, *optional*, defaults to 178,956,970):
            Largest width times height. More than the default needs `PIL.Image.MAX_IMAGE_PIXELS` raised as well.
        name (`str`, *optional*):
            What messages call the file, here and wherever the image cannot be used; by default its path.
        formats (`tuple[str, ...]`, *optional*): The only file formats to read, as Pillow calls them; all by default.

    Returns:
        `PIL.Image.Image`: The decoded image in the mode of the file, not yet turned upright.

    Raises:
        ValueError: see [`open_header`]; or the file is damaged or cut short.
    """
    name = _name_of(file) if name is None else name
    with open_header(file, max_pixels, name, formats) as image, named_after(name):
        decode(image)
    image.filename = name  # not before: Pillow reads some formats through it
    return image


def _opened(file: str | PathLike | BinaryIO, formats: tuple[str, ...] | None) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        if formats is not None or _line_to_install(file) is None:
            raise
        try:
            import_module("pillow_heif").register_heif_opener()  # by name: a requirement of nobody else
        except ImportError:
            raise UnidentifiedImageError from None
        return Image.open(file)


def _line_to_install(file: str | PathLike | BinaryIO) -> str | None:
    """The line that installs what reads a HEIC or AVIF file; `None` for any other file."""
    if isinstance(file, (str, PathLike)):
        with open(file, "rb") as opened:
            head = opened.read(12)
    else:
        file.seek(0)
        head = file.read(12)
        file.seek(0)
    return INSTALLED_BY.get(head[8:12]) if head[4:8] == b"ftyp" else None


def _name_of(file: str | PathLike | bytes | BinaryIO) -> str:
    return str(fspath(file)) if isinstance(file, (str, PathLike)) else "the file"


def open_url(url: str, timeout: float = DEFAULT_TIMEOUT, max_bytes: int = DEFAULT_MAX_BYTES) -> Image.Image:
    """
    Read an image from the web by the rules of [`open_image`].

    Args:
        url (`str`): Its address, `http://...` or `https://...`.
        timeout (`float`, *optional*, defaults to 60): How many seconds the server may be silent.
        max_bytes (`int`, *optional*, defaults to 500,000,000): Size of the largest file.

    Raises:
        ValueError: no answer, or one that is too large or no image. The message starts with the address.
    """
    from huggingface_hub.utils import httpx  # which takes a while to import, and files do not need

    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as answer:
            for part in answer.raise_for_status().iter_bytes():
                content += part
                if len(content) > max_bytes:
                    raise ValueError(f"{url}: more than the {max_bytes:,} bytes allowed")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"{url}: cannot be fetched: {error}") from error
    return open_image(bytes(content), name=url)


@contextmanager
def named_after(file: str) -> Iterator[None]:
    """Whatever is wrong with an image that came from a file names the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if file else str(error)) from error


def decode(image: Image.Image) -> None:
    """Decode what Pillow has left in the file so far."""
    if image.format == "EPS":
        raise ValueError("EPS is a program, which Pillow would have another program run; convert it to PNG")
    try:
        image.load()
    except Exception as error:  # Pillow's format plugins raise nearly anything on damaged data
        raise ValueError(f"damaged or cut short: {error}") from error


__all__ = ["DEFAULT_MAX_PIXELS", "decode", "named_after", "open_header", "open_image", "open_url"]
