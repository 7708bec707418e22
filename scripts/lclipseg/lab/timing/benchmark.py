"""Time LClipSeg against what users would pick instead: an image in, the class of every pixel out; or a training step;
or the parts of one network against what the machine allows; or the label map alone; or steps by number of classes; or
the stages of a video.

    python scripts/benchmark.py predict --threads 2
    python scripts/benchmark.py predict --models lclipseg-mbv3s yolo26n-sem --classes 19 --size 1024
    python scripts/benchmark.py parts --models lclipseg-mbv3 --classes 150
    python scripts/benchmark.py label-map
    python scripts/benchmark.py steps --models lclipseg-mbv3s --classes 11 36 150 --batch_sizes 1 8 --size 256
    python scripts/benchmark.py video --models exported --size 288 --rounds 240    # made by export --label_map
    python scripts/benchmark.py train --data data/camvid --models lclipseg-mbv3s segformer-b0 --size 256

Networks of segmentation_models.pytorch and ultralytics (`smp-...`, `yolo26n-sem`) take part where these are installed;
`NAME:channels-last` runs one of another library in that layout. Contestants take turns in one process. A number is the
median over rounds with its quartiles; a ratio is the median of the rounds' own ratios with a 95 % interval. Writes
OUT/benchmark-MODE.json and .md, and a plot of predictions; those at another size than 512 have it in their names.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from rich.console import Console

from lclipseg.console import arguments, environment
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command
from lclipseg.console.paths import project
from lclipseg.lab.timing.contestant import Contestant, Setting
from lclipseg.lab.timing.contestants import ON_CPU, build_contestant
from lclipseg.lab.timing.floor import measure_rates, part_costs
from lclipseg.lab.timing.label_map_speed import label_map_rows
from lclipseg.lab.timing.peak_memory import peak_memory
from lclipseg.lab.timing.realistic_logits import RealisticLogits
from lclipseg.lab.timing.report import (
    PartsRow,
    PredictRow,
    TrainRow,
    label_map_markdown,
    parts_markdown,
    predict_markdown,
    save_plot,
    steps_markdown,
    train_markdown,
    video_markdown,
)
from lclipseg.lab.timing.step_speed import step_rows
from lclipseg.lab.timing.stopwatch import Ratio, Stopwatch, Timing, in_turns
from lclipseg.lab.timing.train_speed import train_speed
from lclipseg.lab.timing.video_speed import video_rows
from lclipseg.networks.export_record import ExportRecord
from modeling_lclipseg import LClipSegForSemanticSegmentation

logger = logging.getLogger("lclipseg")

PREDICT_MODELS = [
    "lclipseg-mbv3",
    "lclipseg-mbv3:none",
    "lclipseg-mbv3:unfolded",
    "lclipseg-mbv3:none-unfolded",
    "lclipseg-mbv3:onnx",
    "lclipseg-mbv3:int8",
    "lclipseg-mbv3s",
    "lclipseg-mbv3s:none",
    "lclipseg-mbv3s:two-blocks",
    "lraspp-mobilenet-v3",
    "segformer-b0",
    "deeplabv3-mobilevit-small",
    "deeplabv3-mobilenet-v2",
    "clipseg",
    "clipseg-once",
]
PARTS_MODELS = ["lclipseg-mbv3", "lclipseg-mbv3s"]
TRAIN_MODELS = ["lclipseg-mbv3", "segformer-b0"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class BenchmarkArguments:
    models: list[str] | None = field(
        default=None,
        metadata={
            "help": "Contestants: PRESET, PRESET:VARIANT or a peer (a wrong name lists them). Ratios are to the first."
        },
    )
    classes: list[int] = field(default_factory=lambda: [11, 19, 150], metadata={"help": "Numbers of classes."})
    size: int = field(default=512, metadata={"help": "Height and width of the image (or crop) in pixels."})
    image: str = field(
        default=str(project("docs", "demo", "street.jpg")), metadata={"help": "A photograph, brought to that size."}
    )
    checkpoint: str = field(
        default=str(project("checkpoints", "lclipseg-mbv3s-camvid")),
        metadata={"help": "What segments it, for realistic logits."},
    )
    rounds: int = field(default=15, metadata={"help": "Timed rounds (predict) or steps (train)."})
    warm_up: int = field(default=3, metadata={"help": "Rounds or steps before that."})
    patience: float = field(
        default=60.0, metadata={"help": "Seconds after which a slow contestant has had its turns."}
    )
    threads: int = field(default=2, metadata={"help": "Threads of torch."})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda."})
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "Of the networks."})
    memory: bool = field(default=True, metadata={"help": "predict: measure memory too, in a process each."})
    compile: bool = field(default=False, metadata={"help": "Put the networks through torch.compile."})
    data: str | None = field(default=None, metadata={"help": "train: the data set, as `lclipseg train` takes it."})
    batch_size: int = field(default=8, metadata={"help": "train: images a step."})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8], metadata={"help": "steps: images a step."})
    num_workers: int = field(default=0, metadata={"help": "train: processes that read and augment."})
    cache: bool = field(default=False, metadata={"help": "train: keep decoded images in memory."})
    cache_on_device: bool = field(default=False, metadata={"help": "train: keep and augment them on the device."})
    out: str = field(default="docs/results", metadata={"help": "Folder for the results."})

    def __post_init__(self) -> None:
        if self.rounds < 2 or self.warm_up < 0 or self.threads < 1 or self.size < 32:
            raise InputError("allowed: --rounds from 2, --warm_up from 0, --threads from 1, --size from 32.")
        if min(self.classes) < 1 or min(self.batch_sizes) < 1:
            raise InputError("allowed: --classes and --batch_sizes from 1.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch sees no such device; use --device cpu.")

    @property
    def is_plain(self) -> bool:
        """Whether onnxruntime can take part."""
        return self.device == "cpu" and self.dtype == "float32" and not self.compile


def predict(args: BenchmarkArguments) -> None:
    """Time all contestants from the image to the label map, and write what came out."""
    image = _image(args)
    realistic = RealisticLogits.of(args.checkpoint, image)
    names = args.models or [name for name in PREDICT_MODELS if args.is_plain or not name.endswith(ON_CPU)]
    rows: list[PredictRow] = []
    for num_classes in args.classes:
        setting = Setting(num_classes, args.size, torch.device(args.device), DTYPES[args.dtype], args.compile)
        contestants = {name: build_contestant(name, setting) for name in names}
        with torch.inference_mode(), Console(stderr=True).status("") as status:

            def show(name: str, num_classes: int = num_classes) -> None:
                status.update(f"{num_classes} classes: {name}")

            times = in_turns(
                {name: partial(_predict_once, one, image, realistic) for name, one in contestants.items()},
                args.rounds,
                args.warm_up,
                args.patience,
                show,
            )
        totals = {name: [sum(stages[:3]) for stages in of_one] for name, of_one in times.items()}
        of_first = times[names[0]]
        for name, contestant in contestants.items():
            stages = list(zip(*times[name], strict=True))  # of each its rounds
            prepare, forward, label, processor = map(Timing.of, stages)
            rows.append(
                PredictRow(
                    model=name,
                    num_classes=num_classes,
                    parameters=contestant.parameters,
                    input_size=contestant.input_size(image),
                    prepare_ms=prepare,
                    forward_ms=forward,
                    label_map_ms=label,
                    total_ms=Timing.of(totals[name]),
                    processor_ms=processor,
                    total_ratio=Ratio.of(totals[name], totals[names[0]]),
                    forward_ratio=Ratio.of(stages[1], [stages[1] for stages in of_first]),
                    processor_ratio=Ratio.of(stages[3], [stages[3] for stages in of_first]),
                    memory_mb=peak_memory(name, setting) if args.memory and args.device == "cpu" else None,
                )
            )
            print(f"{num_classes} classes, {name}: {rows[-1].total_ms.median:.1f} ms")
        del contestants
    content = {**_circumstances(args), "unsettled_share": realistic.unsettled_share, "rows": [asdict(r) for r in rows]}
    record = "predict" if args.size == BenchmarkArguments.size else f"predict-{args.size}"
    _write(args, record, content, predict_markdown(content, rows))
    save_plot(rows, Path(args.out) / f"benchmark-{record}.png")


def _predict_once(
    contestant: Contestant, image: Image.Image, realistic: RealisticLogits
) -> tuple[float, float, float, float]:
    """
    Milliseconds of the three stages, and of the processor in all three. The label map is that of realistic logits:
    noise has no regions.
    """
    device = contestant.setting.device
    with Stopwatch(device) as prepare:
        pixel_values = contestant.prepare(image)
    with Stopwatch(device) as forward:
        logits = contestant.forward(pixel_values)
    logits.copy_(realistic.like(logits))
    with Stopwatch(device) as label:
        contestant.label(logits)
    processor = sum(watch.processor for watch in (prepare, forward, label))
    return prepare.milliseconds, forward.milliseconds, label.milliseconds, processor


def train(args: BenchmarkArguments) -> None:
    """Time the training steps of all contestants in the same loop, over the same data."""
    if args.data is None:
        raise InputError("train needs --data, a data set as `lclipseg train` takes it.")
    rows: list[TrainRow] = []
    for name in args.models or TRAIN_MODELS:
        rows.append(
            train_speed(
                name,
                args.data,
                size=args.size,
                batch_size=args.batch_size,
                num_workers=args.num_workers,
                cache=args.cache,
                cache_on_device=args.cache_on_device,
                steps=args.rounds,
                warm_up=args.warm_up,
                device=torch.device(args.device),
                dtype=DTYPES[args.dtype],
            )
        )
        print(f"{name}: {rows[-1].images_per_second:.1f} images/s, data {rows[-1].data_share:.1%}")
    content = {**_circumstances(args), "rows": [asdict(row) for row in rows]}
    _write(args, "train", content, train_markdown(content, rows))


def parts(args: BenchmarkArguments) -> None:
    """Time the parts of our networks, against what the machine's arithmetic and memory allow."""
    rows: list[PartsRow] = []
    device = torch.device(args.device)
    for name in args.models or PARTS_MODELS:
        for num_classes in args.classes:
            contestant = build_contestant(name, Setting(num_classes, args.size, device, DTYPES[args.dtype]))
            pixel_values = contestant.prepare(_image(args))
            if not isinstance(contestant.model, LClipSegForSemanticSegmentation):
                raise InputError(f"parts: --models {name} is none of our networks in torch; give a PRESET.")
            rates = measure_rates(device, DTYPES[args.dtype])
            rows.append(PartsRow(name, num_classes, rates, part_costs(contestant.model, pixel_values, args.rounds)))
    content = {**_circumstances(args), "rows": [asdict(row) for row in rows]}
    _write(args, "parts", content, parts_markdown(content, rows))


