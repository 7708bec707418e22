"""Train LClipSeg on your own images, or repeat a published run.

    python scripts/train.py --data my_folder --output_dir runs/mine
    python scripts/train.py configuration/recipes/camvid-mbv3s-fusion.yaml --data camvid --output_dir runs/1
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml scripts/train.py ... --expected_processes 2

A folder holds images/, masks/ (same stems, class indices) and classes.json; see lclipseg/data/labelled.py. A recipe is
a YAML file of the fields below; what stands on the command line wins.
"""

import hashlib
import logging
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torchvision.transforms import v2

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.processes import check_processes
from lclipseg.data.augmentation import training_transform
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import SegmentationData
from lclipseg.data.open import load_segmentation_data, stream_segmentation_data
from lclipseg.data.samples import Samples, TrainingSamples
from lclipseg.data.subset import ClassSubset, find_classes, load_held_out
from lclipseg.networks import build as building
from lclipseg.networks.presets import Preset, load_preset
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.prediction.metrics import SegmentationScores
from lclipseg.training.ablations import ablate, control_vectors, learn_vectors
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments
from lclipseg.training.folder import Progress, RunFolder
from lclipseg.training.loop import Intervals, TrainingRun
from lclipseg.training.signals import StopRequest
from lclipseg.training.steps import Training
from lclipseg.training.vector_augmentation import VectorAugmentation
from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

if TYPE_CHECKING:
    from lclipseg.data.tables import StreamedData

logger = logging.getLogger("lclipseg")


def main(model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments) -> None:
    """Run one training from beginning (or checkpoint) to end."""
    for name, value in (("data", data_arguments.data), ("output_dir", run_arguments.output_dir)):
        if not value:
            raise InputError(f"--{name} is missing; see --help.")
    accelerator = _accelerator(run_arguments)
    folder = RunFolder(run_arguments.output_dir)
    with accelerator.main_process_first():
        folder.start(run_arguments.resume)
    set_seed(run_arguments.seed)

    preset = load_preset(model_arguments.model)
    train_data, eval_data = (
        _data(data_arguments, split) for split in (data_arguments.train_split, data_arguments.eval_split)
    )
    all_classes = train_data.data.classes if isinstance(train_data, ClassSubset) else train_data.classes
    model = _model(model_arguments, preset, train_data.classes, all_classes, run_arguments.seed)
    folder.check_space(model)
    if run_arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    image_processor = building.build_image_processor(preset, data_arguments.shortest_edge or None)
    samples = _samples(data_arguments, train_data, _transform(data_arguments, preset), run_arguments.seed, accelerator)
    samples_per_step = run_arguments.batch_size * run_arguments.accumulation_steps * accelerator.num_processes
    if run_arguments.batch_size == 1 and max(data_arguments.crop_size) <= 32 and run_arguments.batch_norm != "frozen":
        raise InputError(
            f"one crop of {data_arguments.crop_size} pixels has a single value a channel at stride 32, which no batch "
            "statistics can be made of; give --batch_size 2, a larger --crop_size, or --batch_norm frozen."
        )
    steps_per_epoch = (samples.images_per_epoch or 0) / samples_per_step
    schedule = run_arguments.schedule(steps=max(1, round(run_arguments.epochs * steps_per_epoch)))
    training = Training(
        accelerator, model, samples, schedule, data_arguments.num_workers, data_arguments.max_unreadable
    )

    settings = {**asdict(model_arguments), **asdict(data_arguments), **asdict(run_arguments)}
    description = {
        "arguments": settings,
        "steps": schedule.steps,
        "images": {"train": samples.images_per_epoch, "eval": _length(eval_data)},
        "data_fingerprint": {"train": train_data.fingerprint(), "eval": eval_data.fingerprint()},
        "class_names": model.config.class_names,
        "text_tower": model.config.text_model_name_or_path if model.head.takes_text else None,
        "prompt_templates": model.config.prompt_templates,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "labels": {"ignore_index": all_classes.ignore_index, "do_reduce_labels": all_classes.do_reduce_labels},
        "preset": asdict(preset),
        "other_words": _digest_of_bank(model_arguments) if model_arguments.negative_words else None,
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "distributed_type": str(accelerator.distributed_type),
        "versions": environment.versions(),
        "machine": environment.machine(accelerator.device),
        "commit": environment.commit(),
        "date": environment.now(),
    }
    progress = Progress()
    if run_arguments.resume:
        with accelerator.main_process_first():  # it may note that other data are accepted
            folder.check_same(description)
        progress = folder.load(training.state)
        if progress.validated_step >= schedule.steps:
            logger.info(
                f"the run in {folder.path} is finished: {progress.step} steps, best val mIoU "
                f"{100 * (progress.best_mean_iou or 0):.2f} at step {progress.best_step}"
            )
            return
    if accelerator.is_main_process:
        if not run_arguments.resume:
            folder.describe(description)
        folder.cut_log(progress.validated_step)
    # Trackers take plain values only. Those of steps that are taken once more are forgotten.
    plain = {name: value for name, value in settings.items() if isinstance(value, (int, float, str))}
    accelerator.init_trackers("lclipseg", plain, {"tensorboard": {"purge_step": progress.step + 1}})

    def validate() -> SegmentationScores:
        return evaluate_model(training.state.whole_model(), image_processor, eval_data, accelerator=accelerator)

    intervals = Intervals(
        max(1, round(run_arguments.eval_every * steps_per_epoch)), round(run_arguments.save_every * steps_per_epoch)
    )
    run = TrainingRun(training, folder, image_processor, progress, intervals, validate)
    with StopRequest() as stop:
        run.go_on(stop)
    accelerator.end_training()
    if stop.signal is not None and progress.step < schedule.steps:
        sys.exit(128 + stop.signal)


