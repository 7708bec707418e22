"""Text that comes from users, in a Markdown document: shown as it is, and never read as mark-up."""

import re
import unicodedata

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
