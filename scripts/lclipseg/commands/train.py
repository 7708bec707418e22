"""Train LClipSeg on your own images, or repeat a published run.

    lclipseg train --data my_folder --output_dir runs/mine
    lclipseg train --data my_folder --output_dir runs/mine --start_from checkpoints/lclipseg-mbv3s-camvid
    lclipseg train configuration/recipes/camvid-mbv3s-fusion.yaml --data data/camvid --output_dir runs/1
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml scripts/train.py ... --expected_processes 2

A folder holds images/, masks/ (same stems, class indices) and classes.json; see lclipseg/data/labelled.py. A recipe is
a YAML file of the fields below; what stands on the command line wins.
"""

from typing import Any

from lclipseg.console import arguments
from lclipseg.console.frame import run_command
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments


def main(model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments) -> None:
    """Run one training; see [`lclipseg.training.session.train`]."""
    from lclipseg.training.session import train  # when it is called: help costs no torch

    train(model_arguments, data_arguments, run_arguments)


def parse() -> tuple[Any, ...]:
    return arguments.parse(__doc__, ModelArguments, DataArguments, RunArguments)


def command() -> None:
    run_command(lambda: main(*parse()))
