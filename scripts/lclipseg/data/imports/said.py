"""What an import tells at its end: what was read, what was decided, and what was left out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lclipseg.data.class_list import IGNORE_INDEX, ClassList
from lclipseg.data.imports.export import Export, ObjectExport

SHOWN = 5


def summary(
    export: Export, classes: ClassList, rest: int, written: Counter[str | None], empty: int, out: Path
) -> Iterator[str]:
    """The lines, the shortest account first."""
    found = export.findings
    splits = ", ".join(f"{count} {split or 'without a split'}" for split, count in written.items())
    yield f"{out}: {export.title}; {len(classes.names)} classes; images: {splits}"
    if isinstance(export, ObjectExport):
        counts = ", ".join(f"{name} {count}" for name, count in found.objects.most_common())
        yield f"objects: {sum(found.objects.values())}" + (f" ({counts})" if counts else "")
        covered = "not labelled" if rest == IGNORE_INDEX else f"the class {classes.names[rest]!r}"
        yield f"what no object covers is {covered}; --rest says otherwise"
    else:
        counts = ", ".join(f"{name} {count}" for name, count in found.objects.most_common())
        yield f"images that show each class: {counts}"
    yield from found.notes
    if found.ignored:
        yield f"not labelled: {', '.join(f'{count} x {name}' for name, count in found.ignored.most_common())}"
    if found.overlapping:
        on_top = "the smaller" if getattr(export, "smaller_on_top", False) else "the later"
        yield f"objects of several classes overlap in {found.overlapping} images: {on_top} object lies on top"
    if empty:
        left_out = export.args.empty == "skip" or rest == IGNORE_INDEX
        kept = "left out" if left_out else "kept as images of nothing; --empty skip leaves them out"
        yield f"images without an object: {empty}, {kept}"
    if missing := list(export.source.missing.values()):
        yield f"images that are named, but not there: {len(missing)}, left out: {_some(missing)}"
    if found.not_annotated:
        yield f"images that nobody has labelled: {len(found.not_annotated)}, left out: {_some(found.not_annotated)}"
    if found.cut:
        yield f"objects that reach out of their image: {len(found.cut)}, cut at its border: {_some(found.cut)}"
    if found.without_pixels:
        yield f"objects that cover no pixel: {len(found.without_pixels)}: {_some(found.without_pixels)}"
    if found.unknown_values:
        named = [f"{value} in {count} pixels" for value, count in found.unknown_values.most_common()]
        yield f"colours or numbers of no class: {len(named)}, not labelled: {_some(named)}"


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
