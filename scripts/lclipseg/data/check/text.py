"""A data report in Markdown, and in short on a terminal. File names can hold anything: all of it is made harmless."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lclipseg.console.errors import printable
from lclipseg.console.markdown import plain
from lclipseg.data.check.report import DataReport, Problem, SizeRange, SplitStatistics
from lclipseg.data.class_list import CLASSES_FILE

SHOWN_EXAMPLES = 3
SHOWN_CLASSES = 20
SHOWN_WRONG_IDS = 20
COLOURS = {"error": "red", "warning": "yellow", "note": "default"}
QUICK_NOTE = "Quick: of the images only the headers were read; damaged pixels and equal images stay unseen."


def to_markdown(report: DataReport) -> str:
    """The whole report."""
    lines = [f"# Check of {_shown(report.source)}", "", _shown(verdict(report))]
    if report.quick:
        lines += ["", QUICK_NOTE]
    lines += ["", "## Splits", "", *_markdown_table(*_split_table(report.splits))]
    lines += ["", "## Classes", "", *_markdown_table(*_class_table(report, len(report.class_names)))]
    for problem in report.problems:
        lines += ["", f"## {_counted(problem)}"]
        lines += ["", f"Fix: {_shown(problem.fix)}.", ""]
        lines += [f"- {_shown(example.name)}: {_shown(example.detail)}" for example in problem.examples]
        more = problem.count - len(problem.examples)
        lines += [f"- and {more:,} more"] if more > 0 else []
    if report.wrong_ids:
        lines += ["", "## Ids that are no class", "", *_markdown_table(*_wrong_id_table(report))]
    return "\n".join(lines) + "\n"


def show(report: DataReport, console: Console) -> None:
    """The report in short: at most the rarest classes, and a few examples of every kind of problem."""
    console.print(_rich_table("Splits", *_split_table(report.splits)))
    rarest = f", the rarest {SHOWN_CLASSES} of them" if len(report.class_names) > SHOWN_CLASSES else ""
    console.print(_rich_table(f"Classes{rarest}", *_class_table(report, SHOWN_CLASSES)))
    for problem in report.problems:
        console.print(Text(_counted(problem), style=COLOURS[problem.severity]))
        for example in problem.examples[:SHOWN_EXAMPLES]:
            console.print(Text(printable(f"  {example.name}: {example.detail}")), soft_wrap=True)
        more = problem.count - min(len(problem.examples), SHOWN_EXAMPLES)
        if more > 0:
            console.print(Text(f"  and {more:,} more"))
        console.print(Text(printable(f"  fix: {problem.fix}")), soft_wrap=True)
    if report.wrong_ids:
        console.print(_rich_table("Ids that are no class", *_wrong_id_table(report)))
    if report.quick:
        console.print(Text(QUICK_NOTE))
    console.print(Text(printable(verdict(report)), style="bold"))


@dataclass(frozen=True)
class Section:
    """A titled table."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def sections_to_markdown(title: str, sections: Sequence[Section]) -> str:
    lines = [f"# {_shown(title)}"]
    for one in sections:
        lines += ["", f"## {_shown(one.title)}", "", *_markdown_table(one.header, one.rows)]
    return "\n".join(lines) + "\n"


def show_sections(sections: Sequence[Section], console: Console) -> None:
    for one in sections:
        console.print(Text(one.title))  # not the table's, which would be wrapped at its width
        console.print(_rich_table("", one.header, one.rows))


def verdict(report: DataReport) -> str:
    pairs = sum(split.pairs for split in report.splits)
    splits = ", ".join(f"{split.pairs:,} {split.name}" for split in report.splits)
    has_problems = report.errors or report.warnings
    found = f"errors: {report.errors:,}, warnings: {report.warnings:,}" if has_problems else "no problems found"
    return f"{pairs:,} images with masks ({splits}); {found}."


def _counted(problem: Problem) -> str:
    return f"{problem.severity.capitalize()}, {problem.title}: {problem.count:,}"


def _split_table(splits: Sequence[SplitStatistics]) -> tuple[list[str], list[list[str]]]:
    header = ["split", "pairs", "width", "height", "modes of images", "modes of masks", "ignored"]
    rows = [
        [
            split.name,
            f"{split.pairs:,}",
            _range(split.width),
            _range(split.height),
            _modes(split.image_modes),
            _modes(split.mask_modes),
            f"{split.ignored_share:.2%}",
        ]
        for split in splits
    ]
    return header, rows


def _class_table(report: DataReport, limit: int) -> tuple[list[str], list[list[str]]]:
    """For every split the share of the labelled pixels and the number of images; of too many classes the rarest."""
    header = ["id", "class"]
    for split in report.splits:
        header += [f"{split.name}, pixels", f"{split.name}, images"]
    ids = list(range(len(report.class_names)))
    if len(ids) > limit:
        pixels = [sum(split.classes[index].pixels for split in report.splits) for index in ids]
        ids = sorted(sorted(ids, key=lambda index: pixels[index])[:limit])
    rows = []
    for index in ids:
        row = [str(index), report.class_names[index]]
        for split in report.splits:
            row += [f"{split.classes[index].share:.3%}", f"{split.classes[index].images:,}"]
        rows.append(row)
    return header, rows


def _wrong_id_table(report: DataReport) -> tuple[list[str], list[list[str]]]:
    shown = report.wrong_ids[:SHOWN_WRONG_IDS]
    rows = [[f"{entry.id}", f"{entry.pixels:,}", f"{entry.masks:,}"] for entry in shown]
    if len(report.wrong_ids) > len(shown):
        rows.append([f"and larger ones, not in {CLASSES_FILE} either", "", ""])
    return ["id", "pixels", "masks"], rows


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        _markdown_row(header),
        _markdown_row(["---"] * len(header), escape=False),
        *(_markdown_row(row) for row in rows),
    ]


def _markdown_row(cells: Sequence[str], escape: bool = True) -> str:
    return f"| {' | '.join(_shown(cell) if escape else cell for cell in cells)} |"


def _rich_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(Text(printable(name)))
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _range(sizes: SizeRange | None) -> str:
    if sizes is None:
        return "none read"
    if sizes.smallest == sizes.largest:
        return str(sizes.median)
    return f"{sizes.smallest} to {sizes.largest}, median {sizes.median}"


def _modes(counts: dict[str, int]) -> str:
    return ", ".join(f"{mode} {count:,}" for mode, count in counts.items()) or "none read"


def _shown(text: str) -> str:
    """In Markdown, also what no encoding has, as names of files may."""
    return plain(printable(text))
