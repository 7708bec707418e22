"""Train LClipSeg on your own images, or repeat a published run.

    lclipseg train --data my_folder --output_dir runs/mine
    lclipseg train --data my_folder --output_dir runs/mine --start_from checkpoints/lclipseg-mbv3s-camvid
    lclipseg train configuration/recipes/camvid-mbv3s-fusion.yaml --data data/camvid --output_dir runs/1
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml scripts/train.py ... --expected_processes 2

A folder holds images/, masks/ (same names, class indices) and classes.json; `lclipseg check-data --help` has the other
layouts. A recipe is a YAML file of the fields below; what stands on the command line wins.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lclipseg.console import arguments
from lclipseg.console.files import read_json
from lclipseg.console.frame import run_command
from lclipseg.training.arguments import RUN_FILE, DataArguments, ModelArguments, RunArguments, check_together


def main(model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments) -> None:
    """Run one training; see [`lclipseg.training.session.train`]."""
    check_together(model_arguments, data_arguments, run_arguments)
    from lclipseg.data.layout import check_splits  # when it is called: help and wrong options cost no numpy

    for source in data_arguments.data:
        check_splits(source, [data_arguments.train_split, data_arguments.eval_split])
    from lclipseg.training.session import train  # nor do wrong data cost torch

    train(model_arguments, data_arguments, run_arguments)


def parse(argv: Sequence[str] | None = None) -> tuple[ModelArguments, DataArguments, RunArguments]:
    """The options; those of a run that is resumed are read from its folder, and need not be given again."""
    groups = (ModelArguments, DataArguments, RunArguments)
    model, data, run = arguments.parse(__doc__, *groups, argv=argv)
    record = Path(run.output_dir) / RUN_FILE
    if run.resume and record.is_file():
        known = {field.name for group in groups for field in fields(group)} - {"output_dir", "resume"}
        begun = {name: value for name, value in read_json(record).get("arguments", {}).items() if name in known}
        model, data, run = arguments.parse(__doc__, *groups, argv=argv, underneath=begun)
    return model, data, run


def command() -> None:
    run_command(lambda: main(*parse()))
