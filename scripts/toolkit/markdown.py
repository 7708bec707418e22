"""Text that comes from users, in a Markdown document: shown as it is, and never read as mark-up."""

import unicodedata

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
    return "".join(shown)
