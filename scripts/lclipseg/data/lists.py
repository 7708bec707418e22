"""Lists of the images of a split: text files, one image a line."""

import re
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_text
from lclipseg.data.pairs import Pairing, look_of


def read_list(path: Path) -> list[str]:
    """The lines of a list file, each once, in its order, without those that are empty."""
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of names in UTF-8: {error}") from error
    return list(dict.fromkeys(line for line in lines if line))


def listed_stems(path: Path, pairing: Pairing) -> tuple[list[str], list[str]]:
    """
    The images that a list names, and the lines that name none.

    A line is a name with or without suffix, or a path from the images' folder, the root or above; what follows white
    space behind it, such as the path of the mask, does not count.
    """
    known = [*pairing.pairs, *pairing.without_mask]
    by_stem = {stem: stem for stem in known}
    looks: dict[str, list[str]] = {}
    for stem in known:
        looks.setdefault(look_of(stem), []).append(stem)
    by_look = {look: stems[0] for look, stems in looks.items() if len(stems) == 1}
    stems: dict[str, None] = {}
    unknown = []
    for line in read_list(path):
        texts = dict.fromkeys((line, line.split()[0]))
        spellings = [spelling for text in texts for spelling in _spellings(text, pairing.images.name, path.stem)]
        found = [by_stem[spelling] for spelling in spellings if spelling in by_stem]
        found += [by_look[look] for look in map(look_of, spellings) if look in by_look]
        if found:
            stems[found[0]] = None
        else:
            unknown.append(line)
    return list(stems), unknown


def _spellings(line: str, folder: str, split: str) -> list[str]:
    """What a line can mean: a stem, or a path with what stands before and behind it."""
    text = line.replace("\\", "/").removeprefix("./")
    below = f"/{text}".rpartition(f"/{folder}/")[2] if f"/{folder}/" in f"/{text}" else text
    paths = dict.fromkeys((text, below, f"{split}/{text}"))
    return [name for path in paths for name in (path, re.sub(r"\.\w{2,5}$", "", path))]
