"""The presets of configuration/models: one small YAML per network that LClipSeg is built for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lclipseg.console.errors import InputError
from lclipseg.console.hub import check_cached
from lclipseg.console.nearest import nearest
from lclipseg.console.paths import configuration

if TYPE_CHECKING:
    from modeling_lclipseg import LClipSegConfig

FOLDER = configuration("models")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preset:
    """
    A network before training.

    Args:
        name (`str`): File stem, for example `"lclipseg-mbv3"`.
        config (`dict`): Arguments of [`LClipSegConfig`], backbone included.
        backbone_weights (`str`): Name on the Hub of the weights that the backbone starts from.
        licence (`str`): Licence of those weights.
        image_mean, image_std (`tuple[float, float, float]`): Normalisation that those weights were trained with,
            for colours scaled to [0, 1].
    """

    name: str
    config: dict[str, Any]
    backbone_weights: str
    licence: str
    image_mean: tuple[float, ...] = field(default=IMAGENET_MEAN)
    image_std: tuple[float, ...] = field(default=IMAGENET_STD)

    @property
    def image_size(self) -> int | None:
        """Height and width that the backbone is built for, in pixels; `None` where any size will do."""
        return (self.config.get("backbone_kwargs") or {}).get("img_size")

    def build_config(self, **overrides: Any) -> "LClipSegConfig":
        """The configuration, with `overrides` winning over the preset's own fields."""
        from modeling_lclipseg import LClipSegConfig  # names of presets are checked before it is imported

        return LClipSegConfig(**{**self.config, **overrides})


def preset_names() -> list[str]:
    """Names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_file(name: str) -> Path:
    """
    The file of a preset, given its name or the file. It imports nothing heavy.

    Raises:
        [`InputError`]: there is none of that name; the nearest, by its own name or its backbone's, is suggested.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = {preset: preset for preset in preset_names()}
        backbones = {_backbone(FOLDER / f"{preset}.yaml"): preset for preset in reversed(preset_names())}
        near = nearest(name, {**backbones, **names}, cutoff=0.5)
        hint = f" Did you mean {({**backbones, **names})[near]!r}?" if near else ""
        raise InputError(f"no preset {name!r}; there are {', '.join(preset_names())}, or a YAML file.{hint}")
    return path


def check_weights_at_hand(preset: str, given: str | None) -> None:
    """
    Whether a backbone's pretrained weights can be had, before torch is imported to load them.

    Raises:
        [`InputError`]: they are on the Hub, which cannot be reached, and not in its cache.
    """
    content = {} if given else yaml.safe_load(preset_file(preset).read_text(encoding="utf-8"))
    name = str(given or (content.get("backbone_weights") if isinstance(content, dict) else ""))
    if "/" not in name or Path(name).expanduser().exists() or name.endswith(".safetensors"):
        return
    try:
        check_cached(name, "config.json")
    except InputError as error:
        raise InputError(
            f"backbone weights: {error}. Or give --start_from a checkpoint that is here, --backbone_weights "
            "FILE.safetensors, or 'none' to start from random weights"
        ) from error


def _backbone(path: Path) -> str:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    nested = config.get("backbone_config") or {}
    return str(config.get("backbone") or nested.get("backbone") or nested.get("model_type"))


def load_preset(name: str) -> Preset:
    """
    Read a preset by its name, or from a YAML file of the same form.

    Raises:
        [`InputError`]: there is none of that name (the nearest is suggested), or the file has other fields.
    """
    path = preset_file(name)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        fields: dict[str, Any] = {
            key: tuple(value) if key.startswith("image_") else value for key, value in values.items()
        }
        return Preset(name=path.stem, **fields)
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a preset: {error}") from error
