"""Markdown documents: text of users in them, and tables that are renewed where they stand."""

import re
import unicodedata
from pathlib import Path

from lclipseg.console.errors import InputError

LIST_MARK = re.compile(r"-|\d+[.)]")
MARKUP = frozenset(r"!#$&*+:<>@[\]^_`{|}~")


def plain(text: object) -> str:
    """A text as Markdown that shows it, inside of a line, and does nothing else: no mark-up, no link, no HTML, no end
    of a table's cell."""
    shown = []
    for character in str(text):
        if unicodedata.category(character).startswith(("C", "Z")):  # line ends, and marks that turn the writing round
            shown.append(" ")
        elif character in MARKUP or (character == "." and shown[-1:] in (["w"], ["W"])):  # www. begins a link
            shown.append(f"&#{ord(character)};")
        else:
            shown.append(character)
    text_alone = "".join(shown)
    begins_list = LIST_MARK.match(text_alone)
    return f"&#{ord(text_alone[0])};{text_alone[1:]}" if begins_list else text_alone


def replace_between(path: Path, begin: str, end: str, markdown: str) -> None:
    """
    Renew a part of a document.

    Args:
        path (`Path`): The document.
        begin, end (`str`): Comments around the part; they stay.
        markdown (`str`): The part.

    Raises:
        [`InputError`]: the document cannot be read, or lacks a comment.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise InputError(f"{path} lacks the lines {begin!r} and {end!r}, between which the table goes.")
    path.write_text(f"{before}{begin}\n{markdown}\n{end}{after}", encoding="utf-8")
