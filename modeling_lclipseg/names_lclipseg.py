"""Class names, and the rules for the vectors of words: what a model and an exported one share, without torch."""

import difflib
import json
import math
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

# Unicode's categories of unreadable characters: control characters, halves of a character, ends of lines.
UNREADABLE = ("Cc", "Cs", "Zl", "Zp")
# A word has a larger cosine with the mean of its own tower's vectors; another tower's are at right angles to it.
SAME_TOWER_COSINE = 0.3
# The least length of a mean of vectors that tells that they have a common direction.
SHORTEST_CENTER = 0.5
# The least cosine of a new word with a trained class at which a network can segment it, see `nearest_known`.
FAMILIAR_COSINE = 0.25
BANK_SUFFIX = ".safetensors"
DEFAULT_KEYS = ("words", "bank.single")


def check_class_names(names: Sequence[str]) -> list[str]:
    """
    Check a list of class names.

    Args:
        names (sequence of `str`): The names, in the order of the class indices.

    Returns:
        `list[str]`: The names without surrounding white space.

    Raises:
        ValueError: one string instead of a list, an empty list, a name that is not a string, is blank or holds control
            characters or line ends, or names that differ only in case and white space.
    """
    if isinstance(names, str):
        raise ValueError(f"Class names must be a list, got the one string {names!r}; write [{names!r}].")
    if isinstance(names, (Mapping, Set)):
        write = "list(id2label.values())" if isinstance(names, Mapping) else "a list: a set has no order"
        raise ValueError(f"Class names must be a list, got a {type(names).__name__}; write {write}.")
    names = list(names)
    if not names:
        raise ValueError("The list of class names is empty; give at least one name.")
    for position, name in enumerate(names, start=1):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"Class name {position} of {len(names)} is {name!r}; every name must be a word or more.")
        if any(unicodedata.category(character) in UNREADABLE for character in name.strip()):
            raise ValueError(f"Class name {position} of {len(names)} is {name!r}; leave the control characters out.")
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(fold_name(name), []).append(name)
    repeated = [name for same in spellings.values() if len(same) > 1 for name in same]
    if repeated:
        raise ValueError(f"Duplicate class names: {quoted(repeated)}; every class needs a name of its own.")
    return [name.strip() for name in names]


def fold_name(name: str) -> str:
    """The same text for all spellings of a name that differ only in case and the amount of white space."""
    return " ".join(name.split()).casefold()


def quoted(items: Iterable[object]) -> str:
    """`'sky', 'road'`"""
    return ", ".join(map(repr, items))


def some(names: Sequence[str]) -> str:
    """The first dozen names, quoted."""
    return quoted(names[:12]) + (f", ... {len(names)} in all" if len(names) > 12 else "")


def closest(words: Sequence[str], known: Sequence[str]) -> str:
    """For a message: the known words that some unknown ones may be misspellings of."""
    near = [match for word in words for match in difflib.get_close_matches(word, known, n=1)]
    return f" (did you mean {quoted(near)}?)" if near else ""


# ------------------------------------------------------------------------------------------------------------- vectors


def check_lengths(lengths: Sequence[float]) -> None:
    """A ValueError where the length of a class embedding says that it is zero, or holds NaN or infinity."""
    # A length is finite only where every number of its row is.
    infinite = [row for row, length in enumerate(lengths) if not math.isfinite(length)]
    zero = [row for row, length in enumerate(lengths) if length < 1e-6]
    for problem, rows in (("hold NaN or infinity", infinite), ("are zero", zero)):
        if rows:
            shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            raise ValueError(
                f"{len(rows)} of {len(lengths)} class embeddings {problem} (row {shown}); embed them again."
            )


def check_cosines(cosines: Sequence[float], names: Sequence[str], text_model: str | None) -> None:
    """A ValueError where the cosines of vectors with a tower's common direction say that they are another tower's."""
    foreign = [name for name, cosine in zip(names, cosines, strict=True) if cosine < SAME_TOWER_COSINE]
    if foreign:
        raise ValueError(
            f"The vectors of {quoted(foreign[:5])}{', ...' if len(foreign) > 5 else ''} do not come from this "
            f"checkpoint's text tower ({text_model or 'not named in its config'}): their cosine with its common "
            f"direction is {min(cosines):.2f}, and that of its own vectors is above 0.6. Embed the words with that "
            "tower (and do not subtract anything from its vectors)."
        )


def unfamiliar(
    names: Sequence[str], trained: Sequence[str], cosines: Sequence[float], rows: Sequence[int]
) -> str | None:
    """
    What to warn of where some classes are like none of those that the network was trained on.

    Args:
        names (sequence of `str`): The classes.
        trained (sequence of `str`): Those that the network was trained on.
        cosines (sequence of `float`), rows (sequence of `int`): For every class its cosine with the nearest of the
            trained ones, the common direction left out, and which one that is.

    Returns:
        `str`: the warning; `None` where all are familiar.
    """
    far = [
        f"{name!r} (nearest: {trained[row]!r}, {cosine:.2f})"
        for name, cosine, row in zip(names, cosines, rows, strict=True)
        if cosine < FAMILIAR_COSINE
    ]
    if not far:
        return None
    return (
        f"Unlike every class that this checkpoint was trained on: {', '.join(far[:12])}"
        f"{', ...' if len(far) > 12 else ''}. It was taught nothing about them, and will give them pixels at "
        f"random. Words with a cosine of {FAMILIAR_COSINE} or more to a trained class, the common direction "
        "left out, fare better."
    )


