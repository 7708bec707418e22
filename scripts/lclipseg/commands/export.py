"""Export a checkpoint to one ONNX file, for phones, browsers and programs without Python.

    python scripts/export.py checkpoints/lclipseg-mbv3s-camvid --label_map --out exported
    python scripts/segment.py photos/ --model exported

By default the graph takes prepared pixel values and gives logits; with --label_map it takes an image (uint8 RGB, any
size) and gives the class of every pixel. An open vocabulary makes the class embeddings an input of the graph, a baked
one puts the checkpoint's own, or those of --classes, into it. --int8 halves the file. What the folder holds stands at
the head of networks/export_record.py.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lclipseg.commands.segment import take_classes
from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.networks.export_record import MODEL_FILE, ExportRecord

logger = logging.getLogger("lclipseg")


@dataclass
class ExportArguments:
    format: Literal["onnx"] = field(default="onnx", metadata={"help": "Format of the graph."})
    classes: str | None = field(
        default=None, metadata={"help": 'Classes, comma-separated: "sky, road". Default: the checkpoint\'s own.'}
    )
    bank: str | None = field(
        default=None, metadata={"help": "Word bank with vectors of further words: FILE.safetensors or FILE#KEY."}
    )
    vocabulary: Literal["open", "baked"] = field(
        default="open", metadata={"help": "Class embeddings as an input of the graph, or the classes fixed inside."}
    )
    label_map: bool = field(
        default=False, metadata={"help": "Pre- and post-processing inside: from a uint8 RGB image to a label map."}
    )
    int8: bool = field(default=False, metadata={"help": "Quantise statically to int8; needs --calibration."})
    calibration: str | None = field(
        default=None,
        metadata={
            "help": "Images that --int8 finds its ranges with: a folder of them, or data, of which train is taken."
        },
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    out: str = field(default="exported", metadata={"help": "Folder for the exported model."})


def main(model_source: str, args: ExportArguments) -> ExportRecord:
    """
    Export the checkpoint into the folder `args.out`.

    Args:
        model_source (`str`): folder of a checkpoint, or OWNER/NAME on the Hub.
        args ([`ExportArguments`]): the options.

    Returns:
        [`ExportRecord`]: what was written to export.json.

    Raises:
        InputError: a model, vocabulary, class or word bank that cannot be used, a folder that holds a checkpoint, or
            packages that are missing.
    """
    try:
        from lclipseg.export import graph as exporting
        from lclipseg.export import int8 as quantization
        from lclipseg.export import label_map as label_map_graph
    except ImportError as error:
        raise InputError(
            f'{error.name} is missing; install what an export needs: pip install "lclipseg[export]"'
        ) from error
    if args.bank is not None and args.classes is None:
        raise InputError("--bank gives vectors to the words of --classes; add --classes")
    if args.int8 != (args.calibration is not None):
        raise InputError("--int8 and --calibration FOLDER, with images like those to come, belong together; give both")
    out = Path(args.out).expanduser()
    exporting.check_out(out)
    model, image_processor = load_model(model_source, args.revision)
    if args.classes is not None:
        take_classes(model, args.classes, args.bank)
    if args.label_map:
        label_map_graph.check_settings(image_processor)
    model.drop_text_model()

    graph = exporting.export_network(model, args.vocabulary)
    if args.calibration is not None:
        feeds = quantization.calibration_feeds(args.calibration, model, image_processor, args.vocabulary)
        graph = quantization.quantize(graph, feeds)
    if args.label_map:
        graph = label_map_graph.add_label_map(graph, image_processor)
    record = ExportRecord(
        format=args.format,
        vocabulary=args.vocabulary,
        label_map=args.label_map,
        int8=args.int8,
        inputs=exporting.described(graph.graph.input),
        outputs=exporting.described(graph.graph.output),
        opset=label_map_graph.OPSET,
        model=_name(model_source),
        weights_sha256=weights_sha256(model_source),
        versions=environment.versions(),
        commit=environment.commit(),
        date=environment.now(),
    )
    exporting.write_export(out, graph, model, image_processor, record)
    size = (out / MODEL_FILE).stat().st_size
    print(f"{out / MODEL_FILE}: {size / 1e6:.2f} MB, {', '.join(record.inputs)} -> {', '.join(record.outputs)}")
    return record


def _name(model_source: str) -> str:
    """Of a folder its last part: the record is published, and where the folder lies is nobody's business."""
    folder = Path(model_source).expanduser()
    return folder.resolve().name if folder.is_dir() else model_source


def parse(argv: list[str] | None = None) -> tuple[str, ExportArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, ExportArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
