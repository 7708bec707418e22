"""Train LClipSeg on your own pictures, or repeat a published run.

    accelerate launch scripts/train.py --data my_folder --output_dir runs/mine
    accelerate launch scripts/train.py configuration/recipes/camvid-mbv3s-fusion.yaml --data camvid --output_dir runs/1

A folder holds images/, masks/ (same stems, class indices) and classes.json; see scripts/toolkit/data.py. A recipe is a
YAML file of the fields below; what stands on the command line wins.
"""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torchvision.transforms import v2

from modeling_lclipseg import WordBank
from modeling_lclipseg.class_vectors_lclipseg import fold_name
from scripts.toolkit import arguments, building, cli, environment
from scripts.toolkit import training as core
from scripts.toolkit.ablations import ABLATIONS, ablate, control_vectors, learn_vectors
from scripts.toolkit.augmentation import TrainingSamples, training_transform
from scripts.toolkit.class_list import ClassList
from scripts.toolkit.class_subset import ClassSubset, find_classes, load_held_out
from scripts.toolkit.cli import InputError
from scripts.toolkit.data import SegmentationData, load_segmentation_data
from scripts.toolkit.evaluation import evaluate_model
from scripts.toolkit.metrics import SegmentationScores
from scripts.toolkit.presets import Preset, load_preset
from scripts.toolkit.vector_augmentation import VectorAugmentation

logger = logging.getLogger("lclipseg")


@dataclass
class ModelArguments:
    """What is trained."""

    model: str = field(default="lclipseg-mbv3", metadata={"help": "Preset of configuration/models, or a YAML file."})
    guidance: str = field(
        default="fusion", metadata={"help": "fusion, lseg or denseclip (text-guided), or none (plain classifier)."}
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={
            "help": "Hub name or .safetensors file; 'none': random weights. Default: the preset's, from the Hub."
        },
    )
    bank: str | None = field(
        default=None,
        metadata={"help": "Word bank with the classes' vectors: FILE.safetensors or FILE.safetensors#key."},
    )
    text_model: str | None = field(
        default=None,
        metadata={
            "help": "CLIP text tower, Hub name or folder. Default: openai/clip-vit-base-patch16. With --bank: the "
            "tower that made the bank, where the bank does not say."
        },
    )
    center: str = field(
        default="words",
        metadata={
            "help": "What is subtracted from every class vector: the mean of many words (the bank, or common ones), "
            "of the classes, or none."
        },
    )
    vectors: str = field(
        default="clip",
        metadata={
            "help": "clip, or a control of a comparison: random (unit vectors), shuffled (every class has another "
            "one's), learned (with the network)."
        },
    )
    vector_noise: float = field(
        default=0.0, metadata={"help": "Length of the noise added to class vectors (of length 1) in every step."}
    )
    negative_words: int = field(
        default=0, metadata={"help": "Other words of the bank that compete with the classes in every step."}
    )
    config: list[str] = field(
        default_factory=list, metadata={"help": "FIELD=VALUE of LClipSegConfig, over the preset's own."}
    )
    ablation: str | None = field(
        default=None, metadata={"help": f"Part of the fusion module to do without: {', '.join(ABLATIONS)}."}
    )


