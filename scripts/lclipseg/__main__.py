"""`lclipseg COMMAND ...`: one command of commands/, imported when it is called."""

import difflib
import importlib
import importlib.util
import sys

COMMANDS = {
    "train": "Train a network on your own images, or repeat a published run.",
    "evaluate": "Score a checkpoint on a labelled data set.",
    "segment": "Segment images into a checkpoint's classes, or into others given as words.",
    "export": "Make an ONNX graph, in float32 or int8.",
    "serve": "Serve a checkpoint over HTTP.",
    "publish": "Publish a finished run on the Hub.",
    "check-data": "List everything that is wrong with a data set before training on it.",
    "prepare-data": "Bring a downloaded data set into the layout that training reads.",
    "embed": "Turn words into a word bank of CLIP text vectors.",
    "merge-banks": "Make a word bank from published tables of CLIP vectors.",
}
EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "train": ("accelerate", "tensorboard", "datasets", "jinja2"),
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
        _run(name.replace("-", "_"))
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"error: there is no command {name!r}.{hint} See lclipseg --help.", file=sys.stderr)
        sys.exit(2)


def _run(module: str) -> None:
    try:
        importlib.import_module(f"lclipseg.commands.{module}").command()
    except ModuleNotFoundError as error:
        extra = next((extra for extra, needs in EXTRAS.items() if (error.name or "").partition(".")[0] in needs), None)
        if extra is None:
            raise
        print(
            f"error: `{sys.argv[0]}` needs the library {error.name}, which is not installed: "
            f'pip install "lclipseg[{extra}]"',
            file=sys.stderr,
        )
        sys.exit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: lclipseg COMMAND [ARGUMENT ...]\n\n{lines}\n\n`lclipseg COMMAND --help` lists a command's arguments."
    )


if __name__ == "__main__":
    main()
