"""Which format an export has."""

from importlib import import_module
from pathlib import Path

from lclipseg.console.errors import InputError
from lclipseg.data.arguments import FORMATS, PUBLISHED, ImportArguments
from lclipseg.data.files import is_hidden
from lclipseg.data.imports.export import Export
from lclipseg.data.imports.source import Source
from lclipseg.data.sources.recipe import Recipe

READERS = {
    "coco": "coco.CocoExport",
    "colours": "colours.ColourExport",
    "yolo": "yolo.YoloExport",
    "labelme": "labelme.LabelMeExport",
    "label-studio": "label_studio.LabelStudioExport",
    "cvat": "cvat.CvatExport",
    "ade20k-full": "ade20k_full.WholeAde20kExport",
}
assert tuple(READERS) == FORMATS
DEPTH, MOST_FOLDERS = 3, 20  # where published sets are looked for: archives have a folder of their own, or two


def reader(name: str) -> type[Export]:
    """The reader of a format."""
    module, _, kind = READERS[name].partition(".")
    found: type[Export] = getattr(import_module(f"lclipseg.data.imports.{module}"), kind)
    return found


def recognised(source: Source) -> list[str]:
    """The formats that a source may have."""
    return [name for name in FORMATS if reader(name).recognises(source)]


def open_export(source: Source, args: ImportArguments) -> Export:
    """
    The reader of a source, opened.

    Raises:
        [`InputError`]: no format, or several, are recognised, and none is named.
    """
    names = [args.format] if args.format is not None else recognised(source)
    if len(names) > 1:
        raise InputError(f"{source.given} may be {' or '.join(names)}; name one with --format")
    if not names:
        found = sorted({path.name for path in source.root.iterdir()})[:10] if source.given.is_dir() else "it"
        raise InputError(
            f"{source.given} is of no format that is recognised (it holds {found}); the formats are "
            f"{', '.join(FORMATS)}, named with --format"
        )
    return reader(names[0])(source, args)


def published_set(source: Path, name: str | None) -> tuple[str, Path] | None:
    """
    The published data set that lies in a folder, by the paths of its files, and its own folder, which may lie in it
    (VOCdevkit/VOC2010).

    Args:
        source (`Path`): what was given.
        name (`str`, *optional*): the format that was named; another one than of a published set is none.
    """
    if name is not None and name not in PUBLISHED:
        return None
    layouts = [
        (known, layout)
        for known in PUBLISHED
        if name in (None, known)
        for layout in Recipe.load(known).layouts
        if all(part.part is None for part in layout.parts())
    ]
    level = [source]
    for _ in range(DEPTH):
        found = [(known, folder) for folder in level for known, layout in layouts if layout.is_in(folder)]
        if found:
            return found[0]
        inner = (path for folder in level for path in sorted(folder.iterdir()) if path.is_dir())
        level = [path for path in inner if not is_hidden(path.name)][:MOST_FOLDERS]
    return None
