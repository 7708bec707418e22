"""Model cards from what was measured: nothing here is typed in by hand but the facts of card_facts.py.

Names of classes, files and data come from users, and are shown as they are: [`plain`] takes every meaning from them
that Markdown or HTML could see.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, hf_hub_url
from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_NAME

from lclipseg.console.files import read_json
from lclipseg.console.markdown import plain
from lclipseg.console.paths import checkout
from lclipseg.networks.build import config_fields
from lclipseg.networks.costs import count
from lclipseg.networks.presets import Preset
from lclipseg.prediction.metrics import percent
from lclipseg.publishing.command_line import command_line, training_command
from lclipseg.publishing.facts import FOLDER, Facts, Source, load_facts, tower_parameters
from lclipseg.publishing.run import TrainedRun
from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation

TASK = "image-segmentation"
TAGS = [TASK, "semantic-segmentation", "custom_code", "clip"]
UNKNOWN = "not recorded"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

FROM_HUB = """\
```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

# Loading runs the code of that repository. Read it, then name by its hash the commit that you have read.
source = {{"pretrained_model_name_or_path": "{repo}", "revision": "{revision}", "trust_remote_code": True}}
processor = AutoImageProcessor.from_pretrained(**source)
model = AutoModelForSemanticSegmentation.from_pretrained(**source)
image = Image.open("photo.jpg")
outputs = model(**processor(image, return_tensors="pt"))
label_map = processor.post_process_semantic_segmentation(outputs, target_sizes=[(image.height, image.width)])[0]
```

Or as a pipeline, which gives a mask for every class that it finds:

```python
from transformers import pipeline

segment = pipeline("image-segmentation", model="{repo}", revision="{revision}", trust_remote_code=True)
masks = segment("photo.jpg"{words})
```