def label_maps(args: BenchmarkArguments) -> None:
    """Time the label map alone, against enlarging all logits."""
    realistic = RealisticLogits.of(args.checkpoint, _image(args))
    rows = [
        row
        for num_classes in args.classes
        for row in label_map_rows(
            realistic, num_classes, args.size, args.rounds, args.warm_up, torch.device(args.device)
        )
    ]
    content = {**_circumstances(args), "unsettled_share": realistic.unsettled_share, "rows": [asdict(r) for r in rows]}
    _write(args, "label-map", content, label_map_markdown(content, rows))


def steps(args: BenchmarkArguments) -> None:
    """Time training steps by number of classes and batch, with the exact and with the sampled loss."""
    (model,) = args.models or ["lclipseg-mbv3s"]
    with Console(stderr=True).status("") as status:
        rows = step_rows(
            model,
            args.classes,
            args.batch_sizes,
            args.size,
            args.rounds,
            args.warm_up,
            args.patience,
            torch.device(args.device),
            status.update,
        )
    content = {**_circumstances(args), "model": model, "rows": [asdict(row) for row in rows]}
    _write(args, "steps", content, steps_markdown(content, rows))


def video(args: BenchmarkArguments) -> None:
    """Time the stages of a video through one export."""
    (model,) = args.models or ["exported"]
    try:
        image = Image.open(args.image).convert("RGB")
    except OSError as error:
        raise InputError(f"--image {args.image} cannot be read: {error}; give a photograph") from error
    rows = video_rows(model, image, args.size, args.rounds, args.threads)
    content = {**_circumstances(args), "rows": [asdict(row) for row in rows]}
    content["arguments"]["dtype"] = "int8" if ExportRecord.load(Path(model)).int8 else "float32"
    _write(args, "video", content, video_markdown(content, rows))


