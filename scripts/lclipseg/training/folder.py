"""Everything of a training run in one folder, written so that a stop at any time loses nothing that was there."""

import json
import logging
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, fields
from hashlib import file_digest
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers.image_processing_utils import BaseImageProcessor

from lclipseg.console.errors import InputError
from lclipseg.training.arguments import LAST, RUN_FILE
from lclipseg.training.state import TrainingState

logger = logging.getLogger("lclipseg")

OF_LENGTH = ("epochs", "steps")  # a resumed run may be longer: its rate follows the new length from where it stands
OF_DATA = ("images", "data_fingerprint")  # of a description: what may be accepted as changed
METRICS_FILE, PROGRESS_FILE = "metrics.jsonl", "progress.json"
FIRST_BATCH_FILE, PREDICTIONS_FILE = "first_batch.jpg", "predictions.jpg"
CHECKSUMS_FILE, STATE_FOLDER = "sha256.json", "training_state"
# What a resumed run may be told differently: paths, machine and reporting.
MAY_CHANGE = frozenset(
    {
        "arguments",
        "versions",
        "machine",
        "commit",
        "date",
        "output_dir",
        "resume",
        "data",
        "bank",
        "word_bank",
        "text_model",
        "backbone_weights",
    }
    | {"cache", "cache_on_device", "num_workers", "trackers", "eval_every", "save_every", "expected_processes"}
    | {"weights_of_classes", "max_unreadable", "mixed_precision", "distributed_type", "accept_changed_data"}
)


@dataclass
class Progress:
    """
    Where a run stands. Written beside every checkpoint.

    Args:
        step (`int`): Optimiser steps done.
        validated_step (`int`): The step of the newest validation.
        best_mean_iou (`float`, *optional*), best_step (`int`): The best validation so far, 0 to 1.
        skipped_steps (`int`): Steps left out: without a labelled pixel, or with a gradient that was not finite.
        skipped_in_a_row (`int`): How many of them were the last ones.
        loss (`float`, *optional*): Of the newest step, where it is finite.
        samples, unreadable_samples (`int`): Samples drawn by all processes, and those that could not be decoded.
        ended_early (`bool`): Whether the run ended before its last step, since validations got no better.
    """

    step: int = 0
    validated_step: int = 0
    best_mean_iou: float | None = None
    best_step: int = -1
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    loss: float | None = None
    samples: int = 0
    unreadable_samples: int = 0
    ended_early: bool = False


