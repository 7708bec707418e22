"""The presets as a table: parameters without the text tower, and multiply-accumulates of one prediction.

    python scripts/model_table.py                       # print it
    python scripts/model_table.py --write README.md     # put it between the table's markers in a file

Nothing is computed: the networks are built on the meta device and their operations counted, attention included. Class
vectors count as given, since a checkpoint stores them.
"""

from dataclasses import dataclass, field
from pathlib import Path

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.console.markdown import replace_between
from lclipseg.networks.costs import count
from lclipseg.networks.presets import load_preset, preset_names

BEGIN, END = "<!-- model table: begin (scripts/model_table.py --write) -->", "<!-- model table: end -->"


@dataclass
class TableArguments:
    """What is counted."""

    size: int = field(default=512, metadata={"help": "Height and width of the image in pixels."})
    num_classes: int = field(default=150, metadata={"help": "Number of classes."})
    write: str | None = field(default=None, metadata={"help": "Markdown file whose table is replaced."})


def table(size: int, num_classes: int) -> str:
    """The Markdown table of all presets."""
    lines = [
        f"| preset | backbone | parameters, M | GMACs, {size}x{size}, {num_classes} classes | of these the backbone |",
        "|---|---|---|---|---|",
    ]
    for name in preset_names():
        backbone = load_preset(name).config["backbone_config"]
        cost = count(name, {}, size, num_classes)
        lines.append(
            f"| `{name}` | `{backbone.get('backbone', backbone['model_type'])}` | {cost.parameters / 1e6:.2f} | "
            f"{cost.macs / 1e9:.2f} | {cost.backbone_macs / 1e9:.2f} |"
        )
    return "\n".join(lines)


def main(options: TableArguments) -> None:
    markdown = table(options.size, options.num_classes)
    if options.write is None:
        print(markdown)
    else:
        replace_between(Path(options.write), BEGIN, END, markdown)


def command() -> None:
    run_command(lambda: main(*arguments.parse(__doc__, TableArguments)))


if __name__ == "__main__":
    command()
