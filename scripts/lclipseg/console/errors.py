"""How a user's mistake is told."""


class InputError(ValueError):
    """What the user gave cannot be used. The message says what was given, what is allowed and the nearest fix."""


def naming(name: object, error: Exception) -> str:
    """The message of an error, beginning with the file that it is about, which it may name already."""
    reason = str(error)
    return reason if reason.startswith(f"{name}") else f"{name}: {reason}"


def printable(text: object) -> str:
    """What a terminal can be given: names of files and classes may hold characters that would steer it."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in str(text))