class RunFolder:
    """
    Everything of a run in one folder: `run.json`, `metrics.jsonl`, `first_batch.jpg`, `predictions.jpg`, `last/` (with
    `training_state/`, for resuming) and `best/`. Both hold a loadable model and image processor, and the SHA-256 of
    every file in them.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metrics = self.path / METRICS_FILE
        self.last = self.path / LAST

    def start(self, resume: bool) -> None:
        """
        Make the folder, and put back what a stop between two renames left under another name.

        Raises:
            [`InputError`]: the folder cannot be written to, or holds no run that could be resumed.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"--output_dir {self.path} cannot be written to: {error.strerror}. Give a folder that can."
            ) from error
        for name in ("best", "last"):
            place, old = self.path / name, self.path / f"{name}.old"
            if old.is_dir() and not place.is_dir():
                old.rename(place)
        if resume and not self.last.is_dir():
            raise InputError(f"nothing to resume: {self.path} holds no checkpoint `last`. Leave --resume out.")

    def describe(self, description: dict[str, Any]) -> None:
        """Write what the run is; everything that its result depends on, and when and where it began."""
        _write(self.path / RUN_FILE, json.dumps(description, indent=2) + "\n")

    def check_same(self, description: dict[str, Any]) -> None:
        """Refuse to resume a run under another description; where it runs, and how often it reports, may change."""
        begun, now = self._description(), json.loads(json.dumps(description))
        before, after = ({**part, **part["arguments"]} for part in (begun, now))
        parts = [(before.get(name, after[name]), after[name]) for name in OF_DATA]
        splits = " and ".join(
            split for split in ("train", "eval") if any(one[split] != new[split] for one, new in parts)
        )
        if splits and not after["accept_changed_data"]:
            raise InputError(
                f"the data to {splits} on are not those that the run in {self.path} was begun with: files were added, "
                "removed or changed in size. Put them back, or go on with these by --accept_changed_data true."
            )
        changed = [
            f"{name} was {before[name]!r} and is {after[name]!r}"
            for name in after
            if name in before
            and name not in (*MAY_CHANGE, *OF_DATA)
            and before[name] != after[name]
            # None: the length is given by the other one of the two
            and not (name in OF_LENGTH and (before[name] is None or after[name] is None or before[name] < after[name]))
        ]
        if changed:
            raise InputError(
                f"the run in {self.path} cannot be resumed as another one: {'; '.join(changed)}. Give the arguments "
                "it was begun with, or another --output_dir."
            )
        if splits:
            logger.warning(f"going on with other data to {splits} on than the run was begun with")
        if splits or begun["steps"] != now["steps"]:
            length = {name: now["arguments"].get(name) for name in OF_LENGTH}
            renewed = {name: now[name] for name in (*OF_DATA, "steps")}
            self.describe({**begun, **renewed, "arguments": {**begun["arguments"], **length}})

    def _description(self) -> dict[str, Any]:
        path = self.path / RUN_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["arguments"] = dict(content["arguments"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"the run in {self.path} cannot be resumed: {path} is missing or damaged ({error}). Put it back from "
                "a copy, or begin again in another --output_dir."
            ) from error
        return dict(content)

    def check_space(self, model: torch.nn.Module, is_averaged: bool = False) -> None:
        """
        Refuse to begin where the two checkpoints, and a new one beside them, will not fit; what is there counts. Where
        the weights are averaged, `last` and a new one have them twice.
        """
        weights = sum(tensor.nbytes for tensor in model.state_dict().values())
        moments = 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
        there = sum(path.stat().st_size for name in ("best", "last") for path in (self.path / name).rglob("*"))
        needed, free = (5 if is_averaged else 3) * weights + 2 * moments - there, shutil.disk_usage(self.path).free
        if free < needed:
            raise InputError(
                f"--output_dir {self.path} has {free / 1e6:,.0f} MB left, but the checkpoints of this run need "
                f"{needed / 1e6:,.0f} MB. Make room, or give a folder on another disk."
            )

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise self._unwritten(self.metrics, error) from error

    def cut_log(self, step: int) -> None:
        """Forget lines of steps after `step`, which a resumed run takes once more, and a line that was cut short."""
        if not self.metrics.is_file():
            return
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        _write(self.metrics, "".join(f"{line}\n" for line in lines if _step_of(line) <= step))

    def save(
        self,
        name: str,
        state: TrainingState,
        image_processor: BaseImageProcessor,
        progress: Progress,
        resumable: bool,
    ) -> None:
        """
        Write a checkpoint beside the old one, then put it in its place: a stop at any time leaves a whole one.

        Args:
            name (`str`): `"last"` or `"best"`.
            state ([`TrainingState`]): What is trained.
            image_processor: The one that belongs to the model.
            progress ([`Progress`]): Where the run stands.
            resumable (`bool`): Whether to keep what the run needs to go on from here.

        Raises:
            [`InputError`]: the disk is full or the folder cannot be written to; the old checkpoint is as it was.
        """
        new, accelerator = self.path / f"{name}.new", state.accelerator
        weights = state.weights()
        try:
            if accelerator.is_main_process:
                shutil.rmtree(new, ignore_errors=True)
                network: Any = accelerator.unwrap_model(state.model)
                network.save_pretrained(new, state_dict=weights)
                image_processor.save_pretrained(new)
                _write(new / PROGRESS_FILE, json.dumps(asdict(progress)) + "\n")
            accelerator.wait_for_everyone()
            if resumable:
                state.save(new / STATE_FOLDER)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                _write(new / CHECKSUMS_FILE, json.dumps(checksums(new), indent=1) + "\n")
                _replace_folder(self.path / name, new)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(new, ignore_errors=True)
            raise self._unwritten(new, error) from error
        accelerator.wait_for_everyone()

    def load(self, state: TrainingState) -> Progress:
        """
        Restore `state` from the newest checkpoint.

        Raises:
            [`InputError`]: a file of it is missing, damaged or of another model.
        """
        try:
            progress = self.progress()
            state.load(self.last / STATE_FOLDER)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise InputError(
                f"the run cannot be resumed from {self.last}: {error}. Nothing was changed. Put the folder back from "
                "a copy, or begin again in another --output_dir."
            ) from error
        return progress

    def progress(self) -> Progress:
        """Where the newest checkpoint stands, after a look at whether all its files are as they were written."""
        stored = json.loads((self.last / CHECKSUMS_FILE).read_text(encoding="utf-8"))
        found = checksums(self.last)
        damaged = [name for name, digest in stored.items() if found.get(name) != digest]
        if damaged:
            missing = [name for name in damaged if name not in found]
            raise ValueError(
                f"{', '.join(damaged)} {'is missing' if missing == damaged else 'was changed or damaged'}"
            )
        known = {field.name for field in fields(Progress)}
        values = json.loads((self.last / PROGRESS_FILE).read_text(encoding="utf-8"))
        return Progress(**{name: value for name, value in values.items() if name in known})

    def _unwritten(self, path: Path, error: Exception) -> InputError:
        free = shutil.disk_usage(self.path).free / 1e6
        kept = f"The checkpoint {self.last} is as it was" if self.last.is_dir() else "There is no checkpoint yet"
        return InputError(
            f"{path} could not be written: {error} ({free:,.0f} MB are free). {kept}. Make room and go on with "
            "--resume true."
        )


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below `folder`, but for the list of them itself."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS_FILE:
            with path.open("rb") as file:
                digests[path.relative_to(folder).as_posix()] = file_digest(file, "sha256").hexdigest()
    return digests


def _replace_folder(place: Path, new: Path) -> None:
    """Put the folder `new` in place of another one. Its files reach the disk before its name does."""
    for path in (*new.rglob("*"), new):
        _sync(path)
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(new, place)
    _sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """Write a file beside the old one, then put it in its place."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    _sync(new)
    os.replace(new, path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _step_of(line: str) -> float:
    """The step of a line of metrics, or infinity where it was cut short."""
    try:
        return cast(float, json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
