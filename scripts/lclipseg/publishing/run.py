"""A finished training run and what has been measured of it: everything that a card or a publication is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_json
from lclipseg.networks.checkpoints import weights_sha256
from lclipseg.networks.presets import Preset, load_preset
from lclipseg.training.arguments import RUN_FILE
from lclipseg.training.folder import PROGRESS_FILE

RESULT_FILE = "evaluation.json"
RESULT_KEYS = {"data", "split", "num_images", "inference", "scores", "versions", "machine", "date"}
TOWER_PREFIX = "text_model."


@dataclass(frozen=True)
class TrainedRun:
    """
    A checkpoint, how it came about and what it scored.

    Args:
        checkpoint (`Path`): The folder of the weights and the configuration.
        record (`dict`): `run.json`, as `lclipseg train` wrote it.
        results (`tuple[dict, ...]`): Records of `lclipseg evaluate` for these weights, the leading one first.
        progress (`dict`, *optional*): `progress.json` beside the weights: their step and their score in validation.
    """

    checkpoint: Path
    record: Mapping[str, Any]
    results: tuple[Mapping[str, Any], ...]
    progress: Mapping[str, Any] | None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What `lclipseg train` was called with."""
        return self.record["arguments"]

    @property
    def preset(self) -> Preset:
        """The preset that the network, or the checkpoint that it was started from, was built from."""
        name = self.arguments["model"] or (self.record.get("preset") or {}).get("name")
        if name is None:
            raise InputError(
                f"{self.checkpoint} does not say which preset its network is of: the checkpoint that it was started "
                "from has no run.json. Start from the folder of a run, or of a checkpoint with its run.json"
            )
        return load_preset(name)

    @property
    def guidance(self) -> str:
        """What guides the network: the argument, or what it stood for by default."""
        return self.arguments["guidance"] or self.record.get("guidance", "fusion")

    @property
    def data_names(self) -> list[str]:
        """The names of the training data: the last parts of their paths, without an ending."""
        data = self.arguments["data"]
        return [Path(source).stem for source in ([data] if isinstance(data, str) else data)]

    @property
    def data_name(self) -> str:
        """The names of the training data, joined by "+"."""
        return "+".join(self.data_names)

    @property
    def weights_bytes(self) -> int:
        return (self.checkpoint / SAFE_WEIGHTS_NAME).stat().st_size


def read_result(source: Path) -> dict[str, Any]:
    """
    Read a record of `lclipseg evaluate`: the file, or the folder that `--out` named.

    Raises:
        [`InputError`]: it is missing, damaged or something else.
    """
    path = source / RESULT_FILE if source.is_dir() else source
    result = read_json(path)
    missing = sorted(RESULT_KEYS - set(result))
    if missing:
        raise InputError(f"{path} is no record of `lclipseg evaluate`: it lacks {', '.join(missing)}")
    return result


def open_finished_run(folder: Path, result_sources: Sequence[Path] = ()) -> TrainedRun:
    """
    A run that may be published. Of its checkpoints, `best` and `last`, the one counts that the results were measured
    on, which their hash of the weights tells.

    Args:
        folder (`Path`): The folder that `lclipseg train` wrote; or a checkpoint's own folder, with the run's
            run.json in it.
        result_sources (sequence of `Path`, *optional*): Results, see [`read_result`]. By default those in `folder`.

    Raises:
        [`InputError`]: no run, an unfinished one, one of code that differed from its commit, weights with a text tower
            or with values that are no numbers, or results that are missing, partial or of other weights.
    """
    record = _read_run(folder)
    hashes = {path: weights_sha256(path) for path in (folder / "best", folder / "last", folder)}
    checkpoints = {digest: path for path, digest in reversed(hashes.items()) if digest is not None}
    if not checkpoints:
        raise InputError(f"{folder} has no weights: there is no {SAFE_WEIGHTS_NAME} in it, in `best` or in `last`")
    _check_finished(folder, record)
    _check_code(folder, record)
    command = f"lclipseg evaluate {next(reversed(checkpoints.values()))} --data DATA --split test --out {folder}"
    sources = list(result_sources) or [folder]
    if not result_sources and not (folder / RESULT_FILE).is_file():
        raise InputError(
            f"{folder} has no measured results, and nothing is published without them. Measure them: {command}; or "
            "name them by --results"
        )
    results = [read_result(source) for source in sources]
    measured = set()
    for source, result in zip(sources, results, strict=True):
        _check_whole(source, result, command)
        measured.add(_measured_weights(source, result, checkpoints, command))
    if len(measured) > 1:
        raise InputError(
            f"the results are of different weights: {', '.join(map(str, sorted(measured)))}. Name by --results those "
            "of one checkpoint"
        )
    (checkpoint,) = measured
    check_weights(checkpoint)
    progress = checkpoint / PROGRESS_FILE
    return TrainedRun(checkpoint, record, tuple(results), read_json(progress) if progress.is_file() else None)


