"""What `lclipseg train` can be told, on the command line or in a recipe."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lclipseg.console.accelerators import surely_none
from lclipseg.console.errors import InputError
from lclipseg.data.files import check_source_exists
from lclipseg.networks.folders import check_at_hand
from lclipseg.networks.presets import check_weights_at_hand, preset_file

DEFAULT_PRESET = "lclipseg-mbv3"
RUN_FILE = "run.json"  # in a run's folder: these arguments, and all else that its result depends on
LAST = "last"  # there: the checkpoint that a run goes on from
# Parts of the fusion that a comparison can do without, see ablations.py.
PARTS = ("image_to_text", "text_to_image", "image_branch", "text_branch", "bridge", "presence", "undisturbed")


NO_FP16 = (
    "--mixed_precision fp16 needs a GPU, and there is none: accelerate would train in float32 and say fp16. Give "
    "--mixed_precision no, or bf16."
)


def _check(arguments: Any, is_allowed: Callable[[Any], bool], allowed: str, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if not is_allowed(value):
            raise InputError(f"--{name} is {value}; it must be {allowed}.")


def _pair(name: str, values: list) -> None:
    if len(values) != 2 or min(values) <= 0:
        raise InputError(f"--{name} is {values}; give two numbers above 0.")


@dataclass
class ModelArguments:
    """What is trained."""

    model: str | None = field(
        default=None,
        metadata={
            "help": "Preset of configuration/models, or a YAML file. Default: "
            f"{DEFAULT_PRESET}, with ImageNet weights."
        },
    )
    start_from: str | None = field(
        default=None,
        metadata={
            "help": "Trained checkpoint to start from, in place of --model: a folder, a run, or OWNER/NAME on the Hub."
        },
    )
    guidance: Literal["fusion", "lseg", "denseclip", "none"] | None = field(
        default=None,
        metadata={"help": "Text-guided, or none: a plain classifier. Default: the checkpoint's, else fusion."},
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={
            "help": "Hub name or .safetensors file; 'none': random weights. Default: the preset's, from the Hub."
        },
    )
    bank: str | None = field(
        default=None,
        metadata={
            "help": "Word bank with the classes' vectors: FILE.safetensors or FILE.safetensors#key. Default: those "
            "that ship here, if they are of the text tower and, with --model, hold all words of the classes."
        },
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
            "help": "What is subtracted from every class embedding: the mean of many words (the bank, or common "
            "ones), of the classes, or none."
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
        default=0.0, metadata={"help": "Length of the noise added to class embeddings (of length 1) in every step."}
    )
    negative_words: int = field(
        default=0, metadata={"help": "Other words of the bank that compete with the classes in every step."}
    )
    config: list[str] = field(
        default_factory=list, metadata={"help": "FIELD=VALUE of LClipSegConfig, over the preset's own."}
    )
    ablation: str | None = field(
        default=None,
        metadata={
            "help": f"Part of the fusion to do without: {', '.join(PARTS)}. All but presence need a two-way block "
            "(--config num_fusion_layers=1)."
        },
    )

    def __post_init__(self):
        if self.start_from is not None and self.model is not None:
            raise InputError(f"--start_from {self.start_from} brings its own network; leave --model {self.model} out.")
        if self.start_from is not None and self.backbone_weights is not None:
            raise InputError("--start_from brings all weights; leave --backbone_weights out.")
        if self.model is not None:
            preset_file(self.model)
        if self.guidance == "none" and self.vectors != "clip":
            raise InputError(f"--vectors {self.vectors} needs a guidance with text; --guidance is 'none'.")


@dataclass
class DataArguments:
    """What it is trained on."""

    data: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Folder, export of a labelling tool, parquet or zip file, or Hub data set name; several are "
            "trained on together. Required, here or in a recipe."
        },
    )
    data_weights: list[float] = field(
        default_factory=list,
        metadata={
            "help": "How often each of several data sets is drawn from, in any unit. Default: by the square root of "
            "the number of its images."
        },
    )
    background: Literal["word", "ignore"] = field(
        default="word",
        metadata={
            "help": "What becomes of the class that classes.json calls `none_of_these`: a class like any other, known "
            "by its word, or pixels without a label."
        },
    )
    classes: str | None = field(default=None, metadata={"help": "classes.json to use instead of the data's own."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(default="val", metadata={"help": "Split to validate on."})
    held_out: str | None = field(
        default=None,
        metadata={"help": "YAML file `classes: [names]` of classes that training ignores, to be asked for later."},
    )
    max_images: int | None = field(
        default=None, metadata={"help": "Train on so many images of each set alone, drawn by --seed."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column of a table, where not obvious."})
    mask_column: str | None = field(default=None, metadata={"help": "Mask column of a table, where not obvious."})
    crop_size: list[int] = field(
        default_factory=lambda: [512, 512], metadata={"help": "Height and width of training crops in pixels."}
    )
    scale: list[float] = field(
        default_factory=lambda: [0.5, 2.0],
        metadata={"help": "Range of the random factor that images are scaled by."},
    )
    max_class_share: float = field(
        default=0.75, metadata={"help": "Largest share of a crop that one class may have before it is drawn again."}
    )
    class_centred: float = field(
        default=0.0,
        metadata={
            "help": "Share of the crops laid around a pixel of a class drawn evenly among the image's: rare classes "
            "are seen more often."
        },
    )
    repeat_rare: float = field(
        default=0.0,
        metadata={
            "help": "Share of the images below which a class is rare: the rarer its rarest class, the more often an "
            "image is drawn. The masks are read once before. 0: all alike."
        },
    )
    flip: bool = field(
        default=True,
        metadata={"help": "Flip half of the crops left to right; false where left and right are classes."},
    )
    colour_jitter: float = field(
        default=0.3, metadata={"help": "Largest relative change of brightness, contrast and saturation, 0 to 1."}
    )
    hue_jitter: float = field(
        default=0.03, metadata={"help": "Largest change of the hue, 0 to 0.5; it costs more time than all else."}
    )
    shortest_edge: int | None = field(
        default=None,
        metadata={
            "help": "Shorter side that images are brought to: in training before scaling, and by the finished "
            "model. 0: they keep their size. Default: 512, or what the checkpoint has that is started from."
        },
    )
    cache: bool = field(default=False, metadata={"help": "Keep decoded images in memory (each worker its own)."})
    cache_on_device: bool = field(
        default=False,
        metadata={"help": "Keep them on the GPU and augment them there; for data that fits. Needs num_workers 0."},
    )
    num_workers: int = field(default=0, metadata={"help": "Processes that read and augment ahead of the training."})
    streaming: bool = field(
        default=False, metadata={"help": "Read a table row by row, without downloading or indexing it first."}
    )
    images_per_epoch: int | None = field(
        default=None, metadata={"help": "Images of a streamed table, where its metadata do not say how many it has."}
    )
    max_unreadable: float = field(
        default=0.01, metadata={"help": "Share of images that may be damaged; they are named and left out."}
    )

    def __post_init__(self):
        _check(self, lambda value: 0 <= value <= 1, "a share from 0 to 1", "max_unreadable")
        _check(self, lambda value: 0 < value <= 1, "a share above 0, 1 at most", "max_class_share")
        _check(self, lambda value: value >= 0, "0 or more", "num_workers")
        _check(
            self, lambda value: 0 <= value <= 1, "a share from 0 to 1", "colour_jitter", "class_centred", "repeat_rare"
        )
        _check(self, lambda value: 0 <= value <= 0.5, "0 to 0.5", "hue_jitter")
        _check(self, lambda value: value is None or value >= 0, "0 or more", "shortest_edge")
        _check(self, lambda value: value is None or value > 0, "above 0", "images_per_epoch", "max_images")
        _pair("crop_size", self.crop_size)
        _pair("scale", self.scale)
        if self.scale[0] > self.scale[1]:
            raise InputError(f"--scale is {self.scale}; give the smaller factor first.")
        if self.data_weights and len(self.data_weights) != len(self.data):
            raise InputError(
                f"--data_weights has {len(self.data_weights)} numbers for {len(self.data)} data sets; give one each."
            )
        if self.cache_on_device and self.num_workers:
            raise InputError(
                f"--cache_on_device keeps the images in the training process, so --num_workers {self.num_workers} "
                "could not help; leave it at 0."
            )
        if self.images_per_epoch is not None and not self.streaming:
            raise InputError("--images_per_epoch is for --streaming true; other data are counted. Leave it out.")


# What a checkpoint knows outlasts a lower rate, and its statistics are of more images than a few labels: measured with
# 5, 20 and 100 images (docs/lab-notes.md, 2026-11-28). A head that begins anew needs statistics of its own.
FROM_PRESET: dict[str, Any] = {"learning_rate": 1e-3, "batch_norm": "synced"}
FROM_CHECKPOINT: dict[str, Any] = {"learning_rate": 5e-4, "batch_norm": "frozen"}


@dataclass
class RunArguments:
    """How, how long, and where the result goes."""

    output_dir: str = field(default="", metadata={"help": "Folder of the run. Required, here or in a recipe."})
    epochs: float = field(default=100, metadata={"help": "Passes over the training images."})
    steps: int | None = field(
        default=None, metadata={"help": "Optimiser steps in all, in place of --epochs. Validations follow the epochs."}
    )
    batch_size: int = field(default=8, metadata={"help": "Images a process takes at once."})
    accumulation_steps: int = field(default=1, metadata={"help": "Batches whose gradients make one step."})
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak rate of AdamW. Default: 1e-3, and 5e-4 from a checkpoint as it is."}
    )
    backbone_lr_scale: float = field(default=0.25, metadata={"help": "The backbone's rate as a share of it."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's decay of matrices and kernels."})
    warmup_steps: int | None = field(
        default=None,
        metadata={"help": "Steps of linear warm-up; polynomial decay follows. Default: a twentieth, 1500 at most."},
    )
    power: float = field(default=0.9, metadata={"help": "Exponent of the polynomial decay."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradient clipping."})
    max_loss: float = field(
        default=1000.0,
        metadata={
            "help": "A step with a higher loss, or a gradient that is not finite, is left out; 20 in a row end the "
            "run."
        },
    )
    loss_pixels: Literal["sixteenth", "all"] = field(
        default="sixteenth",
        metadata={
            "help": "Pixels of a step's loss: one of every 4x4 cell, which is the loss of all of them in expectation, "
            "or all, which takes longer the more classes there are."
        },
    )
    dice: float = field(
        default=0.0,
        metadata={"help": "Weight of a soft Dice loss over the classes of a batch, beside the cross-entropy."},
    )
    class_weights: Literal["none", "inverse_sqrt"] = field(
        default="none",
        metadata={
            "help": "Weights of the classes in the cross-entropy: one over the square root of their pixels in the "
            "training masks, which are counted first."
        },
    )
    batch_norm: Literal["synced", "frozen"] | None = field(
        default=None,
        metadata={
            "help": "Statistics of the batches of all processes (on CPUs: of each), or those the run begins with: "
            "a new head then does not normalise. Default: synced, and frozen from a checkpoint as it is."
        },
    )
    ema: float = field(
        default=0.0,
        metadata={
            "help": "Decay of an exponential moving average of the weights, such as 0.999, less in the first steps; "
            "the average is what is validated and kept. 0: none."
        },
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = field(
        default=None, metadata={"help": "Default: what accelerate launch says."}
    )
    channels_last: bool = field(
        default=False, metadata={"help": "Keep kernels channels-last, which is faster on most processors."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights, order and augmentation."})
    eval_every: float = field(default=10, metadata={"help": "Epochs between validations (and checkpoints)."})
    patience: int | None = field(
        default=None, metadata={"help": "End after so many validations in a row without a better one."}
    )
    save_every: float = field(default=0, metadata={"help": "Epochs between checkpoints besides; 0: none."})
    accept_changed_data: bool = field(
        default=False, metadata={"help": "Resume although images or masks are not those the run began with."}
    )
    resume: bool = field(default=False, metadata={"help": "Go on where the run in output_dir stopped."})
    trackers: str | None = field(
        default="tensorboard", metadata={"help": "Tracker that accelerate knows by name, or 'none'."}
    )
    expected_processes: int | None = field(
        default=None, metadata={"help": "Fail unless so many processes run (launchers may silently start one)."}
    )

    def __post_init__(self):
        positive = ("epochs", "batch_size", "accumulation_steps", "max_grad_norm", "max_loss")
        _check(self, lambda value: value > 0, "above 0", *positive, "eval_every")
        _check(self, lambda value: value is None or value > 0, "above 0", "learning_rate")
        _check(
            self,
            lambda value: value >= 0,
            "0 or more",
            "weight_decay",
            "backbone_lr_scale",
            "power",
            "save_every",
            "dice",
        )
        _check(self, lambda value: value is None or value >= 0, "0 or more", "warmup_steps")
        _check(self, lambda value: value is None or value > 0, "above 0", "steps", "patience")
        _check(self, lambda value: 0 <= value < 2**32, "0 to 4294967295", "seed")
        _check(self, lambda value: 0 <= value < 1, "0, or a decay below 1, such as 0.999", "ema")


def settle_defaults(model_arguments: ModelArguments, run_arguments: RunArguments) -> None:
    """Set the defaults that depend on what a run begins with."""
    is_whole = model_arguments.start_from and not (model_arguments.guidance or model_arguments.config)
    for name, value in (FROM_CHECKPOINT if is_whole else FROM_PRESET).items():
        if getattr(run_arguments, name) is None:
            setattr(run_arguments, name, value)


def check_together(
    model_arguments: ModelArguments, data_arguments: DataArguments, run_arguments: RunArguments
) -> None:
    """
    Before anything is loaded: what a recipe may leave out, a folder that holds a run, a batch that no statistics can
    be made of, and at the end what is not at hand. Settles the defaults first.
    """
    settle_defaults(model_arguments, run_arguments)
    for name, value in (("data", data_arguments.data), ("output_dir", run_arguments.output_dir)):
        if not value:
            raise InputError(f"--{name} is missing; see --help.")
    output = Path(run_arguments.output_dir)
    if not run_arguments.resume and any((output / name).is_dir() for name in (LAST, f"{LAST}.old")):
        raise InputError(f"{output} holds a run already. Give --resume true to go on, or another --output_dir.")
    needs_bank = model_arguments.vector_noise or model_arguments.negative_words
    if needs_bank and (model_arguments.bank is None or model_arguments.guidance == "none"):
        raise InputError("--vector_noise and --negative_words need --bank FILE, and a guidance with text.")
    if data_arguments.streaming and (data_arguments.repeat_rare or run_arguments.class_weights != "none"):
        raise InputError(
            "--repeat_rare and --class_weights read the training masks first, which --streaming true has not; leave "
            "them out."
        )
    precision = run_arguments.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")
    if precision == "fp16" and surely_none():
        raise InputError(NO_FP16)
    small = run_arguments.batch_size == 1 and max(data_arguments.crop_size) <= 32
    if small and run_arguments.batch_norm != "frozen":
        raise InputError(
            f"one crop of {data_arguments.crop_size} pixels has a single value a channel at stride 32, which no batch "
            "statistics can be made of; give --batch_size 2, a larger --crop_size, or --batch_norm frozen."
        )
    for source in data_arguments.data:
        check_source_exists(source)
    if model_arguments.start_from is not None and not Path(model_arguments.start_from).expanduser().exists():
        check_at_hand(model_arguments.start_from)
    if model_arguments.start_from is None and not run_arguments.resume:
        check_weights_at_hand(model_arguments.model or DEFAULT_PRESET, model_arguments.backbone_weights)
