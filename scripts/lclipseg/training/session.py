"""One training from its beginning, or its checkpoint, to its end."""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed

from lclipseg.console import environment
from lclipseg.console.errors import InputError
from lclipseg.console.processes import check_processes
from lclipseg.console.stop import StopRequest
from lclipseg.data.augmentation import training_transform
from lclipseg.data.mix import MixedSamples
from lclipseg.data.samples import Samples, TrainingSamples
from lclipseg.prediction.evaluate import evaluate_model
from lclipseg.prediction.metrics import SegmentationScores
from lclipseg.prediction.several import SeveralScores
from lclipseg.training.arguments import NO_FP16, DataArguments, ModelArguments, RunArguments, check_together
from lclipseg.training.contact_sheet import ContactSheets, draw_predictions, draw_samples
from lclipseg.training.folder import FIRST_BATCH_FILE, PREDICTIONS_FILE, Progress, RunFolder
from lclipseg.training.loop import Intervals, TrainingRun
from lclipseg.training.losses import TrainingLoss, inverse_sqrt_weights
from lclipseg.training.sources import RunData
from lclipseg.training.start import DEFAULT_SHORTEST_EDGE, Start, begin
from lclipseg.training.steps import Schedule, Training
from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.class_embeddings_lclipseg import fold_name

logger = logging.getLogger("lclipseg")


def train(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    run_arguments: RunArguments,
    on_step: Callable[[Progress], None] | None = None,
) -> None:
    """
    Run one training; see [`TrainingRun`] for what it leaves in its folder, and for `on_step`.

    Raises:
        [`InputError`]: arguments, data or a checkpoint that cannot be used. Nothing has been trained then, or the run
            is saved where it stands.
    """
    check_together(model_arguments, data_arguments, run_arguments)
    accelerator = _accelerator(run_arguments)
    folder = RunFolder(run_arguments.output_dir)
    with accelerator.main_process_first():
        folder.start(run_arguments.resume)
    set_seed(run_arguments.seed)

    data = RunData.open(data_arguments, run_arguments.seed)
    if not run_arguments.resume:
        _look(data, data_arguments, accelerator)
    words = {fold_name(word) for one in data.all_classes for of_one in (one.names, *one.prompts) for word in of_one}
    start = begin(model_arguments, data.classes, words, data_arguments.shortest_edge, run_arguments.seed)
    start.model.samples_loss = run_arguments.loss_pixels == "sixteenth"
    folder.check_space(start.model, is_averaged=run_arguments.ema > 0)
    if run_arguments.channels_last:
        start.model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
    if len(data.train) > 1 and not start.model.open_vocabulary:
        raise InputError(
            f"--guidance {start.model.config.guidance} is bound to one list of classes, but {len(data.train)} data "
            "sets bring lists of their own; train them apart, or take --guidance fusion or lseg"
        )
    transform = _transform(data_arguments, start)
    samples = data.samples(data_arguments, transform, run_arguments.seed, accelerator.device)
    schedule, steps_per_epoch = _schedule(run_arguments, samples, accelerator.num_processes)
    class_weights = None
    if run_arguments.class_weights == "inverse_sqrt":
        class_weights = inverse_sqrt_weights(
            data.class_pixels(data_arguments, cast(TrainingSamples | MixedSamples, samples))
        )
    if run_arguments.dice or class_weights is not None:
        start.model.pixel_loss = TrainingLoss(run_arguments.dice, class_weights)
    training = Training(
        accelerator, start.model, samples, schedule, data_arguments.num_workers, data_arguments.max_unreadable
    )
    description = {
        **_description(model_arguments, data_arguments, run_arguments, start),
        **data.description(samples.images_per_epoch),
        "weights_of_classes": class_weights,
        "steps": schedule.steps,
        "precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "distributed_type": str(accelerator.distributed_type),
        "machine": environment.machine(accelerator.device),
    }
    progress = Progress()
    if run_arguments.resume:
        with accelerator.main_process_first():  # it may note that other data are accepted
            folder.check_same(description)
        _look(data, data_arguments, accelerator)
        progress = folder.load(training.state)
        if progress.validated_step >= schedule.steps or progress.ended_early:
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
    plain = {name: value for name, value in description["arguments"].items() if isinstance(value, (int, float, str))}
    accelerator.init_trackers("lclipseg", plain, {"tensorboard": {"purge_step": progress.step + 1}})

    sheets = ContactSheets(folder.path, accelerator)

    def validate() -> SegmentationScores | SeveralScores:
        model = cast(LClipSegForSemanticSegmentation, training.state.whole_model())
        scores = _scores(model, start.image_processor, data, accelerator)
        if accelerator.is_main_process:
            sheets.keep(
                PREDICTIONS_FILE, lambda: draw_predictions(model, start.image_processor, data), step=progress.step
            )
        return scores

    intervals = Intervals(
        max(1, round(run_arguments.eval_every * steps_per_epoch)), round(run_arguments.save_every * steps_per_epoch)
    )
    run = TrainingRun(
        training, folder, start.image_processor, progress, intervals, validate, run_arguments.patience, on_step
    )
    if accelerator.is_main_process and progress.step == 0 and isinstance(samples, TrainingSamples | MixedSamples):
        draw = partial(draw_samples, samples, run_arguments.batch_size, data.classes.id2label, start.image_processor)
        sheets.keep(FIRST_BATCH_FILE, draw, step=0)
    with StopRequest() as stop:
        run.go_on(stop)
    accelerator.end_training()
    if stop.signal is not None and progress.step < schedule.steps:
        sys.exit(128 + stop.signal)


