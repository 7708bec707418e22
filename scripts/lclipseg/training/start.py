"""The network that a run begins with: a preset with ImageNet weights, or a checkpoint with the data's classes."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from lclipseg.console.errors import InputError
from lclipseg.console.files import read_json
from lclipseg.data.class_list import ClassList
from lclipseg.networks import build
from lclipseg.networks.build import ClassEmbeddings
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.networks.presets import load_preset
from lclipseg.training.ablations import ablate
from lclipseg.training.arguments import DEFAULT_PRESET, RUN_FILE, ModelArguments
from lclipseg.training.start_vectors import FoundVectors, vectors_for_checkpoint, vectors_for_preset
from lclipseg.training.vector_augmentation import VectorAugmentation
from modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegImageProcessor, WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

logger = logging.getLogger("lclipseg")

DEFAULT_SHORTEST_EDGE = 512
OF_CLASSES = ("class_embeddings",)  # tensors that go with the list of classes


@dataclass(frozen=True)
class Start:
    """
    Args:
        model ([`LClipSegForSemanticSegmentation`]): With the data's classes.
        image_processor ([`LClipSegImageProcessor`]): The one that belongs to it.
        origin (`dict`): For the record of the run: the preset, or the checkpoint with its hash, and the word bank.
        image_size (`int`, *optional*): Height and width that the backbone is built for, in pixels; `None` for any.
    """

    model: LClipSegForSemanticSegmentation
    image_processor: LClipSegImageProcessor
    origin: Mapping[str, Any]
    image_size: int | None


def begin(
    arguments: ModelArguments, classes: ClassList, all_words: set[str], shortest_edge: int | None, seed: int
) -> Start:
    """
    Build or load the network of a run.

    Args:
        arguments ([`ModelArguments`]): What is asked for.
        classes ([`ClassList`]): The classes to train.
        all_words (`set[str]`): Words of all classes of the data, folded; none of them is drawn as a negative word.
        shortest_edge (`int`, *optional*): Shorter side that images are brought to, in pixels; 0 keeps their size. By
            default the checkpoint's, or 512.
        seed (`int`): Seed of what is random.

    Raises:
        [`InputError`]: a preset, checkpoint, bank or option that cannot be used, or that do not go together.
    """
    make = _from_preset if arguments.start_from is None else _from_checkpoint
    start, learned = make(arguments, classes, shortest_edge, seed)
    if arguments.ablation is not None:
        ablate(start.model, arguments.ablation)
    if learned:
        start.model.learn_class_embeddings(learned)
    if arguments.vector_noise or arguments.negative_words:
        others = other_words(arguments, all_words)
        VectorAugmentation(arguments.vector_noise, arguments.negative_words, others).attach(start.model)
    return start


def _from_preset(
    arguments: ModelArguments, classes: ClassList, shortest_edge: int | None, seed: int
) -> tuple[Start, Sequence[int]]:
    preset = load_preset(arguments.model or DEFAULT_PRESET)
    fields = build.config_fields(arguments.config)
    guidance = arguments.guidance or "fusion"
    vectors: ClassEmbeddings | None = None
    words = FoundVectors()
    if guidance != "none":
        vectors, words = vectors_for_preset(arguments, preset.build_config(**fields), classes, seed)
    weights = arguments.backbone_weights or preset.backbone_weights
    model = build.build_model(preset, {**fields, "guidance": guidance}, classes, vectors, weights)
    edge = DEFAULT_SHORTEST_EDGE if shortest_edge is None else shortest_edge
    processor = build.build_image_processor(preset, edge or None)
    origin = {"preset": asdict(preset), "word_bank": words.bank}
    return Start(model, processor, origin, preset.image_size), words.learned


def _from_checkpoint(
    arguments: ModelArguments, classes: ClassList, shortest_edge: int | None, seed: int
) -> tuple[Start, Sequence[int]]:
    source = _checkpoint_of(str(arguments.start_from))
    trained, processor = load_model(source)
    fields = build.config_fields(arguments.config)
    guidance = arguments.guidance or trained.config.guidance
    vectors = None
    words = FoundVectors()
    if guidance != "none":
        vectors, words = vectors_for_checkpoint(arguments, trained, classes, seed)
    if guidance == trained.config.guidance and not fields and trained.open_vocabulary:
        model = trained
    else:
        model = _rebuilt(trained, {**fields, "guidance": guidance}, classes, source)
    if vectors is not None:
        # Not `set_classes`, which takes vectors of the text tower alone: learned ones may have moved away from it.
        model.begin_classes(classes.names, (classes.names, vectors)).remember_classes()
    if shortest_edge is not None:
        processor = build.with_shortest_edge(processor, shortest_edge)
    origin = {
        "started_from": {"model": source, "weights_sha256": weights_sha256(source)},
        "preset": _preset_of(Path(source)),
        "word_bank": words.bank,
    }
    return Start(model, processor, origin, (trained.config.backbone_kwargs or {}).get("img_size")), words.learned


def _rebuilt(
    trained: LClipSegForSemanticSegmentation, fields: Mapping[str, Any], classes: ClassList, source: str
) -> LClipSegForSemanticSegmentation:
    """Another head on the trained network: what both have is taken over, the rest begins anew and is named."""
    values = {**trained.config.to_dict(), **fields, "id2label": classes.id2label}
    for name in ("label2id", "num_labels", "architectures", "model_type", "transformers_version", "dtype"):
        values.pop(name, None)
    try:
        model = LClipSegForSemanticSegmentation(type(trained.config)(**copy.deepcopy(values)))
    except (ValueError, RuntimeError, StrictDataclassError) as error:
        raise InputError(f"the network of {source} cannot be built with {dict(fields)}: {error}") from error
    own = model.state_dict()
    shared = {
        name: tensor
        for name, tensor in trained.state_dict().items()
        if name not in OF_CLASSES and name in own and own[name].shape == tensor.shape
    }
    model.load_state_dict(shared, strict=False)
    anew = [name for name in own if name not in shared and name not in OF_CLASSES]
    if anew:
        modules = sorted({".".join(name.split(".")[:2]) for name in anew})
        logger.warning(f"of {source}, {len(shared)} tensors are taken over; these begin anew: {', '.join(modules)}")
    return model


def _checkpoint_of(source: str) -> str:
    """A run's folder stands for its best checkpoint."""
    folder = Path(source).expanduser()
    if (folder / RUN_FILE).is_file() and not (folder / "config.json").is_file():
        for name in ("best", "last"):
            if (folder / name / "config.json").is_file():
                return str(folder / name)
        raise InputError(
            f"--start_from {source} is a run without a checkpoint yet; let it come to its first validation"
        )
    return str(folder) if folder.exists() else source


def _preset_of(checkpoint: Path) -> Any:
    """What a checkpoint's run says of its preset, where it can be found."""
    for folder in (checkpoint, checkpoint.parent):
        if (folder / RUN_FILE).is_file():
            record = read_json(folder / RUN_FILE)
            return record.get("preset") or {"name": record["arguments"].get("model")}
    return None


def other_words(arguments: ModelArguments, taken: set[str]) -> torch.Tensor:
    """The vectors (N, D) of the bank's words that stand for no class of the data."""
    bank = WordBank.load(str(arguments.bank))
    return bank.embeddings[[row for row, word in enumerate(bank.names) if fold_name(word) not in taken]]