def check_weights(checkpoint: Path) -> None:
    """
    Refuse weights that must not be published.

    Raises:
        [`InputError`]: a text tower inside, or values that are no finite numbers; one tensor is named.
    """
    with safe_open(checkpoint / SAFE_WEIGHTS_NAME, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  not a dict
            if name.startswith(TOWER_PREFIX):
                raise InputError(
                    f"{checkpoint} has a text tower inside ({name}), which no prediction needs and which outweighs "
                    "the rest. Take it out with model.drop_text_model(), save the model and measure it again"
                )
            tensor = file.get_tensor(name)
            if not tensor.isfinite().all():
                raise InputError(f"{checkpoint}: the tensor {name} holds NaN or infinity; these weights are of no use")


def _read_run(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give the --output_dir of `lclipseg train`")
    if not (folder / RUN_FILE).is_file():
        parent = folder.parent
        found = (parent / RUN_FILE).is_file()
        hint = f"did you mean {parent}?" if found else "give the --output_dir of `lclipseg train`"
        raise InputError(f"{folder} is no run: it has no {RUN_FILE}; {hint}")
    record = read_json(folder / RUN_FILE)
    missing = sorted({"arguments", "steps", "class_names", "versions", "machine", "date"} - set(record))
    if missing:
        raise InputError(f"{folder / RUN_FILE} was not written by `lclipseg train`: it lacks {', '.join(missing)}")
    return record


def _check_finished(folder: Path, record: Mapping[str, Any]) -> None:
    last = folder / "last"
    progress = (last if (last / CONFIG_NAME).is_file() else folder) / PROGRESS_FILE
    if not progress.is_file():
        raise InputError(
            f"{folder} does not say how far its run went: {progress} is missing; give the run's own folder"
        )
    stands = read_json(progress)
    step = stands.get("step", 0)
    if step < record["steps"] and not stands.get("ended_early"):
        raise InputError(
            f"the run in {folder} is not finished: it stands at step {step} of {record['steps']}. Go on with "
            "`lclipseg train ... --resume true`"
        )


def _check_code(folder: Path, record: Mapping[str, Any]) -> None:
    commit = record.get("commit") or ""
    if commit.endswith("+"):
        raise InputError(
            f"the run in {folder} was made by code that nobody else can have: files differed from commit "
            f"{commit[:-1]}. Commit the changes and train again"
        )


def _check_whole(source: Path, result: Mapping[str, Any], command: str) -> None:
    if result.get("limit") is not None:
        raise InputError(
            f"the results in {source} are of the first {result['num_images']} images only (--limit). Measure all: "
            f"{command}"
        )
    if result.get("classes_from", "checkpoint") != "checkpoint":
        raise InputError(
            f"the results in {source} are of other class embeddings than the checkpoint's own (--classes_from "
            f"{result['classes_from']}). Measure its own: {command}"
        )


def _measured_weights(source: Path, result: Mapping[str, Any], checkpoints: Mapping[str, Path], command: str) -> Path:
    digest = result.get("weights_sha256")
    if digest is None:
        raise InputError(
            f"the results in {source} do not say which weights they are of (no weights_sha256). Measure again, on the "
            f"folder and not on a copy on the Hub: {command}"
        )
    if digest not in checkpoints:
        raise InputError(
            f"the results in {source} belong to other weights: they were measured on {result.get('model')}, SHA-256 "
            f"{digest[:12]}..., and this run has {', '.join(f'{d[:12]}... ({p})' for d, p in checkpoints.items())}. "
            f"Measure again: {command}"
        )
    return checkpoints[digest]
