"""Export a checkpoint to one ONNX file, for phones, browsers and programs without Python.

    lclipseg export checkpoints/lclipseg-mbv3s-camvid --label_map --out exported
    lclipseg segment photos/ --model exported

By default the graph takes prepared pixel values and gives logits; with --label_map it takes an image (uint8 RGB, any
size) and gives the class of every pixel. An open vocabulary makes the class embeddings an input of the graph, a baked
one puts the checkpoint's own, or those of --classes, into it. --int8 halves the file. What the folder holds stands at
the head of networks/export_record.py.
"""

from lclipseg.console import arguments
from lclipseg.console.extras import require
from lclipseg.console.frame import run_command
from lclipseg.export.arguments import ExportArguments
from lclipseg.networks.folders import check_at_hand


def parse(argv: list[str] | None = None) -> tuple[str, ExportArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, ExportArguments, "model", description, argv=argv)


def main(model: str, args: ExportArguments) -> None:
    require("onnx", "onnx_ir", "onnxscript", "onnxruntime")
    check_at_hand(model, args.revision)
    from lclipseg.export.export import export_model  # when the arguments are known to be right

    export_model(model, args)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