The Hub itself runs no model with code of its own. `handler.py` serves this one on an Inference Endpoint."""

FROM_CHECKOUT = """\
```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
import modeling_lclipseg  # registers the model with the Auto classes

image, folder = Image.open("photo.jpg"), "{folder}"
processor, model = AutoImageProcessor.from_pretrained(folder), AutoModelForSemanticSegmentation.from_pretrained(folder)
outputs = model(**processor(image, return_tensors="pt"))
label_map = processor.post_process_semantic_segmentation(outputs, target_sizes=[(image.height, image.width)])[0]
```"""


@dataclass(frozen=True)
class Place:
    """
    Where a card's checkpoint is loaded from.

    Args:
        name (`str`): OWNER/NAME on the Hub, or a folder of this repository.
        revision (`str`, *optional*): The branch on the Hub; `None` for a folder.
        space (`str`, *optional*): OWNER/NAME of the Space that serves it.
    """

    name: str
    revision: str | None = None
    space: str | None = None

    @property
    def title(self) -> str:
        return self.name.rpartition("/")[2]

    def usage(self, model: LClipSegForSemanticSegmentation) -> str:
        """The lines of code that load it, in Markdown."""
        if self.revision is None:
            return FROM_CHECKOUT.format(folder=self.name)
        some = json.dumps(model.config.class_names[:3])
        words = f", candidate_labels={some}" if model.open_vocabulary else ""
        return FROM_HUB.format(repo=self.name, revision=self.revision, words=words)


def trained_card(
    run: TrainedRun, model: LClipSegForSemanticSegmentation, preset: Preset, facts: Facts, place: Place
) -> ModelCard:
    """
    The card of a trained checkpoint.

    Args:
        run ([`TrainedRun`]): The checkpoint and its results.
        model ([`LClipSegForSemanticSegmentation`]): The same, loaded.
        preset ([`Preset`]): What it was built from.
        facts ([`Facts`]): What no record holds.
        place ([`Place`]): Where it is loaded from.
    """
    record, leading = run.record, run.results[0]
    command, recipe = training_command(without_folders(run.arguments), place.title)
    on_hub = place.revision is not None
    tower = model.config.text_model_name_or_path if model.head.takes_text else None
    with_tower = tower_parameters(tower)
    count = model.num_parameters()
    fields = {
        "generator": "lclipseg publish" if on_hub else "scripts/cards.py",
        "title": place.title,
        "summary": facts.summary or _summary(run, model, facts),
        "place": "this repository" if on_hub else f"`{place.name}/` of the LClipSeg repository",
        "dtype": _dtype(run.checkpoint),
        "beside": "in this repository" if on_hub else "beside the weights",
        "facts": facts,
        "usage": place.usage(model),
        "model_name": place.name,
        "space": place.space,
        "sources": _sources(run, model, preset, facts),
        "classes": ", ".join(map(plain, model.config.class_names)),
        "command": command,
        "recipe": f"`configuration/recipes/{recipe}`" if recipe else "none: the command says all",
        "seed": record["arguments"]["seed"],
        "steps": _steps(run),
        "machine": plain(_machine(record["machine"])),
        "date": plain(record["date"][:10]),
        "versions": plain(", ".join(f"{name} {version}" for name, version in record["versions"].items())),
        "commit": plain(record.get("commit") or ""),
        "results": [_row(result, facts) for result in run.results],
        "leading": _leading(leading, facts),
        "evaluation_command": _evaluation_command(leading, place),
        "parameters": f"{count / 1e6:.2f}",
        "parameters_with_tower": with_tower and f"{(count + with_tower) / 1e6:.2f}",
        "tower": plain(tower),
        "megabytes": f"{run.weights_bytes / 1e6:.1f}",
        "cost": _cost(run, preset, model.config),
        "open_vocabulary": model.open_vocabulary,
        "num_classes": len(model.config.class_names),
    }
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        license=facts.licence,
        tags=list(TAGS),
        base_model=_base_model(run, preset, facts, tower),
        datasets=facts.datasets or None,
        metrics=["mean_iou"],
        widget=_widget(facts, place),
        model_name=place.title,
        eval_results=[result for record in run.results for result in _eval_results(record, run, facts)],
    )
    return ModelCard.from_template(data, str(FOLDER / "trained.md.jinja"), **fields)


def untrained_card(preset: Preset) -> ModelCard:
    """The card of a preset that no checkpoint here was trained from: it says so, and has no figures."""
    backbone = preset.config["backbone_config"]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=list(TAGS),
        base_model=[preset.backbone_weights] if _is_on_hub(preset.backbone_weights) else None,
    )
    return ModelCard.from_template(
        data,
        str(FOLDER / "untrained.md.jinja"),
        title=preset.name,
        backbone=backbone.get("backbone", backbone["model_type"]),
        initial_weights=preset.backbone_weights,
        licence=preset.licence,
    )


def benchmark_entries(run: TrainedRun, facts: Facts) -> list[EvalResultEntry]:
    """The leading score in the Hub's form for lists of results; none unless the data is a benchmark there."""
    if facts.benchmark is None:
        return []
    leading = run.results[0]
    return [
        EvalResultEntry(
            dataset_id=facts.benchmark["id"],
            task_id=facts.benchmark["task_id"],
            value=round(100 * leading["scores"]["mean_iou"], 2),
            date=leading["date"],
            notes=f"mean IoU in percent, split {leading['split']}, {_inference(leading['inference'])}",
        )
    ]


def without_folders(value: Any) -> Any:
    """A record without the folders of the machine that wrote it: of an absolute path, its last part is left."""
    if isinstance(value, Mapping):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    if isinstance(value, str) and (value.startswith(("/", "~", "\\\\")) or re.match(r"[A-Za-z]:[\\/]", value)):
        return re.split(r"[\\/]", value.rstrip("\\/"))[-1]
    return value


