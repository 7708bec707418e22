"""`lclipseg COMMAND ...`: one command of commands/, imported when it is called."""

import importlib
import keyword
import sys

COMMANDS = {
    "train": "Train a network on your own images, or repeat a published run.",
    "evaluate": "Score a checkpoint on a labelled data set.",
    "segment": "Segment images into a checkpoint's classes, or into others given as words.",
    "suggest": "Say which images to label next, the ones that a checkpoint is least sure of.",
    "export": "Make an ONNX graph, in float32 or int8.",
    "serve": "Serve a checkpoint or an export over HTTP.",
    "publish": "Publish a finished run on the Hub.",
    "check-data": "List everything that is wrong with a data set before training on it.",
    "import": "Bring what a labelling tool exported into the layout that training reads.",
    "prepare-data": "Bring a downloaded data set into the layout that training reads.",
    "embed": "Turn words into a word bank of CLIP text vectors.",
    "merge-banks": "Make a word bank from published tables of CLIP vectors.",
}


def main() -> None:
    """Run `sys.argv`: help, the version, or a command with its own arguments."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name == "--version":
        from importlib.metadata import version

        print(f"lclipseg {version('lclipseg')}")
    elif name.replace("_", "-") in COMMANDS:
        sys.argv = [f"lclipseg {name}", *rest]
        module = name.replace("-", "_")
        importlib.import_module(f"lclipseg.commands.{module}{'_' * keyword.iskeyword(module)}").command()
    else:
        from lclipseg.console.nearest import nearest

        near = nearest(name.replace("_", "-"), COMMANDS)
        hint = f" Did you mean {near!r}?" if near else ""
        print(f"error: there is no command {name!r}.{hint} See lclipseg --help.", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: lclipseg COMMAND [ARGUMENT ...]\n\n{lines}\n\n`lclipseg COMMAND --help` lists a command's arguments."
    )


if __name__ == "__main__":
    main()