def _accelerator(run_arguments: RunArguments) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=run_arguments.mixed_precision,
            log_with=None if run_arguments.trackers == "none" else run_arguments.trackers,
            project_dir=run_arguments.output_dir,
        )
    except ValueError as error:  # a tracker that accelerate does not know, a precision that the device has not
        raise InputError(str(error)) from error
    accelerator.gradient_accumulation_steps = 1  # ours to do, whatever the launcher was told
    check_processes(run_arguments.expected_processes, accelerator.num_processes)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and accelerator.distributed_type != DistributedType.FSDP:
        raise InputError(
            f"FSDP was asked for, but accelerate takes these processes for {accelerator.distributed_type.value}: it "
            "needs several GPUs. See configuration/accelerate/ for other settings."
        )
    return accelerator


def _data(data_arguments: DataArguments, split: str) -> "SegmentationData | StreamedData":
    columns = {"image_column": data_arguments.image_column, "mask_column": data_arguments.mask_column}
    if data_arguments.streaming:
        if data_arguments.held_out is not None or data_arguments.cache or data_arguments.cache_on_device:
            raise InputError("--streaming true goes with none of --held_out, --cache and --cache_on_device.")
        return stream_segmentation_data(data_arguments.data, split, classes=data_arguments.classes, **columns)
    data = load_segmentation_data(
        data_arguments.data, split, classes=data_arguments.classes, cache=data_arguments.cache, **columns
    )
    if data_arguments.held_out is None:
        return data
    unseen = find_classes(load_held_out(data_arguments.held_out), data.classes)
    return ClassSubset(data, [name for index, name in enumerate(data.classes.names) if index not in unseen])


def _samples(
    data_arguments: DataArguments,
    data: "SegmentationData | StreamedData",
    transform: v2.Transform,
    seed: int,
    accelerator: Accelerator,
) -> Samples:
    if isinstance(data, SegmentationData):
        return TrainingSamples(data, transform, seed, accelerator.device if data_arguments.cache_on_device else None)
    from lclipseg.data.streams import StreamedSamples  # needs `datasets`, as the data did

    samples = StreamedSamples(data, transform, seed, data_arguments.images_per_epoch)
    if samples.images_per_epoch is None:
        raise InputError(
            f"{data_arguments.data} does not say how many images it has, which the schedule is made from; give "
            "--images_per_epoch."
        )
    return samples


def _length(data: "SegmentationData | StreamedData") -> int | None:
    return len(data) if isinstance(data, SegmentationData) else data.num_rows


def _model(
    model_arguments: ModelArguments, preset: Preset, classes: ClassList, all_classes: ClassList, seed: int
) -> Any:
    fields = building.config_fields(model_arguments.config)
    if model_arguments.guidance == "none" and model_arguments.vectors != "clip":
        raise InputError(f"--vectors {model_arguments.vectors} needs a guidance with text; --guidance is 'none'.")
    vectors = None
    if model_arguments.guidance != "none":
        if model_arguments.bank is not None:
            vectors = building.vectors_from_bank(classes, model_arguments.bank, model_arguments.text_model)
        else:
            config = preset.build_config(**fields)
            text_model = model_arguments.text_model or config.text_model_name_or_path
            vectors = building.vectors_from_tower(classes, str(text_model), config.prompt_templates)
        vectors = control_vectors(vectors.centred_by(model_arguments.center), model_arguments.vectors, seed)
    weights = model_arguments.backbone_weights or preset.backbone_weights
    model = building.build_model(preset, {**fields, "guidance": model_arguments.guidance}, classes, vectors, weights)
    if model_arguments.ablation is not None:
        ablate(model, model_arguments.ablation)
    if vectors is not None and model_arguments.vectors == "learned":
        learn_vectors(model)
    if model_arguments.vector_noise or model_arguments.negative_words:
        others = _other_words(model_arguments, all_classes)
        VectorAugmentation(model_arguments.vector_noise, model_arguments.negative_words, others).attach(model)
    return model


def _digest_of_bank(model_arguments: ModelArguments) -> str:
    path = str(model_arguments.bank).partition("#")[0]
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other_words(model_arguments: ModelArguments, classes: ClassList) -> torch.Tensor:
    """The vectors of the bank's words that stand for no class, seen or held out."""
    if model_arguments.bank is None or model_arguments.guidance == "none":
        raise InputError("--vector_noise and --negative_words need --bank FILE, and a guidance with text.")
    bank = WordBank.load(model_arguments.bank)
    taken = {fold_name(word) for word in (*classes.names, *classes.prompts)}
    return bank.embeddings[[row for row, word in enumerate(bank.names) if fold_name(word) not in taken]]


def _transform(data_arguments: DataArguments, preset: Preset) -> v2.Transform:
    if preset.image_size is not None and data_arguments.crop_size != [preset.image_size] * 2:
        raise InputError(
            f"the backbone of preset {preset.name!r} is built for {preset.image_size} x {preset.image_size} pixels, "
            f"but --crop_size is {data_arguments.crop_size}; give that size, or another `img_size` in the preset."
        )
    return training_transform(
        _pair("crop_size", data_arguments.crop_size),
        data_arguments.shortest_edge or None,
        _pair("scale", data_arguments.scale),
        data_arguments.max_class_share,
        preset.image_mean,
        preset.image_std,
    )


def _pair(name: str, values: list) -> tuple:
    if len(values) != 2 or min(values) <= 0 or (name == "scale" and values[0] > values[1]):
        order = ", the smaller one first" if name == "scale" else ""
        raise InputError(f"--{name} is {values}; give two numbers above 0{order}.")
    return values[0], values[1]


def parse() -> tuple[Any, ...]:
    return arguments.parse(__doc__, ModelArguments, DataArguments, RunArguments)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