def _summary(run: TrainedRun, model: LClipSegForSemanticSegmentation, facts: Facts) -> str:
    guidance = {"none": "without text guidance"}.get(model.config.guidance, f"with {model.config.guidance} guidance")
    data = facts.name or plain(run.data_name)
    classes = len(model.config.class_names)
    return f"Semantic segmentation into {classes} classes, {guidance}, trained by LClipSeg on {data}."


def _sources(
    run: TrainedRun, model: LClipSegForSemanticSegmentation, preset: Preset, facts: Facts
) -> list[dict[str, str]]:
    found = [("training data", source) for source in _training_data(run, facts)]
    found.append(("backbone's initial weights", _initial_weights(run, preset, facts)))
    if model.head.takes_text:
        config = model.config
        prompts = ", ".join(f'"{plain(template)}"' for template in config.prompt_templates)
        tower = plain(config.text_model_name_or_path or "a tower whose name is not recorded")
        kind = run.arguments.get("vectors", "clip")
        control = "" if kind == "clip" else f"{plain(kind)} ones, for a comparison, instead of those of "
        vectors = Source(f"{control}{tower}, prompts {prompts}", UNKNOWN)
        found.append(("class embeddings", facts.class_embeddings or vectors))
    return [{"role": role, "what": source.what, "licence": source.licence} for role, source in found]


def _training_data(run: TrainedRun, facts: Facts) -> list[Source]:
    if facts.training_data is not None or len(run.data_names) == 1:
        return [facts.training_data or Source(plain(run.data_name), UNKNOWN)]
    return [load_facts(name).training_data or Source(plain(name), UNKNOWN) for name in run.data_names]