def _look(data: RunData, arguments: DataArguments, accelerator: Accelerator) -> None:
    """Have every process see what cannot be trained on, and the first one say what is odd."""
    for remark in data.look(arguments):
        if accelerator.is_main_process:
            logger.warning(remark)


def _scores(
    model: LClipSegForSemanticSegmentation, image_processor: Any, data: RunData, accelerator: Accelerator
) -> SegmentationScores | SeveralScores:
    """Of one data set, or of several, each among its own classes."""
    if len(data.eval) == 1:
        return evaluate_model(model, image_processor, data.eval[0], accelerator=accelerator)
    of_sets = {
        name: evaluate_model(
            model, image_processor, held, accelerator=accelerator, class_embeddings=model.class_embeddings[list(ids)]
        )
        for name, held, ids in zip(data.names, data.eval, data.mixed.ids, strict=True)
    }
    return SeveralScores(of_sets)


def _schedule(arguments: RunArguments, samples: Samples, processes: int) -> tuple[Schedule, float]:
    """The schedule, and the steps of an epoch."""
    samples_per_step = arguments.batch_size * arguments.accumulation_steps * processes
    steps_per_epoch = (samples.images_per_epoch or 0) / samples_per_step
    if samples.images_per_epoch is not None and arguments.batch_size > samples.images_per_epoch:
        logger.warning(
            f"--batch_size {arguments.batch_size} is more than the {samples.images_per_epoch} images to train on, so "
            f"that every step has some of them twice; give --batch_size {samples.images_per_epoch} or less."
        )
    steps = arguments.steps or max(1, round(arguments.epochs * steps_per_epoch))
    return Schedule.of(arguments, steps), steps_per_epoch


def _transform(arguments: DataArguments, start: Start) -> Any:
    size, processor = start.image_size, start.image_processor
    if size is not None and arguments.crop_size != [size] * 2:
        raise InputError(
            f"the backbone is built for {size} x {size} pixels, but --crop_size is {arguments.crop_size}; give that "
            "size, or another `img_size` in the preset."
        )
    edge = arguments.shortest_edge
    if edge is None:
        sizing = processor.sizing
        of_processor = min(sizing.fixed) if sizing.fixed is not None else sizing.shortest_edge
        edge = of_processor or (DEFAULT_SHORTEST_EDGE if processor.do_resize else 0)
    return training_transform(
        (arguments.crop_size[0], arguments.crop_size[1]),
        edge or None,
        (arguments.scale[0], arguments.scale[1]),
        arguments.max_class_share,
        processor.image_mean,
        processor.image_std,
        arguments.flip,
        arguments.colour_jitter,
        arguments.hue_jitter,
        arguments.class_centred,
    )


def _description(
    model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments, start: Start
) -> dict[str, Any]:
    """What the network's result depends on, besides the data and the processes."""
    config = start.model.config
    return {
        "arguments": {**asdict(model_arguments), **asdict(data_arguments), **asdict(run_arguments)},
        "guidance": config.guidance,
        "class_names": config.class_names,
        "text_tower": config.text_model_name_or_path if start.model.head.takes_text else None,
        "prompt_templates": config.prompt_templates,
        "parameters": sum(parameter.numel() for parameter in start.model.parameters()),
        **start.origin,
        "other_words": _digest_of_bank(model_arguments) if model_arguments.negative_words else None,
        "versions": environment.versions(),
        "commit": environment.commit(),
        "date": environment.now(),
    }


def _digest_of_bank(arguments: ModelArguments) -> str:
    path = str(arguments.bank).partition("#")[0]
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _accelerator(run_arguments: RunArguments) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=run_arguments.mixed_precision,
            log_with=None if run_arguments.trackers == "none" else run_arguments.trackers,
            project_dir=run_arguments.output_dir,
        )
    except ValueError as error:  # a tracker that accelerate does not know, a precision that the device has not
        raise InputError(str(error)) from error
    if accelerator.device.type == "cpu" and accelerator.mixed_precision == "fp16":
        raise InputError(NO_FP16)
    accelerator.gradient_accumulation_steps = 1  # ours to do, whatever the launcher was told
    check_processes(run_arguments.expected_processes, accelerator.num_processes)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" and accelerator.distributed_type != DistributedType.FSDP:
        raise InputError(
            f"FSDP was asked for, but accelerate takes these processes for {accelerator.distributed_type.value}: it "
            "needs several GPUs. See configuration/accelerate/ for other settings."
        )
    return accelerator
