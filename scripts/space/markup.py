"""Small pieces of HTML for the page. Names and messages are text: whatever could be read as markup is escaped."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NONE_OF_THESE = "none of these"
GREY = (128, 128, 128)


def text(words: str) -> str:
    """HTML that shows `words` letter by letter, also inside attributes and in Gradio's templates (`${}`, `{{}}`)."""
    return html.escape(words).replace("{", "&#123;").replace("$", "&#36;")


def heading(title: str, models: Sequence[str], caveat: str) -> str:
    """The head of the page: its title, the models' names, and what to expect of them."""
    return f'<h1>{text(title)}</h1><p>{text(caveat)}</p><p class="quiet">Model: {text(", ".join(models))}</p>'


def notice(message: str) -> str:
    """A message about input that cannot be used: its first sentence says what is wrong, the others less loudly why."""
    first, period, others = message.partition(". ")
    return f'<div class="notice" role="alert">{text(first + period)}<span class="quiet">{text(others)}</span></div>'


def shares_table(shares: Sequence[Any], palette: np.ndarray, names: Sequence[str]) -> str:
    """
    The legend: every class in the image with its colour and share, the largest first; then what is none of them, and
    the classes not found.

    Args:
        shares (sequence of [`ClassShare`]): what `class_shares` says.
        palette (`np.ndarray` of shape `(num_classes, 3)`): RGB by class id.
        names (sequence of `str`): all classes that were asked for, by id.
    """
    found = {share.class_id for share in shares}
    absent = [name for class_id, name in enumerate(names) if class_id not in found]
    rows = "".join(
        _row(NONE_OF_THESE, share.share, GREY)
        if share.class_id is None
        else _row(share.name, share.share, palette[share.class_id])
        for share in shares
    )
    head = '<thead><tr><th scope="col">class</th><th scope="col" colspan="2">share of the image</th></tr></thead>'
    table = f'<table class="shares">{head}<tbody>{rows}</tbody></table>'
    return table + (f'<p class="quiet">Not found: {text(", ".join(absent))}</p>' if absent else "")


def _row(name: str, share: float, colour: Sequence[int]) -> str:
    red, green, blue = map(int, colour)
    background = f"background: rgb({red}, {green}, {blue})"
    percent = "< 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %"
    cells = (
        f'<td><div class="name"><span class="chip" style="{background}"></span><span>{text(name)}</span></div></td>',
        f'<td class="number">{text(percent)}</td>',
        f'<td class="scale"><div class="bar" style="width: {100 * share:.1f}%; {background}"></div></td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def timings(seconds: Mapping[str, float]) -> str:
    """The stages in their order, in milliseconds, with the sum."""
    stages = " · ".join(f"{text(stage)} {_milliseconds(taken)}" for stage, taken in seconds.items())
    return f'<p class="quiet">{_milliseconds(sum(seconds.values()))} ms in all: {stages}</p>'


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}" if seconds < 0.01 else f"{1000 * seconds:.0f}"
