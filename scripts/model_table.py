"""The presets as a table: parameters without the text tower, and multiply-accumulates of one prediction.

    python scripts/model_table.py                       # print it
    python scripts/model_table.py --write README.md     # put it between the table's markers in a file

Nothing is computed: the networks are built on the meta device and their operations counted, attention included. Class
vectors count as given, since a checkpoint stores them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_lclipseg import LClipSegForSemanticSegmentation
from scripts.toolkit import arguments, cli
from scripts.toolkit.cli import InputError
from scripts.toolkit.presets import load_preset, preset_names

BEGIN, END = "<!-- model table: begin (scripts/model_table.py --write) -->", "<!-- model table: end -->"


@dataclass
class TableArguments:
    """What is counted."""

    size: int = field(default=512, metadata={"help": "Height and width of the image in pixels."})
    num_classes: int = field(default=150, metadata={"help": "Number of classes."})
    write: str | None = field(default=None, metadata={"help": "Markdown file whose table is replaced."})


@dataclass(frozen=True)
class Cost:
    """Parameters (without a text tower) and multiply-accumulates of one image's prediction."""

    parameters: int
    backbone_macs: int
    macs: int


def count(preset_name: str, guidance: str, size: int, num_classes: int) -> Cost:
    """Count one preset's cost, for an image of `size` x `size` pixels and `num_classes` classes."""
    overrides = {"guidance": guidance, "id2label": {index: f"class {index}" for index in range(num_classes)}}
    config = load_preset(preset_name).build_config(**overrides)
    with torch.device("meta"):
        model = LClipSegForSemanticSegmentation(config).eval()
        image = torch.empty(1, 3, size, size)
    # The fused attention kernels have no formula for tensors without data; the plain product is the same arithmetic.
    model.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(image)
    of_backbone = sum(counter.get_flop_counts().get(f"{type(model).__name__}.backbone", {}).values())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, of_backbone // 2, counter.get_total_flops() // 2)


def table(size: int, num_classes: int) -> str:
    """The Markdown table of all presets."""
    lines = [
        f"| preset | backbone | parameters, M | GMACs, {size}x{size}, {num_classes} classes | of these the backbone |",
        "|---|---|---|---|---|",
    ]
    for name in preset_names():
        backbone = load_preset(name).config["backbone_config"]
        cost = count(name, "fusion", size, num_classes)
        lines.append(
            f"| `{name}` | `{backbone.get('backbone', backbone['model_type'])}` | {cost.parameters / 1e6:.2f} | "
            f"{cost.macs / 1e9:.2f} | {cost.backbone_macs / 1e9:.2f} |"
        )
    return "\n".join(lines)


def write(markdown: str, path: Path) -> None:
    """Replace what stands between the markers in `path`."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path} lacks the lines {BEGIN!r} and {END!r}, between which the table goes.")
    path.write_text(f"{before}{begin}\n{markdown}\n{end}{after}", encoding="utf-8")


def main(options: TableArguments) -> None:
    markdown = table(options.size, options.num_classes)
    if options.write is None:
        print(markdown)
    else:
        write(markdown, Path(options.write))


def command() -> None:
    cli.run(lambda: main(*arguments.parse(__doc__, TableArguments)))


if __name__ == "__main__":
    command()
