"""The name that was meant, for the end of an error's message."""

import difflib
from collections.abc import Iterable


def nearest(given: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """
    The known name that a wrong one is nearest to: one that begins with it, else one that it is part of or that is part
    of it, else one of similar letters; `None` where there is none. Case does not matter.

    Args:
        given (`str`): The wrong name.
        known (iterable of `str`): The right ones.
        cutoff (`float`, *optional*, defaults to 0.6): Share of equal letters that is enough, 0 to 1.
    """
    folded = {name.casefold(): name for name in known}
    wanted = given.casefold()
    parts = [name for name in folded if len(wanted) > 2 and (wanted in name or (len(name) > 2 and name in wanted))]
    if parts:
        best = min(parts, key=lambda name: (not name.startswith(wanted), abs(len(name) - len(wanted)), name))
        return folded[best]
    near = difflib.get_close_matches(wanted, folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None