def _image(args: BenchmarkArguments) -> Image.Image:
    try:
        return Image.open(args.image).convert("RGB").resize((args.size, args.size))
    except OSError as error:
        raise InputError(f"--image {args.image} cannot be read: {error}; give a photograph") from error


def _circumstances(args: BenchmarkArguments) -> dict[str, Any]:
    paths = ("image", "checkpoint", "data", "out")
    return {
        "arguments": {key: value for key, value in asdict(args).items() if key not in paths},
        "machine": environment.machine(torch.device(args.device)),
        "versions": environment.versions(),
        "commit": environment.commit(),
        "date": environment.now(),
    }


def _write(args: BenchmarkArguments, mode: str, content: dict[str, Any], markdown: str) -> None:
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"benchmark-{mode}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / f"benchmark-{mode}.md").write_text(markdown, encoding="utf-8")
    logger.info(f"wrote benchmark-{mode}.json and .md to {out}")


MODES: dict[str, Callable[[BenchmarkArguments], None]] = {
    "predict": predict,
    "parts": parts,
    "label-map": label_maps,
    "train": train,
    "steps": steps,
    "video": video,
}


def main(mode: str, args: BenchmarkArguments) -> None:
    """Run one of [`MODES`]."""
    if mode not in MODES:
        raise InputError(f"{mode!r} cannot be timed; allowed: {', '.join(MODES)}.")
    if mode in ("steps", "video") and len(args.models or [""]) != 1:
        raise InputError(f"{mode}: give one {'preset' if mode == 'steps' else 'export'} by --models.")
    if args.compile and mode != "predict":
        raise InputError(f"--compile has no part in {mode!r}; leave it out.")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    MODES[mode](args)


def parse(argv: list[str] | None = None) -> tuple[str, BenchmarkArguments]:
    return arguments.parse_subject(__doc__, BenchmarkArguments, "mode", " or ".join(MODES), argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
