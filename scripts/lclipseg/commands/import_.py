"""Turn what a labelling tool exported into the folder that training reads.

    lclipseg import export.zip --out my_folder

Takes a folder, a zip file or an annotation file, and finds out what it is, or is told by --format:

    coco          COCO JSON: instances, stuff, panoptic; as Roboflow, CVAT and others write it, too
    colours       masks and a table: labelmap.txt (CVAT), VOC's folders, _classes.csv (Roboflow), or a palette
    yolo          data.yaml and text files of polygons
    labelme       one JSON file an image
    label-studio  its JSON export: brush strokes, polygons, rectangles, ellipses
    cvat          its XML for images
    ade20k-full   the whole of ADE20K, with --keep
    cityscapes, ade20k, mapillary_vistas, mapillary_vistas_v2, pascal_context, coco_stuff: as `lclipseg prepare-data`
                  reads them

Names of classes and splits are kept. What is decided on the way (overlaps, crowds, images without objects) is told at
the end; what cannot be meant ends the import with the file and the object, and nothing is written.
"""

from pathlib import Path

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.data.arguments import ImportArguments


def parse(argv: list[str] | None = None) -> tuple[str, ImportArguments]:
    description = "Folder, zip file, or annotation file of an export."
    return arguments.parse_subject(__doc__, ImportArguments, "source", description, argv=argv)


def main(source: str, args: ImportArguments) -> None:
    if not Path(source).expanduser().exists():
        raise InputError(f"there is no such source as {source}")
    from lclipseg.data.imports.run import import_data  # when the arguments are known to be right

    import_data(source, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
