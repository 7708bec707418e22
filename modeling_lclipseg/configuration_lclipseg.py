"""LClipSeg's configuration: which backbone, which guidance, where class embeddings come from."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, Self

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig, PreTrainedConfig
from transformers.models.auto import CONFIG_MAPPING, AutoConfig

from .class_embeddings_lclipseg import check_class_names, check_prompt_templates
from .code_lclipseg import NamesItsCode

GUIDANCES = ("fusion", "lseg", "denseclip", "none")
# What would have timm load weights, from a pickle or the web, while a model is built.
LOADING_ARGUMENTS = ("pretrained", "checkpoint_path", "cache_dir")
CLASS_FIELDS = ("num_labels", "id2label", "label2id")  # one thing under three names
DEFAULT_BACKBONE = {"model_type": "timm_backbone", "backbone": "mobilenetv3_large_100", "out_indices": [1, 2, 3, 4]}


@strict
class LClipSegConfig(NamesItsCode, PreTrainedConfig):
    r"""
    Configuration of [`LClipSegForSemanticSegmentation`]. Every field is checked for its type, and their combination
    for sense, when the configuration is built.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*, defaults to timm's MobileNetV3-large):
            Any backbone that [`AutoBackbone`] builds and that gives four feature maps at strides 4, 8, 16 and 32.
        backbone_kwargs (`dict`, *optional*):
            Arguments of `timm.create_model` that `TimmBackboneConfig` has no field for, for example
            `{"img_size": [512, 512]}` for backbones built for one image size. None that loads weights.
        text_config (`dict` or `CLIPTextConfig`, *optional*):
            The CLIP text tower inside this checkpoint; `None` (default) for a checkpoint without one, which segments
            into the class embeddings that it stores.
        text_model_name_or_path (`str`, *optional*, defaults to `"openai/clip-vit-base-patch16"`):
            The tower whose space the class embeddings live in, and where it and its tokenizer are loaded from when
            words without a vector are asked for.
        class_embed_dim (`int`, *optional*, defaults to 512):
            Width D of a class embedding (CLIP's projection width).
        guidance (`str`, *optional*, defaults to `"fusion"`):
            `"fusion"`: class embeddings compared with the image at a coarse and at a fine map, and fused with it in
            `num_fusion_layers` two-way blocks. Then, on the same backbone and decoder:
            `"lseg"`: pixel embeddings compared with the class embeddings, as LSeg does. `"denseclip"`: DenseCLIP's
            context-aware prompting, for a fixed class list. `"none"`: a plain per-pixel classifier, without text.
        hidden_size (`int`, *optional*, defaults to 128):
            Width d of the coarse map and the class tokens in the fusion module.
        num_fusion_layers (`int`, *optional*, defaults to 0):
            Number L of two-way blocks, each with both branches and both directions of the bridge. With 0, classes
            and image meet in two similarities, coarse and fine, and nothing crosses before them.
        num_attention_heads (`int`, *optional*, defaults to 4):
            Heads of the attention among class tokens in a two-way block; must divide `hidden_size`.
        fusion_stride (`int`, *optional*, defaults to 16):
            Stride of the coarse map at which image and text meet, 16 or 32.
        decoder_hidden_size (`int`, *optional*, defaults to 96):
            Width c of the decoder and of the pixel embeddings that are compared with the class tokens.
        trained_classes (`list[str]`, *optional*):
            The classes that the weights were trained on, where they are not those of `id2label`; the checkpoint then
            stores their embeddings too. `set_classes` writes this field.
        prompt_templates (`list[str]`, *optional*, defaults to `["a photo of a {}"]`):
            Sentences that a class name is put into before it is embedded; their vectors are averaged.
        logit_scale_init_value (`float`, *optional*, defaults to log(1 / 0.07)):
            Natural logarithm of the initial scale of the cosine logits. It is learned and clamped at log(100).
        auxiliary_loss_weight (`float`, *optional*, defaults to 0.4):
            Weight of the cross-entropy of the coarse score map; 0 switches it off.
        semantic_loss_ignore_index (`int`, *optional*, defaults to 255):
            Label value that the loss leaves out.

    Example:

    ```python
    >>> from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation

    >>> config = LClipSegConfig(id2label={0: "sky", 1: "road"})
    >>> model = LClipSegForSemanticSegmentation(config)
    ```"""

    model_type = "lclipseg"
    sub_configs = {"text_config": CLIPTextConfig, "backbone_config": AutoConfig}

    backbone_config: dict | PreTrainedConfig | None = None
    backbone_kwargs: dict | None = None
    text_config: dict | PreTrainedConfig | None = None
    text_model_name_or_path: str | None = "openai/clip-vit-base-patch16"
    class_embed_dim: int = 512
    guidance: str = "fusion"
    hidden_size: int = 128
    num_fusion_layers: int = 0
    num_attention_heads: int = 4
    fusion_stride: int = 16
    decoder_hidden_size: int = 96
    trained_classes: list[str] | None = None
    prompt_templates: list[str] | tuple[str, ...] = ("a photo of a {}",)
    logit_scale_init_value: float = math.log(1 / 0.07)
    auxiliary_loss_weight: float = 0.4
    semantic_loss_ignore_index: int = 255
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        if self.backbone_config is None:
            self.backbone_config = dict(DEFAULT_BACKBONE)
        if isinstance(self.backbone_config, dict):
            self.backbone_config = _backbone_config_from_dict(self.backbone_config)
        if isinstance(self.text_config, dict):
            self.text_config = CLIPTextConfig(**self.text_config)
        if self.text_config is not None:
            self.class_embed_dim = self.text_config.projection_dim
        self.prompt_templates = list(self.prompt_templates)
        num_labels = kwargs.get("num_labels")
        if self.id2label is not None and num_labels not in (None, len(self.id2label)):
            raise ValueError(
                f"`num_labels` is {num_labels} but `id2label` names {len(self.id2label)} classes; leave `num_labels` "
                "out, `id2label` alone decides."
            )
        label2id, self.label2id = self.label2id, None
        if self.id2label is None and label2id:
            self.id2label = {int(index): name for name, index in label2id.items()}
        _check_names(name for name in kwargs if not hasattr(type(self), name))
        super().__post_init__(**kwargs)
        if label2id and {name: int(index) for name, index in label2id.items()} != self.label2id:
            raise ValueError(
                f"`label2id` is {label2id}, but `id2label` is {self.id2label}; leave `label2id` out, `id2label` alone "
                "decides."
            )

    def __setattr__(self, name: str, value: Any):
        if name == "id2label" and value is not None:  # json.load gives the ids as text, of which '10' is before '2'
            value = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
            value = {index: value[key] for index, key in sorted((int(key), key) for key in value)}
            super().__setattr__("label2id", {label: index for index, label in value.items()})
        super().__setattr__(name, value)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As transformers does, but with classes among the `kwargs`, those of `config_dict` are gone altogether."""
        given = {name: kwargs.pop(name) for name in CLASS_FIELDS if kwargs.get(name) is not None}
        if given and (len(given) > 1 or given.get("num_labels") != len(config_dict.get("id2label") or ())):
            kept = {name: value for name, value in config_dict.items() if name not in CLASS_FIELDS}
            config_dict = {**kept, **given}
        return super().from_dict(config_dict, **kwargs)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of their indices."""
        id2label: dict = self.id2label or {}
        return [id2label[index] for index in sorted(id2label)]

    def validate_guidance(self):
        if self.guidance not in GUIDANCES:
            raise ValueError(f"`guidance` is {self.guidance!r}; allowed: {', '.join(map(repr, GUIDANCES))}.")

    def validate_backbone(self):
        name = str(getattr(self.backbone_config, "backbone", None))
        if ":" in name:
            raise ValueError(
                f"`backbone_config['backbone']` is {name!r}, which would be fetched from elsewhere; give the name of "
                "an architecture of timm, for example 'mobilenetv3_large_100'."
            )
        loading = [name for name in self.backbone_kwargs or {} if name.startswith(LOADING_ARGUMENTS)]
        if loading:
            raise ValueError(
                f"`backbone_kwargs` has {', '.join(map(repr, loading))}, which would load other weights than the "
                "checkpoint's own; leave it out."
            )

    def validate_fusion(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) is not a multiple of `num_attention_heads` "
                f"({self.num_attention_heads})."
            )
        if self.fusion_stride not in (16, 32):
            raise ValueError(f"`fusion_stride` is {self.fusion_stride}; allowed: 16 or 32.")
        if self.num_fusion_layers < 0:
            raise ValueError(f"`num_fusion_layers` is {self.num_fusion_layers}; it must not be negative.")

    def validate_prompt_templates(self):
        check_prompt_templates(self.prompt_templates)

    def validate_classes(self):
        indices = sorted(self.id2label or {})
        if indices != list(range(len(indices))):
            raise ValueError(
                f"`id2label` must number the classes 0 to {len(indices) - 1}, but has the keys {indices}."
            )
        check_class_names(self.class_names)
        if self.trained_classes is not None:
            check_class_names(self.trained_classes)
        if 0 <= self.semantic_loss_ignore_index < len(indices):
            raise ValueError(
                f"`semantic_loss_ignore_index` is {self.semantic_loss_ignore_index}, which is the class "
                f"{self.class_names[self.semantic_loss_ignore_index]!r}; choose a number outside 0 to "
                f"{len(indices) - 1}, such as 255 or -100."
            )


def _check_names(given: Iterable[str]) -> None:
    """transformers keeps what it does not know, so that a field with a slip in its name would change nothing."""
    for name in given:
        nearest = difflib.get_close_matches(name, LClipSegConfig.__dataclass_fields__, 1, cutoff=0.8)
        if nearest:
            raise ValueError(f"The configuration has no field `{name}`; did you mean `{nearest[0]}`?")


def _backbone_config_from_dict(backbone_config: dict) -> PreTrainedConfig:
    model_type = str(backbone_config.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"`backbone_config['model_type']` is {model_type!r}; give 'timm_backbone' (with 'backbone' naming a timm "
            "model) or the model type of a transformers backbone, for example 'resnet' or 'swin'."
        )
    return CONFIG_MAPPING[model_type].from_dict(backbone_config)


__all__ = ["LClipSegConfig"]