# ---------------------------------------------------------------------------------------------------------- word banks


def read_bank(
    source: str | os.PathLike, framework: str
) -> tuple[str, tuple[str, ...], Any, str | None, tuple[str, ...]]:
    """
    What the files of a word bank hold; see [`WordBank`], and [`WordBank.load`] for the errors.

    Args:
        source (`str`): `bank.safetensors`, or `bank.safetensors#key` for one of several tensors.
        framework (`str`): `"pt"` for vectors as a tensor, `"np"` for an array.

    Returns:
        `tuple`: what to call the bank in messages; its words; their vectors (num_words, embed_dim), of the type in the
        file; the text tower and the sentences that made them, where they are known.
    """
    stem, suffix, key = os.fspath(source).partition(f"{BANK_SUFFIX}#")
    path = check_bank_path(stem + BANK_SUFFIX if suffix else source)
    names_path = bank_names_path(path)
    for file in (path, names_path):
        if not file.is_file():
            raise ValueError(f"{file} does not exist; a word bank is NAME.safetensors beside NAME_names.json.")
    try:
        with safe_open(path, framework=framework) as tensors:
            key = _chosen_key(key if suffix else None, sorted(tensors.keys()), path)
            embeddings = tensors.get_tensor(key)
    except (OSError, TypeError, SafetensorError) as error:  # NumPy has no bfloat16: a TypeError
        raise ValueError(f"The word bank {path} cannot be read as safetensors: {error}") from error
    return f"The word bank {path}, key {key!r}", *_read_names(names_path, key, embeddings)


def check_bank_path(path: str | os.PathLike) -> Path:
    """Check that `path` can be a word bank's: a ValueError without the suffix `.safetensors` or the folder."""
    path = Path(path).expanduser()
    if path.suffix != BANK_SUFFIX:
        raise ValueError(f"A word bank is a file that ends in {BANK_SUFFIX}, got {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"The folder {path.parent} of the word bank {path.name} does not exist; make it first.")
    return path


def bank_names_path(path: Path) -> Path:
    """Where the words of a word bank stand."""
    return path.with_name(f"{path.stem}_names.json")


def check_bank_width(width: int, expected: int, text_model: str | None) -> None:
    """A ValueError where a bank's vectors do not have the width that a model takes."""
    if width != expected:
        raise ValueError(
            f"The word bank's vectors are {width} wide, but this checkpoint takes {expected}; "
            f"give a bank of its text tower ({text_model or 'not named in its config'})."
        )


def check_bank_tower(bank_model: str | None, text_model: str | None) -> None:
    """A ValueError where a bank names another text tower than a model. `openai/clip-vit-base-patch16` and a local copy
    of it in a folder of that name are one tower."""
    last = {name.rstrip("/").rsplit("/", 1)[-1].casefold() for name in (bank_model, text_model) if name}
    if len(last) > 1:
        raise ValueError(
            f"The word bank comes from the text tower {bank_model!r}, but this checkpoint was trained "
            f"with {text_model!r}; give a bank of that tower."
        )


def _chosen_key(key: str | None, keys: list[str], path: Path) -> str:
    defaults = keys if len(keys) == 1 else DEFAULT_KEYS
    for candidate in defaults if key is None else [key]:
        if candidate in keys:
            return candidate
    wanted = "No key is chosen" if key is None else f"There is no key {key!r}"
    raise ValueError(f"{wanted} in the word bank {path}; write {path}#KEY with one of: {', '.join(keys)}.")


def _read_names(path: Path, key: str, embeddings: Any) -> tuple[tuple[str, ...], Any, str | None, tuple[str, ...]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The list of words {path} cannot be read as JSON: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not _is_list_of_strings(names.get(key)):
        raise ValueError(f'The list of words {path} must be {{"names": {{"{key}": [words in row order]}}}}.')
    text_model, prompt_templates = content.get("text_model"), content.get("prompt_templates", [])
    if not isinstance(text_model, str | None) or not _is_list_of_strings(prompt_templates):
        raise ValueError(f"In {path}, `text_model` must be a name and `prompt_templates` a list of sentences.")
    return tuple(names[key]), embeddings, text_model, tuple(prompt_templates)


def _is_list_of_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


__all__ = [
    "FAMILIAR_COSINE",
    "SHORTEST_CENTER",
    "bank_names_path",
    "check_bank_path",
    "check_bank_tower",
    "check_bank_width",
    "check_class_names",
    "check_cosines",
    "check_lengths",
    "closest",
    "fold_name",
    "quoted",
    "read_bank",
    "some",
    "unfamiliar",
]
