"""Image processor and tokenizer in one."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.dynamic_module_utils import custom_object_save
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack
from transformers.tokenization_utils_base import TOKENIZER_CONFIG_FILE
from transformers.utils import PROCESSOR_NAME, cached_file

from .inputs_lclipseg import to_rgb_image
from .visualization_lclipseg import draw_overlay

# What says where on the Hub a file is; the other arguments of `from_pretrained` are meant for the parts.
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")


class LClipSegProcessorKwargs(ProcessingKwargs, total=False):
    _defaults = {"text_kwargs": {"padding": True}}  # type: ignore[misc]


class LClipSegProcessor(ProcessorMixin):
    """
    [`LClipSegImageProcessor`] for images and masks, CLIP's tokenizer for class names.

    A checkpoint that stores its class embeddings needs no tokenizer, and published ones carry none: `from_pretrained`
    then gives a processor of images alone.

    Args:
        image_processor ([`LClipSegImageProcessor`]): Prepares images and masks.
        tokenizer ([`CLIPTokenizer`], *optional*): Tokenizes prompts.
    """

    valid_processor_kwargs = LClipSegProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    def check_argument_for_proper_class(self, argument_name, argument):
        """As in every processor, but that there may be no tokenizer."""
        if argument_name == "tokenizer" and argument is None:
            return None
        return super().check_argument_for_proper_class(argument_name, argument)

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls, sub_processor_type, pretrained_model_name_or_path, subfolder="", **kwargs
    ):
        # Asked for a tokenizer where there is none, transformers makes one with an empty vocabulary.
        location = {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        found = cached_file(
            pretrained_model_name_or_path,
            TOKENIZER_CONFIG_FILE,
            subfolder=subfolder,
            _raise_exceptions_for_missing_entries=False,
            **location,
        )
        if found is None:
            return None
        return super()._load_tokenizer_from_pretrained(
            sub_processor_type, pretrained_model_name_or_path, subfolder=subfolder, **kwargs
        )

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs):
        """As every processor; see [`~transformers.ProcessorMixin.save_pretrained`]."""
        if self.tokenizer is not None:
            return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        # The inherited method saves every part, and would stumble over a tokenizer that is None.
        os.makedirs(save_directory, exist_ok=True)
        for part in (self.image_processor, self):
            if part._auto_class is not None:
                configs: Any = [self.image_processor, self]
                custom_object_save(part, save_directory, config=configs)
        path = os.path.join(save_directory, PROCESSOR_NAME)
        self.to_json_file(path)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(save_directory)), **kwargs)
        return [path]

    def __call__(
        self,
        images: ImageInput | None = None,
        text: str | list[str] | None = None,
        segmentation_maps: ImageInput | None = None,
        **kwargs: Unpack[LClipSegProcessorKwargs],
    ) -> BatchFeature:
        """
        Args:
            images (`ImageInput`, *optional*): See [`LClipSegImageProcessor.preprocess`].
            text (`str` or `list[str]`, *optional*):
                One prompt per class. Prompts are padded to the longest and not cut; `truncation=True` cuts.
            segmentation_maps (`ImageInput`, *optional*): The masks of the images.

        Returns:
            [`BatchFeature`]: `pixel_values` (and `labels`) for images, `input_ids` and `attention_mask` for text.

        Raises:
            ValueError: neither images nor text, masks without images, text without a tokenizer, a prompt longer than
                the text tower can read, or an image or mask that cannot be used.
        """
        if images is None and text is None:
            raise ValueError("There is nothing to process: give `images`, `text` or both.")
        if segmentation_maps is not None and images is None:
            raise ValueError("`segmentation_maps` were given without their `images`; give both.")
        if text is not None and self.tokenizer is None:
            raise ValueError(
                "`text` was given, but this checkpoint has no tokenizer. Load that of its text tower, "
                "`tokenizer = CLIPTokenizer.from_pretrained(config.text_model_name_or_path)`, and make the processor "
                "with it: `LClipSegProcessor(processor.image_processor, tokenizer)`."
            )
        merged = self._merge_kwargs(
            LClipSegProcessorKwargs,  # type: ignore[arg-type]
            tokenizer_init_kwargs=self.tokenizer.init_kwargs if self.tokenizer is not None else {},
            **kwargs,
        )
        data: dict[str, Any] = {}
        if text is not None:
            if not merged["text_kwargs"].get("truncation"):
                self._check_prompt_lengths([text] if isinstance(text, str) else text)
            data.update(self.tokenizer(text, **merged["text_kwargs"]))
        if images is not None:
            data.update(self.image_processor(images, segmentation_maps, **merged["images_kwargs"]))
        return BatchFeature(data)

    def _check_prompt_lengths(self, prompts: Sequence[str]):
        if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError(f"`text` must be a string or a list of strings, but is {prompts!r}.")
        if not prompts:
            raise ValueError("There are no prompts: `text` is empty; give at least one.")
        limit = self.tokenizer.model_max_length
        for prompt, tokens in zip(prompts, self.tokenizer(list(prompts), verbose=False)["input_ids"], strict=True):
            if len(tokens) > limit:
                raise ValueError(
                    f"The prompt {prompt!r} has {len(tokens)} tokens, but the text tower reads at most {limit}; "
                    "shorten it, or pass truncation=True to have it cut."
                )

    def post_process_semantic_segmentation(self, *args, **kwargs):
        """See [`LClipSegImageProcessor.post_process_semantic_segmentation`]."""
        return self.image_processor.post_process_semantic_segmentation(*args, **kwargs)

    def overlay(
        self,
        image: ImageInput,
        segmentation: torch.Tensor | np.ndarray,
        id2label: Mapping[int, str],
        **kwargs: Any,
    ) -> Image.Image:
        """The image with its classes in colour and a legend; `image` may be anything that can be processed. See
        [`draw_overlay`]."""
        return draw_overlay(to_rgb_image(self.image_processor.fetch_images(image)), segmentation, id2label, **kwargs)


__all__ = ["LClipSegProcessor", "LClipSegProcessorKwargs"]