@dataclass
class DataArguments:
    """What it is trained on."""

    data: str = field(default="", metadata={"help": "Folder, parquet or zip file, or Hub data set name."})
    classes: str | None = field(default=None, metadata={"help": "classes.json to use instead of the data's own."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(default="val", metadata={"help": "Split to validate on."})
    held_out: str | None = field(
        default=None,
        metadata={"help": "YAML file `classes: [names]` of classes that training ignores, to be asked for later."},
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column of a table, where not obvious."})
    mask_column: str | None = field(default=None, metadata={"help": "Mask column of a table, where not obvious."})
    crop_size: list[int] = field(
        default_factory=lambda: [512, 512], metadata={"help": "Height and width of training crops in pixels."}
    )
    scale: list[float] = field(
        default_factory=lambda: [0.5, 2.0],
        metadata={"help": "Range of the random factor that pictures are scaled by."},
    )
    max_class_share: float = field(
        default=0.75, metadata={"help": "Largest share of a crop that one class may have before it is drawn again."}
    )
    shortest_edge: int = field(
        default=512,
        metadata={
            "help": "Shorter side that pictures are brought to: in training before scaling, and by the finished "
            "model. 0: they keep their size."
        },
    )
    cache: bool = field(default=False, metadata={"help": "Keep decoded pictures in memory (each worker its own)."})
    cache_on_device: bool = field(
        default=False,
        metadata={"help": "Keep them on the GPU and augment them there; for data that fits. Needs num_workers 0."},
    )
    num_workers: int = field(default=0, metadata={"help": "Processes that read and augment ahead of the training."})


@dataclass
class RunArguments:
    """How, how long, and where the result goes."""

    output_dir: str = field(default="", metadata={"help": "Folder of the run."})
    epochs: float = field(default=100, metadata={"help": "Passes over the training pictures."})
    batch_size: int = field(default=8, metadata={"help": "Pictures a process takes at once."})
    accumulation_steps: int = field(default=1, metadata={"help": "Batches whose gradients make one step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak rate of AdamW."})
    backbone_lr_scale: float = field(default=0.25, metadata={"help": "The backbone's rate as a share of it."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's decay of matrices and kernels."})
    warmup_steps: int | None = field(
        default=None,
        metadata={"help": "Steps of linear warm-up; polynomial decay follows. Default: a twentieth, 1500 at most."},
    )
    power: float = field(default=0.9, metadata={"help": "Exponent of the polynomial decay."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradient clipping."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. Default: what accelerate launch says."}
    )
    channels_last: bool = field(
        default=False, metadata={"help": "Keep kernels channels-last, which is faster on most processors."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, order and augmentation."})
    eval_every: float = field(default=10, metadata={"help": "Passes between validations (and checkpoints)."})
    resume: bool = field(default=False, metadata={"help": "Go on where the run in output_dir stopped."})
    trackers: str | None = field(
        default="tensorboard", metadata={"help": "Tracker that accelerate knows by name, or 'none'."}
    )
    expected_processes: int | None = field(
        default=None, metadata={"help": "Fail unless so many processes run (launchers may silently start one)."}
    )

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulation_steps", "learning_rate", "max_grad_norm", "eval_every"):
            if getattr(self, name) <= 0:
                raise InputError(f"--{name} is {getattr(self, name)}; it must be above 0.")
        if self.mixed_precision not in (None, "no", "fp16", "bf16"):
            raise InputError(f"--mixed_precision is {self.mixed_precision!r}; allowed: no, fp16, bf16.")

    def schedule(self, steps: int) -> core.Schedule:
        """The schedule of a run of so many optimiser steps."""
        return core.Schedule(
            steps=steps,
            batch_size=self.batch_size,
            accumulation_steps=self.accumulation_steps,
            learning_rate=self.learning_rate,
            backbone_lr_scale=self.backbone_lr_scale,
            weight_decay=self.weight_decay,
            warmup_steps=min(1500, steps // 20) if self.warmup_steps is None else self.warmup_steps,
            power=self.power,
            max_grad_norm=self.max_grad_norm,
        )


def main(model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments) -> None:
    """Run one training from beginning (or checkpoint) to end."""
    for name, value in (("data", data_arguments.data), ("output_dir", run_arguments.output_dir)):
        if not value:
            raise InputError(f"--{name} is missing; see --help.")
    accelerator = _accelerator(run_arguments)
    folder = core.RunFolder(run_arguments.output_dir)
    folder.start(run_arguments.resume)
    set_seed(run_arguments.seed)

    preset = load_preset(model_arguments.model)
    train_data, eval_data = (
        _data(data_arguments, split) for split in (data_arguments.train_split, data_arguments.eval_split)
    )
    all_classes = train_data.data.classes if isinstance(train_data, ClassSubset) else train_data.classes
    model = _model(model_arguments, preset, train_data.classes, all_classes, run_arguments.seed)
    if run_arguments.channels_last:
        model = model.to(memory_format=torch.channels_last)
    image_processor = building.build_image_processor(preset, data_arguments.shortest_edge or None)
    kept_on = accelerator.device if data_arguments.cache_on_device else None
    samples = TrainingSamples(train_data, _transform(data_arguments, preset), run_arguments.seed, kept_on)
    samples_per_step = run_arguments.batch_size * run_arguments.accumulation_steps * accelerator.num_processes
    steps_per_epoch = len(train_data) / samples_per_step
    schedule = run_arguments.schedule(steps=max(1, round(run_arguments.epochs * steps_per_epoch)))
    training = core.Training(accelerator, model, samples, schedule, run_arguments.seed, data_arguments.num_workers)

    settings = {**asdict(model_arguments), **asdict(data_arguments), **asdict(run_arguments)}
    description = {
        "arguments": settings,
        "steps": schedule.steps,
        "images": {"train": len(train_data), "eval": len(eval_data)},
        "class_names": model.config.class_names,
        "text_tower": model.config.text_model_name_or_path if model.head.takes_text else None,
        "prompt_templates": model.config.prompt_templates,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "processes": accelerator.num_processes,
        "versions": environment.versions(),
        "machine": environment.machine(accelerator.device),
        "commit": environment.commit(),
        "date": environment.now(),
    }
    progress = core.Progress()
    if run_arguments.resume:
        folder.check_same(description)
        progress = folder.load(accelerator)
        if progress.step >= schedule.steps:
            logger.info(
                f"the run in {folder.path} is finished: {progress.step} steps, best val mIoU "
                f"{100 * progress.best_mean_iou:.2f} at step {progress.best_step}"
            )
            return
    elif accelerator.is_main_process:
        folder.describe(description)
    # Trackers take plain values only.
    plain = {name: value for name, value in settings.items() if isinstance(value, (int, float, str))}
    accelerator.init_trackers("lclipseg", config=plain)

    def validate() -> SegmentationScores:
        return evaluate_model(
            accelerator.unwrap_model(training.model), image_processor, eval_data, accelerator=accelerator
        )

    _train(training, folder, image_processor, progress, round(run_arguments.eval_every * steps_per_epoch), validate)
    accelerator.end_training()


def _accelerator(run_arguments: RunArguments) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=run_arguments.mixed_precision,
            gradient_accumulation_steps=run_arguments.accumulation_steps,
            log_with=None if run_arguments.trackers == "none" else run_arguments.trackers,
            project_dir=run_arguments.output_dir,
        )
    except ValueError as error:  # a tracker that accelerate does not know, a precision that the device has not
        raise InputError(str(error)) from error
    if run_arguments.expected_processes not in (None, accelerator.num_processes):
        raise InputError(
            f"{run_arguments.expected_processes} processes were asked for but {accelerator.num_processes} run; see "
            "configuration/accelerate/ for launch settings that start several."
        )
    return accelerator


def _data(data_arguments: DataArguments, split: str) -> SegmentationData:
    data = load_segmentation_data(
        data_arguments.data,
        split,
        classes=data_arguments.classes,
        image_column=data_arguments.image_column,
        mask_column=data_arguments.mask_column,
        cache=data_arguments.cache,
    )
    if data_arguments.held_out is None:
        return data
    unseen = find_classes(load_held_out(data_arguments.held_out), data.classes)
    return ClassSubset(data, [name for index, name in enumerate(data.classes.names) if index not in unseen])


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


def _other_words(model_arguments: ModelArguments, classes: ClassList) -> torch.Tensor:
    """The vectors of the bank's words that stand for no class, seen or held out."""
    if model_arguments.bank is None or model_arguments.guidance == "none":
        raise InputError("--vector_noise and --negative_words need --bank FILE, and a guidance with text.")
    bank = WordBank.load(model_arguments.bank)
    taken = {fold_name(word) for word in (*classes.names, *classes.prompts)}
    return bank.embeddings[[row for row, word in enumerate(bank.names) if fold_name(word) not in taken]]


def _train(
    training: core.Training, folder: core.RunFolder, image_processor, progress, eval_every: int, validate
) -> None:
    """Steps, with a bar; every `eval_every` steps and at the end a validation and a checkpoint."""
    accelerator, total = training.accelerator, training.schedule.steps
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  lr {task.fields[rate]:.1e}  data {task.fields[data]:.0%}"),
        TextColumn("val mIoU {task.fields[iou]}"),
        TimeRemainingColumn(),
        disable=not accelerator.is_main_process,
    )
    with bar:
        task = bar.add_task("step", total=total, completed=progress.step, loss="-", rate=0.0, data=0.0, iou="-")
        for report in training.steps(progress.step):
            progress.step = report.step
            if report.step % 10 == 0 or report.step == total:
                loss = report.loss.item()
                accelerator.log({"loss": loss, "learning_rate": report.learning_rate}, step=report.step)
                bar.update(task, loss=f"{loss:.3f}", rate=report.learning_rate, data=report.data_share)
            bar.update(task, completed=report.step)
            if report.step % max(1, eval_every) == 0 or report.step == total:
                scores = validate()
                best = scores.mean_iou > progress.best_mean_iou
                if best:
                    progress.best_mean_iou, progress.best_step = scores.mean_iou, report.step
                accelerator.log({"val_mean_iou": scores.mean_iou}, step=report.step)
                bar.update(task, iou=f"{100 * scores.mean_iou:.1f}")
                if accelerator.is_main_process:
                    folder.log({"step": report.step, "loss": report.loss.item(), **scores.to_dict()})
                    bar.console.print(f"step {report.step}: val mIoU {100 * scores.mean_iou:.2f}")
                if best:
                    folder.save("best", accelerator, training.model, image_processor, progress, training_state=False)
                # Last, so that whoever resumes from it finds everything else of this step done.
                folder.save("last", accelerator, training.model, image_processor, progress, training_state=True)


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
    cli.run(lambda: main(*parse()))


if __name__ == "__main__":
    command()
