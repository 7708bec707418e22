"""What `lclipseg export` can be told."""

from dataclasses import dataclass, field
from typing import Literal

from lclipseg.console.errors import InputError

LOWEST_OPSET = 18  # the first whose Resize knows antialiasing
HIGHEST_OPSET = 21  # the last that onnxruntime 1.20 reads, the lowest that setup.cfg promises


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
    shortest_edge: int | None = field(
        default=None,
        metadata={
            "help": "Shorter side in pixels that images are brought to: less is faster and less exact. 0: they keep "
            "their size. Default: the checkpoint's."
        },
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
    opset: int = field(
        default=LOWEST_OPSET,
        metadata={"help": f"Version of ONNX's operators, {LOWEST_OPSET} to {HIGHEST_OPSET}; the lowest runs on most."},
    )
    licence: str | None = field(
        default=None,
        metadata={
            "help": "Licence of the weights, which is written into the graph, for example cc-by-nc-4.0. Default: what "
            "the README.md beside the checkpoint says, if there is one."
        },
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    out: str = field(default="exported", metadata={"help": "Folder for the exported model."})

    def __post_init__(self) -> None:
        if not LOWEST_OPSET <= self.opset <= HIGHEST_OPSET:
            raise InputError(f"--opset {self.opset}: give {LOWEST_OPSET} to {HIGHEST_OPSET}")
        if self.shortest_edge is not None and self.shortest_edge < 0:
            raise InputError(f"--shortest_edge {self.shortest_edge}: give 0 or more")
        if self.bank is not None and self.classes is None:
            raise InputError("--bank gives vectors to the words of --classes; add --classes")
        if self.int8 != (self.calibration is not None):
            raise InputError(
                "--int8 and --calibration FOLDER, with images like those to come, belong together; give both"
            )