def _dtype(checkpoint: Path) -> str:
    """What most of the weights in the file are stored as, which need not be what the configuration loads them as."""
    with safe_open(checkpoint / SAFE_WEIGHTS_NAME, framework="pt") as file:
        kinds = Counter(file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118  not a dict
    kind = kinds.most_common(1)[0][0]
    return {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}.get(kind, kind)


def _initial_weights(run: TrainedRun, preset: Preset, facts: Facts) -> Source:
    given = run.arguments.get("backbone_weights") or preset.backbone_weights
    if facts.initial_weights is not None:
        return facts.initial_weights
    if given == "none":
        return Source("none: random", "–")
    return Source(plain(without_folders(given)), preset.licence if given == preset.backbone_weights else UNKNOWN)


def _base_model(run: TrainedRun, preset: Preset, facts: Facts, tower: str | None) -> list[str] | None:
    given = run.arguments.get("backbone_weights") or preset.backbone_weights
    return facts.base_model or [name for name in (given, tower) if name and _is_on_hub(name)] or None


def _is_on_hub(name: str) -> bool:
    return HUB_NAME.fullmatch(name) is not None and not name.endswith(".safetensors")


def _steps(run: TrainedRun) -> str:
    if run.progress is None:
        return str(run.record["steps"])
    best = run.progress
    return f"{run.record['steps']}; these weights are of step {best['step']}" + (
        f", val mIoU {percent(best['best_mean_iou'])}" if best["step"] == best["best_step"] else ""
    )


def _machine(machine: Mapping[str, Any]) -> str:
    if machine["gpu"]:
        return str(machine["gpu"])
    return f"{machine['processor']}, {machine['torch_threads']} of {machine['cpu_count']} cores"


def _inference(inference: Mapping[str, Any]) -> str:
    parts = [
        "whole image" if inference["mode"] == "whole" else f"sliding window of {inference['window'] or 'its size'}"
    ]
    return ", ".join([*parts, "flipped image averaged"] if inference["flip"] else parts)


def _row(result: Mapping[str, Any], facts: Facts) -> dict[str, str]:
    keys = ("mean_iou", "pixel_accuracy", "mean_accuracy")
    scores = {key: percent(result["scores"].get(key, math.nan)) for key in keys}
    unseen = "" if result.get("trained_on", True) else " (not trained on)"
    return {
        "data": f"{_data_name(result, facts)}, {plain(result['split'])}{unseen}",
        "num_images": str(result["num_images"]),
        "inference": _inference(result["inference"]),
        "date": plain(result["date"][:10]),
        **scores,
    }


def _leading(result: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    per_class = [
        (plain(name), percent(math.nan if iou is None else iou)) for name, iou in result["scores"]["per_class"].items()
    ]
    what = f"{_data_name(result, facts)} {plain(result['split'])}, {result['num_images']} images"
    return {**_row(result, facts), "what": what, "per_class": per_class}


def _data_name(result: Mapping[str, Any], facts: Facts) -> str:
    """A mix of data sets has no one name: then each result has that of its own."""
    name = Path(result["data"]).stem
    return facts.name or load_facts(name).name or plain(name)


def _evaluation_command(result: Mapping[str, Any], place: Place) -> str:
    options = {"data": without_folders(result["data"]), "split": result["split"]}
    if result.get("classes_from") == "data":
        options["classes_from"] = "data"
    options |= {name: value for name, value in result["inference"].items() if value not in (None, False, "whole")}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return command_line(["lclipseg", "evaluate", place.name, *words])


def _eval_results(result: Mapping[str, Any], run: TrainedRun, facts: Facts) -> list[EvalResult]:
    scores, inference = result["scores"], _inference(result["inference"])
    metrics = {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy"}
    return [
        EvalResult(
            task_type=TASK,
            task_name="Semantic segmentation",
            dataset_type=facts.datasets[0] if facts.datasets else Path(result["data"]).stem,
            dataset_name=facts.name or load_facts(Path(result["data"]).stem).name or Path(result["data"]).stem,
            dataset_split=result["split"],
            metric_type=metric,
            metric_name=f"{name} ({inference})",
            metric_value=round(scores[metric], 4),
        )
        for metric, name in metrics.items()
        if metric in scores
    ]


def _widget(facts: Facts, place: Place) -> list[dict[str, str]] | None:
    if place.revision is None or not facts.examples:
        return None
    return [
        {"src": hf_hub_url(place.name, example_path(path), revision=place.revision), "example_title": title}
        for path, title in facts.examples.items()
    ]


def example_path(path: str) -> str:
    """Where a published repository keeps an example image."""
    return f"examples/{Path(path).name}"


def _cost(run: TrainedRun, preset: Preset, config: LClipSegConfig) -> dict[str, str] | None:
    """What docs/results/costs.json has measured of this very network, if it has."""
    arguments = run.arguments
    root = checkout()
    records = None if root is None else root / "docs" / "results" / "costs.json"
    if records is None or not records.is_file():
        return None
    costs = read_json(records)
    num_classes = len(config.class_names)
    asked = {"backbone": preset.name, "num_classes": num_classes}
    rows = [row for row in costs["rows"] if asked.items() <= row.items()]
    if not rows:
        return None
    # By what it amounts to, since many a field of the configuration makes no other network. A run that starts from a
    # checkpoint has its number of blocks, too, which its own options need not name.
    fields: dict[str, Any] = {"guidance": run.guidance}
    if arguments.get("start_from"):
        fields["num_fusion_layers"] = config.num_fusion_layers
    fields |= config_fields(arguments.get("config") or [])
    counted = count(preset.name, fields, costs["size"], num_classes)
    row = next((row for row in rows if (row["parameters"], row["macs"]) == (counted.parameters, counted.macs)), None)
    if row is None:
        return None
    low, high = row["latency_ms_spread"]
    return {
        "size": costs["size"],
        "gmacs": f"{row['macs'] / 1e9:.2f}",
        "latency": f"{row['latency_ms']:.1f}",
        "low": f"{low:.1f}",
        "high": f"{high:.1f}",
        "machine": plain(_machine(costs["machine"])),
        "date": plain(costs["date"][:10]),
    }
