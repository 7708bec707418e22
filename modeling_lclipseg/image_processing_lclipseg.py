"""Images to padded batches."""

import difflib
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType

from .code_lclipseg import NamesItsCode
from .inputs_lclipseg import flatten_images, to_image_array, to_mask
from .opening_lclipseg import open_image, open_url
from .post_processing_lclipseg import SemanticPostProcessing
from .sizing_lclipseg import Sizing

# What preprocessor_config.json holds besides settings.
OF_FILES = ("image_processor_type", "feature_extractor_type", "processor_class", "auto_map")


def to_image_tensor(
    image: ImageInput, convert_rgb: bool = True, input_data_format: str | ChannelDimension | None = None
) -> torch.Tensor:
    """The array (C, H, W) of [`to_image_array`] as a tensor, on the device of a tensor that was given."""
    values = torch.from_numpy(to_image_array(image, convert_rgb, input_data_format))
    return values.to(image.device) if isinstance(image, torch.Tensor) else values


class LClipSegImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    pad_size_divisor (`int`, *optional*, defaults to `self.pad_size_divisor`):
        Height and width of the batch are padded up to a multiple of this.
    ignore_index (`int`, *optional*, defaults to `self.ignore_index`):
        Label of the pixels that count in no loss and no measure: the padding gets it.
    do_reduce_labels (`bool`, *optional*, defaults to `self.do_reduce_labels`):
        For data sets whose id 0 means "unlabelled" (ADE20K): 0 becomes `ignore_index`, every other id is lowered by 1.
        Only for masks as the data set has them; applied twice it shifts all classes.
    """

    pad_size_divisor: int | None
    ignore_index: int | None
    do_reduce_labels: bool | None


SETTINGS = LClipSegImageProcessorKwargs.__required_keys__ | LClipSegImageProcessorKwargs.__optional_keys__


class LClipSegImageProcessor(NamesItsCode, SemanticPostProcessing, TorchvisionBackend):
    """
    Prepares images (and masks) for LClipSeg, and turns its logits into label maps.

    An image keeps its aspect ratio, unless `size` gives both sides: it is scaled by one factor, and padded at the
    bottom and right with the mean colour. The network sees the padding, near the edges and in what it takes from the
    whole image: an image gives the same logits in every batch that is padded to one size, but other ones beside a
    larger image.

    What may be given as an image or mask, and how it is read, stands at the top of inputs_lclipseg.py.

    Args:
        do_resize (`bool`, *optional*, defaults to `True`): `False` keeps the size of the image.
        size (`dict[str, int]`, *optional*, defaults to `{"shortest_edge": 512, "longest_edge": 2048}`):
            The shorter side is scaled to `shortest_edge`, or less where the longer one would exceed `longest_edge`.
            Either key may be left out. `{"height", "width"}` stretches every image to this size.
        do_pad (`bool`, *optional*, defaults to `True`): Whether to pad. Without it a batch needs images of one size.
        pad_size (`dict[str, int]`, *optional*):
            A fixed `{"height", "width"}` to pad to. By default it is the largest height and width of the batch.
        pad_size_divisor (`int`, *optional*, defaults to 32): See [`LClipSegImageProcessorKwargs`].
        ignore_index (`int`, *optional*, defaults to 255): See [`LClipSegImageProcessorKwargs`].
        do_reduce_labels (`bool`, *optional*, defaults to `False`): See [`LClipSegImageProcessorKwargs`].
        resample, do_rescale, rescale_factor, do_normalize, image_mean, image_std, do_convert_rgb, device:
            As in every image processor of transformers. Mean and standard deviation are ImageNet's by default.

    Raises:
        ValueError: `size` in another form, sizes or a divisor below 1, `do_center_crop`, or a name that is no setting.
    """

    valid_kwargs = LClipSegImageProcessorKwargs
    model_input_names = ["pixel_values"]
    do_convert_rgb = True
    do_resize = True
    size: Any = {"shortest_edge": 512, "longest_edge": 2048}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    do_pad = True
    pad_size: Any = None
    pad_size_divisor = 32
    ignore_index = 255
    do_reduce_labels = False

    def __init__(self, **kwargs: Unpack[LClipSegImageProcessorKwargs]):
        settings = _settings(kwargs)
        unknown = sorted(set(settings) - SETTINGS - set(OF_FILES))
        if unknown:
            raise ValueError(
                f"An image processor has no setting `{unknown[0]}`; allowed: {', '.join(sorted(SETTINGS))}."
            )
        super().__init__(**settings)  # type: ignore[misc]

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        return super().from_dict(_settings(image_processor_dict), **_settings(kwargs))

    @property
    def sizing(self) -> Sizing:
        """The rule for sizes; pre- and post-processing both ask it."""
        return Sizing.from_settings(
            do_resize=self.do_resize,
            size=self.size,
            do_pad=self.do_pad,
            pad_size=self.pad_size,
            pad_size_divisor=self.pad_size_divisor,
        )

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        **kwargs: Unpack[LClipSegImageProcessorKwargs],
    ) -> BatchFeature:
        r"""
        Args:
            images (`ImageInput`):
                One image or a list: PIL images of any mode, arrays, tensors, paths or URLs; sizes may differ.
            segmentation_maps (`ImageInput`, *optional*):
                The mask of each image, of the same height and width.

        Returns:
            [`BatchFeature`]: `pixel_values` of shape `(batch_size, 3, height, width)` and, with masks, `labels` of
            shape `(batch_size, height, width)`, int64.

        Raises:
            ValueError: no images, an image or mask that cannot be used, another number of masks than of images, or a
                mask of another size than its image.
        """
        return super().preprocess(images, segmentation_maps, **kwargs)

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Read what is given as a path or URL; images pass through."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(entry) for entry in image_url_or_urls]
        if isinstance(image_url_or_urls, str) and image_url_or_urls.startswith(("http://", "https://")):
            return open_url(image_url_or_urls)
        if isinstance(image_url_or_urls, (str, PathLike)):
            return open_image(image_url_or_urls)
        return image_url_or_urls

    def process_image(  # type: ignore[misc]
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: str | torch.device | None = None,
        **kwargs: Unpack[ImagesKwargs],
    ) -> torch.Tensor:
        """One image as (C, H, W): uint8, or float32 in [0, 1] where it was given so."""
        # Only an explicit False keeps the channels: a checkpoint that says nothing means images.
        tensor = to_image_tensor(image, convert_rgb=do_convert_rgb is not False, input_data_format=input_data_format)
        return tensor if device is None else tensor.to(device)

    def _prepare_images_structure(self, images: ImageInput, expected_ndims: int = 3) -> list[Any]:
        # A grey image may come without a channel dimension; a mask always does.
        return flatten_images(self.fetch_images(images), max_ndim=expected_ndims)

    def _preprocess_image_like_inputs(  # type: ignore[override]
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None,
        do_convert_rgb: bool | None,
        input_data_format: str | ChannelDimension | None,
        return_tensors: str | TensorType | None,
        device: str | torch.device | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        prepared = self._prepare_image_like_inputs(
            images=images, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, device=device
        )
        if not prepared:
            raise ValueError("There are no images: `images` is empty; give at least one.")
        data = {"pixel_values": self._preprocess(prepared, **kwargs)}
        if segmentation_maps is not None:
            masks = self._prepare_masks(segmentation_maps, prepared, kwargs["ignore_index"])
            data["labels"] = self._preprocess_masks(masks, **kwargs)
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _prepare_masks(
        self, segmentation_maps: ImageInput, images: Sequence[torch.Tensor], ignore_index: int
    ) -> list[torch.Tensor]:
        """Masks as (1, H, W) int64, each checked against its image."""
        masks = self._prepare_images_structure(segmentation_maps, expected_ndims=2)
        if len(masks) != len(images):
            raise ValueError(f"There are {len(images)} images but {len(masks)} segmentation maps; give one for each.")
        tensors = []
        for index, (mask, image) in enumerate(zip(masks, images, strict=True)):
            ids = torch.from_numpy(to_mask(mask, ignore_index))
            if ids.shape != image.shape[-2:]:
                given, expected = tuple(ids.shape), tuple(image.shape[-2:])
                turned = given == expected[::-1]
                raise ValueError(
                    f"segmentation_maps[{index}] has height and width {given}, but its image has {expected}; they "
                    f"must be the same."
                    f"{' Is the photo turned by its EXIF orientation, and the mask not?' if turned else ''}"
                )
            tensors.append(ids[None].to(image.device, torch.int64))
        return tensors

    def _preprocess(  # type: ignore[override]
        self,
        images: list[torch.Tensor],
        resample: PILImageResampling | InterpolationMode | int | None,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | list[float],
        image_std: float | list[float],
        **kwargs: Any,
    ) -> list[torch.Tensor]:
        sizing = Sizing.from_settings(**kwargs)
        normalized = [
            self.rescale_and_normalize(
                # Float images lie in [0, 1]: brought to the scale of 8-bit ones, no factor is applied twice.
                image * 255 if do_rescale and image.is_floating_point() else image,
                do_rescale,
                rescale_factor,
                do_normalize,
                image_mean,
                image_std,
            )
            for image in self._resize_all(images, sizing, resample)
        ]
        return _pad_all(normalized, sizing, fill=0)  # after normalisation, 0 is the mean colour

    def _preprocess_masks(
        self, masks: list[torch.Tensor], do_reduce_labels: bool, ignore_index: int, **kwargs: Any
    ) -> list[torch.Tensor]:
        sizing = Sizing.from_settings(**kwargs)
        if do_reduce_labels:
            masks = [
                torch.where((mask == 0) | (mask == ignore_index), ignore_index, mask - 1) for mask in masks
            ]  # fmt: skip
        resized = self._resize_all(masks, sizing, InterpolationMode.NEAREST_EXACT)
        return [mask[0] for mask in _pad_all(resized, sizing, fill=ignore_index)]

    def _resize_all(self, images: list[torch.Tensor], sizing: Sizing, resample: Any) -> list[torch.Tensor]:
        resized = []
        for image in images:
            height, width = sizing.resized(image.shape[-2], image.shape[-1])
            unchanged = (height, width) == tuple(image.shape[-2:])
            resized.append(image if unchanged else self.resize(image, SizeDict(height=height, width=width), resample))
        return resized

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Also checks what the base class does not, at construction and at every call."""
        kwargs = super()._standardize_kwargs(**kwargs)
        if kwargs.get("do_center_crop"):
            raise ValueError("`do_center_crop` would cut off parts of the image, which then get no label; leave it.")
        Sizing.from_settings(**kwargs)
        return kwargs


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """As they are called here; a ValueError for a slip in a name, which transformers would leave without effect."""
    settings = {"do_reduce_labels" if name == "reduce_labels" else name: value for name, value in given.items()}
    for name in settings.keys() - SETTINGS - set(OF_FILES):
        nearest = difflib.get_close_matches(name, SETTINGS, 1, cutoff=0.8)
        if nearest:
            raise ValueError(f"An image processor has no setting `{name}`; did you mean `{nearest[0]}`?")
    return settings


def _pad_all(images: list[torch.Tensor], sizing: Sizing, fill: int) -> list[torch.Tensor]:
    height, width = sizing.padded([(image.shape[-2], image.shape[-1]) for image in images])
    return [
        tvF.pad(
            image, [0, 0, width - image.shape[-1], height - image.shape[-2]], fill=fill
        )  # left, top, right, bottom
        for image in images
    ]


__all__ = ["LClipSegImageProcessor", "LClipSegImageProcessorKwargs", "to_image_tensor"]
