"""Loading a checkpoint, with the classes that it has or with others to train it on."""

import copy
import os
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import logging

from .class_embeddings_lclipseg import quoted
from .configuration_lclipseg import CLASS_FIELDS, LClipSegConfig
from .folding_lclipseg import LClipSegFoldable
from .heads_lclipseg import OPEN_GUIDANCES

logger = logging.get_logger(__name__)

# What says where a checkpoint is, rather than how it is loaded.
PLACE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class LClipSegLoadable(LClipSegFoldable):
    """
    A model whose class names stay with their own vectors, whichever way `from_pretrained` is given other names:
    `num_labels`, `id2label`, `label2id`, or a configuration that has them.
    """

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        config: Any = None,
        use_safetensors: bool = True,
        **kwargs: Any,
    ) -> Any:
        """
        Load a checkpoint as transformers does, but from safetensors only: reading a pickle can run code.

        Classes other than the checkpoint's are looked up by name among all that it has vectors for, whatever their
        order and number; the rest are learned (`begin_classes`). A head that is bound to its classes needs
        `ignore_mismatched_sizes=True` for another number of them, as any classifier in transformers.

        Raises:
            ValueError: `use_safetensors=False`, or `num_labels`, `id2label` and `label2id` that contradict each other.
        """
        if not use_safetensors:
            raise ValueError("LClipSeg loads no pickles: leave `use_safetensors` out, and give a model.safetensors.")
        given = {name: kwargs.pop(name) for name in CLASS_FIELDS if kwargs.get(name) is not None}
        source = (pretrained_model_name_or_path, *args)
        if config is not None and not isinstance(config, PreTrainedConfig):
            config, kwargs = cls._config_class().from_pretrained(config, return_unused_kwargs=True, **kwargs)
        if pretrained_model_name_or_path is None or (config is None and not given):
            return super().from_pretrained(*source, config=config, use_safetensors=True, **kwargs)

        place = {name: kwargs[name] for name in PLACE if name in kwargs}
        stored = cls._config_class().from_pretrained(pretrained_model_name_or_path, **place)
        listed = stored if config is None else config
        names = cls._config_class().from_dict({"id2label": listed.id2label}, **given).class_names
        if names == stored.class_names:
            return super().from_pretrained(*source, config=config, use_safetensors=True, **kwargs)
        if config is None:
            config, kwargs = cls._config_class().from_pretrained(
                pretrained_model_name_or_path, return_unused_kwargs=True, **kwargs
            )
        kwargs["use_safetensors"] = True
        with_stored, with_names = copy.deepcopy(config), copy.deepcopy(config)
        with_stored.id2label, with_stored.trained_classes = stored.id2label, stored.trained_classes
        with_names.id2label, with_names.trained_classes = dict(enumerate(names)), None
        if config.guidance in OPEN_GUIDANCES:
            loaded = super().from_pretrained(*source, config=with_stored, **kwargs)
            _model(loaded).begin_classes(names)
            return loaded
        loaded = super().from_pretrained(*source, config=with_names, **kwargs)
        logger.warning(
            f"The classifier of {pretrained_model_name_or_path} is bound to its {stored.num_labels} classes. Train it "
            f"before use: what it kept of its weights does not stand for {quoted(names[:12])}."
        )
        if _model(loaded).head.takes_text:
            trained = _model(super().from_pretrained(*source, config=with_stored, **kwargs))
            _model(loaded).begin_classes(names, trained.trained_classes())
        return loaded

    @classmethod
    def _config_class(cls) -> Any:
        return cls.config_class or LClipSegConfig


def _model(loaded: Any) -> Any:
    """The model, without the report that `output_loading_info` adds to it."""
    return loaded[0] if isinstance(loaded, tuple) else loaded
