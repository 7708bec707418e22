"""A repository for the Hub from a finished run: all that `from_pretrained` needs, and what people should know."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, eval_result_entries_to_yaml
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import filter_repo_objects
from transformers import AutoTokenizer
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME

from lclipseg import endpoint
from lclipseg.console.errors import InputError
from lclipseg.console.files import read_json
from lclipseg.console.paths import licence, project
from lclipseg.networks.checkpoints import load_model
from lclipseg.networks.export_record import BANK_FILE, BANK_NAMES_FILE, EXPORT_FILE
from lclipseg.publishing.card import TASK, Place, benchmark_entries, example_path, trained_card, without_folders
from lclipseg.publishing.facts import Facts
from lclipseg.publishing.run import RESULT_FILE, TrainedRun
from lclipseg.training.arguments import RUN_FILE
from modeling_lclipseg import (
    LClipSegConfig,
    LClipSegForSemanticSegmentation,
    LClipSegImageProcessor,
    LClipSegProcessor,
)
from modeling_lclipseg.denseclip_lclipseg import LClipSegDenseCLIPForSemanticSegmentation
from modeling_lclipseg.pipeline_lclipseg import LClipSegPipeline

ENDPOINT = Path(endpoint.__file__).parent
AUTO_CLASSES = (
    (LClipSegConfig, "AutoConfig"),
    (LClipSegForSemanticSegmentation, "AutoModelForSemanticSegmentation"),
    (LClipSegImageProcessor, "AutoImageProcessor"),
    (LClipSegProcessor, "AutoProcessor"),
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
# What an earlier publication may have left in a repository and this one has no more: it must not stay beside new code.
RENEWED = ["*.py", "onnx/*", ".eval_results/*", "examples/*"]
# All that an exported folder holds; beside a model somebody may have put anything.
EXPORTED = ("*.onnx", BANK_FILE, BANK_NAMES_FILE, CONFIG_NAME, EXPORT_FILE, IMAGE_PROCESSOR_NAME)

NOTICE = """\
Code (the files *.py): LClipSeg, Apache License 2.0, see LICENSE.
Weights and class embeddings (model.safetensors, onnx/): {weights}
What they were made from, and under which licences, is in README.md.
"""


def build_repository(run: TrainedRun, facts: Facts, place: Place, folder: Path, onnx: Path | None = None) -> None:
    """
    Write everything that a published checkpoint consists of. The weights are the run's own file, byte for byte, so
    that their hash is the one in the results.

    Args:
        run ([`TrainedRun`]): The run.
        facts ([`Facts`]): What no record holds, for the card.
        place ([`Place`]): Where it will be published.
        folder (`Path`): Where to write; it is made, and must not hold anything.
        onnx (`Path`, *optional*): Folder of an exported model, taken over as `onnx/`.

    Raises:
        [`InputError`]: a checkpoint that cannot be loaded, an `onnx` folder without a model, or facts that name a
            image which is not there.
    """
    model, image_processor = load_model(run.checkpoint)
    card = trained_card(run, model, run.preset, facts, place)
    folder.mkdir(parents=True)
    _save_with_code(model, image_processor, _tokenizer(run.checkpoint), folder)
    shutil.copyfile(run.checkpoint / SAFE_WEIGHTS_NAME, folder / SAFE_WEIGHTS_NAME)
    card.save(folder / "README.md")
    _write_json(folder / RUN_FILE, without_folders(run.record))
    results = [without_folders(result) for result in run.results]
    _write_json(folder / RESULT_FILE, results[0])
    for index, result in enumerate(results[1:], start=2):
        _write_json(folder / f"{Path(RESULT_FILE).stem}-{index}.json", result)
    for name in ("handler.py", "requirements.txt"):
        shutil.copyfile(ENDPOINT / name, folder / name)
    shutil.copyfile(licence(), folder / "LICENSE")
    weights = facts.licence or "no licence is recorded; that of the training data may bind you."
    (folder / "NOTICE").write_text(NOTICE.format(weights=weights), encoding="utf-8")
    _add_benchmark(run, facts, folder)
    _add_examples(facts, folder)
    if onnx is not None:
        _add_onnx(onnx, folder / "onnx")


def files_below(folder: Path) -> list[Path]:
    """All files in a folder, sorted, relative to it, without what Python leaves when the handler is tried out."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def take_over(built: Path, out: Path) -> None:
    """
    Put a freshly built repository into `out`, over an older one of the same files.

    Raises:
        [`InputError`]: `out` is no folder, or has other files in it, which would be published with the rest.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    foreign = sorted(set(files_below(out)) - set(files_below(built))) if out.is_dir() else []
    if foreign:
        raise InputError(
            f"--out {out} holds files that are not of this publication ({', '.join(map(str, foreign[:5]))}); delete "
            "them, or give another folder"
        )
    shutil.copytree(built, out, dirs_exist_ok=True)


def upload(folder: Path, place: Place, private: bool, message: str) -> CommitInfo:
    """
    Publish a folder by one commit, so that nobody ever finds new weights beside old code.

    Raises:
        [`InputError`]: no token, no right to write there, no network, or a public repository where a private one was
            asked for.
    """
    api = HfApi()
    try:
        api.create_repo(place.name, private=private, exist_ok=True)
        if private and not api.model_info(place.name).private:
            raise InputError(f"--private true, but {place.name} exists and is public; change that on the Hub first")
        if place.revision != "main":
            api.create_branch(place.name, branch=str(place.revision), exist_ok=True)
        files = [path.as_posix() for path in files_below(folder)]
        there = api.list_repo_files(place.name, revision=place.revision)
        stale = sorted(set(filter_repo_objects(there, allow_patterns=RENEWED)) - set(files))
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files),
            *(CommitOperationDelete(path_in_repo=name) for name in stale),
        ]
        # Not upload_folder, which may split a folder into several commits.
        return api.create_commit(place.name, list(operations), commit_message=message, revision=place.revision)
    except LocalTokenNotFoundError as error:
        raise InputError("there is no token for the Hub; log in with `hf auth login`, or set HF_TOKEN") from error
    except OfflineModeIsEnabled as error:
        raise InputError("HF_HUB_OFFLINE is set, so nothing can be published; unset it") from error
    except HTTPError as error:
        raise InputError(f"{place.name} cannot be published: {error}") from error


@contextmanager
def _registered() -> Iterator[None]:
    """Let the classes copy their code when they are saved; afterwards they are plain again, as training wants them."""
    try:
        for cls, auto_class in AUTO_CLASSES:
            cls.register_for_auto_class(auto_class)
        yield
    finally:
        for cls, _ in AUTO_CLASSES:
            cls._auto_class = None


def _save_with_code(
    model: LClipSegForSemanticSegmentation, image_processor: Any, tokenizer: Any, folder: Path
) -> None:
    config, pipeline_class = model.config, LClipSegPipeline
    if config.guidance == "denseclip":  # its head is in a module that no other head's checkpoint needs
        model = LClipSegDenseCLIPForSemanticSegmentation(config)
    config.auto_map = {"AutoModel": reference(type(model))}
    config.custom_pipelines = {
        TASK: {"impl": reference(pipeline_class), "pt": ["AutoModelForSemanticSegmentation"], "type": "image"}
    }
    with _registered():
        custom_object_save(model, folder, config=config)
        custom_object_save(pipeline_class, folder)
        config.save_pretrained(folder)
        LClipSegProcessor(image_processor, tokenizer).save_pretrained(folder)
        image_processor.save_pretrained(folder)  # a file of its own, for readers that know no processors


def reference(cls: type) -> str:
    """`file.Class`, as an auto_map names it."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def _tokenizer(checkpoint: Path) -> Any:
    if not any((checkpoint / name).is_file() for name in TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(checkpoint)


def _add_benchmark(run: TrainedRun, facts: Facts, folder: Path) -> None:
    entries = benchmark_entries(run, facts)
    if entries:
        path = folder / ".eval_results" / f"{run.data_name}.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False), encoding="utf-8")


def _add_examples(facts: Facts, folder: Path) -> None:
    """The example images, with the SOURCES.md that says whose they are."""
    for name in facts.examples:
        image = project(name)
        sources = image.parent / "SOURCES.md"
        if not image.is_file() or not sources.is_file():
            raise InputError(f"the example image {name} is not there, or has no SOURCES.md beside it")
        target = folder / example_path(name)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(image, target)
        shutil.copyfile(sources, target.parent / sources.name)


def _add_onnx(source: Path, target: Path) -> None:
    """The exported model, its record without the folders of this machine, like the run's."""
    if not source.is_dir() or not any(source.rglob("*.onnx")):
        raise InputError(f"--onnx {source}: give a folder with an exported model, *.onnx")
    foreign = [str(path) for path in files_below(source) if not any(path.match(name) for name in EXPORTED)]
    if foreign:
        raise InputError(
            f"--onnx {source} holds files that are no part of an export ({', '.join(foreign[:5])}); delete them, or "
            "export into a folder of its own"
        )
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for record in target.rglob(EXPORT_FILE):
        _write_json(record, without_folders(read_json(record)))


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
