"""LClipSeg for semantic segmentation: backbone, class embeddings, head and loss."""

import math
from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoBackbone, CLIPTextModelWithProjection
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_lclipseg import LClipSegConfig
from .decoder_lclipseg import STRIDES
from .fusion_lclipseg import LClipSegFusionLayer, LClipSegImageToText, LClipSegTextToImage
from .heads_lclipseg import OPEN_GUIDANCES, LClipSegHead, head_class
from .loading_lclipseg import LClipSegLoadable
from .loss_lclipseg import PixelLoss, cross_entropy, draw_phase, segmentation_loss
from .outputs_lclipseg import LClipSegSemanticSegmenterOutput, record_fusion
from .padding_lclipseg import make_padding_traceable
from .vocabulary_lclipseg import LClipSegVocabulary, some


class LClipSegPreTrainedModel(LClipSegLoadable):
    """LClipSeg's terms with transformers: how weights are initialised, split, recorded and loaded."""

    config: LClipSegConfig
    base_model_prefix = "lclipseg"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    # The loss counts its pixels itself; a trainer's count of label entries would include ignored ones.
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {
        "hidden_states": LClipSegFusionLayer,
        "attentions": OutputRecorder(LClipSegImageToText, index=1),
        "text_to_image_attentions": OutputRecorder(LClipSegTextToImage, index=1),
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            # These have no normalisation behind them. At transformers' fixed deviation the logits, after two such
            # layers in a row, would begin near zero.
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif init_own_weights := getattr(module, "init_own_weights", None):
            init_own_weights()


class LClipSegForSemanticSegmentation(LClipSegVocabulary, LClipSegPreTrainedModel):
    """
    Semantic segmentation into classes given as text: a light backbone, and a head that fuses its features with one
    CLIP text vector per class.

    A checkpoint stores the embeddings of its classes (buffer `class_embeddings`, `(num_labels, class_embed_dim)`), so
    it segments into its own classes without a text tower. Other classes come per call (`class_embeddings` or
    `input_ids`) or for good ([`~LClipSegForSemanticSegmentation.set_classes`]). After the latter, the checkpoint also
    stores the classes that it was trained on (buffer `trained_embeddings`).

    CLIP's text vectors share one large common direction: cosines between different classes lie at 0.7 to 0.9. The
    model subtracts the mean vector `class_center` from the vectors of every source, and stores it with the weights, so
    training and inference cannot differ.

    Args:
        config ([`LClipSegConfig`]): The configuration. The weights are random; see `from_pretrained` for trained ones.
    """

    # Whether the loss of a training step takes one pixel of every 4x4 cell, or all of them as in eval mode.
    samples_loss: bool = True
    # What the loss sums over the pixels; a training may put another one in its place.
    pixel_loss: PixelLoss = staticmethod(cross_entropy)

    head: LClipSegHead
    text_model: CLIPTextModelWithProjection | None

    def __init__(self, config: LClipSegConfig):
        super().__init__(config)
        self.backbone = AutoBackbone.from_config(config.backbone_config, **(config.backbone_kwargs or {}))
        make_padding_traceable(self.backbone)
        self._check_backbone_strides()
        self.head = head_class(config.guidance)(config, self.backbone.channels)
        self._no_split_modules = [type(self.head).__name__]  # small, and its parts' outputs meet outside them
        self._named = config.class_names
        self.text_model = None
        if config.text_config is not None:
            self.text_model = CLIPTextModelWithProjection._from_config(config.text_config)
        if self.head.takes_text:
            self.register_buffer("class_embeddings", torch.zeros(len(config.class_names), config.class_embed_dim))
            self.register_buffer("class_center", torch.zeros(config.class_embed_dim))
            trained = config.trained_classes  # None, and no buffer in the checkpoint, where they are `class_names`
            self.register_buffer(
                "trained_embeddings", None if trained is None else torch.zeros(len(trained), config.class_embed_dim)
            )
        self.post_init()

    def init_own_weights(self):
        for name in ("class_embeddings", "class_center", "trained_embeddings"):
            if getattr(self, name, None) is not None:
                init.zeros_(getattr(self, name))

    @property
    def open_vocabulary(self) -> bool:
        return self.head.open_vocabulary

    def check_takes_classes(self, names: Sequence[str]) -> None:
        own = self.config.class_names
        if not self.open_vocabulary and not (self.head.takes_text and list(names) == own):
            raise ValueError(
                f"This checkpoint has guidance={self.config.guidance!r}: its classifier is bound to the {len(own)} "
                f"classes it was trained on ({some(own)}) and cannot take others, nor another order. Use a checkpoint "
                f"with guidance={OPEN_GUIDANCES}."
            )

    def get_input_embeddings(self) -> nn.Module:
        if self.text_model is None:
            raise NotImplementedError("This checkpoint has no text tower, so there are no input embeddings.")
        return self.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        if self.text_model is None:
            raise NotImplementedError("This checkpoint has no text tower, so there are no input embeddings.")
        self.text_model.set_input_embeddings(value)

    @merge_with_config_defaults
    @record_fusion
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        labels: torch.LongTensor | None = None,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        class_embeddings: torch.FloatTensor | None = None,
        class_mask: torch.BoolTensor | None = None,
        loss_phase: int | torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LClipSegSemanticSegmenterOutput:
        r"""
        The classes come from one place: `class_embeddings`, else `input_ids` through the text tower, else the vectors
        stored in the checkpoint.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, 3, height, width)`):
                Images as the image processor makes them. Any size from 32 pixels up.
            labels (`torch.LongTensor` of shape `(batch_size, height, width)`, *optional*):
                Class index of every pixel; `config.semantic_loss_ignore_index` is left out of the loss.
            input_ids (`torch.LongTensor` of shape `(num_classes, sequence_length)`, *optional*):
                One tokenized prompt per class, shared by all images of the batch. Needs a text tower inside.
            attention_mask (`torch.LongTensor` of shape `(num_classes, sequence_length)`, *optional*):
                1 for tokens, 0 for padding.
            class_embeddings (`torch.FloatTensor` of shape `(num_classes, class_embed_dim)`, *optional*):
                CLIP text vectors of the classes, of any length (they are normalised).
            class_mask (`torch.BoolTensor` of shape `(batch_size, num_classes)`, *optional*):
                Which classes each image competes among, in the loss and in two-way blocks. By default, all.
            loss_phase (`int` or `torch.Tensor` of shape `()`, *optional*):
                In training mode the loss is that of one pixel of every 4x4 cell, sixteen times, which is the exact
                loss in expectation: of pixel `loss_phase`, 0 to 15, or by default of one drawn by torch's generator of
                the CPU. In eval mode the loss is exact, of every pixel.

        Returns:
            [`LClipSegSemanticSegmenterOutput`]: `logits` of shape `(batch_size, num_classes, height / 4, width / 4)`,
            rounded up, `loss` where `labels` are given, and what the fusion was asked to record.

        Raises:
            ValueError: two sources of classes at once, text given to a head without text, `input_ids` without a tower,
                vectors of another width, no class embeddings at all, a backbone of other strides than 4, 8, 16, 32, or
                a `class_mask` or `loss_phase` that is none.
        """
        embeddings = self._centred_embeddings(input_ids, attention_mask, class_embeddings)
        feature_maps = self._feature_maps(pixel_values)
        logits, auxiliary_logits = self.head(feature_maps, embeddings, class_mask=class_mask, **kwargs)
        loss = None if labels is None else self._loss(logits, auxiliary_logits, labels, class_mask, loss_phase)
        return LClipSegSemanticSegmenterOutput(loss=loss, logits=logits)

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.LongTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        CLIP text vectors of tokenized prompts. The tower is frozen: no gradient reaches it, so that its vectors stay
        those of everybody's word banks.

        Args:
            input_ids (`torch.LongTensor` of shape `(num_classes, sequence_length)`): One prompt per class.
            attention_mask (`torch.LongTensor` of shape `(num_classes, sequence_length)`, *optional*): 0 for padding.

        Returns:
            [`~transformers.modeling_outputs.BaseModelOutputWithPooling`]: the vectors are its `pooler_output`, of
            shape `(num_classes, class_embed_dim)` and unit length; the rest is the tower's.

        Raises:
            ValueError: this checkpoint has no text tower.
        """
        if self.text_model is None:
            raise ValueError(
                "`input_ids` need a text tower, and this checkpoint has none. Pass `class_embeddings`, or call "
                "`set_classes(names)` once, which loads the tower from "
                f"{self.config.text_model_name_or_path!r}."
            )
        with torch.no_grad():
            outputs = self.text_model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=nn.functional.normalize(outputs.text_embeds, dim=-1),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def drop_text_model(self) -> "LClipSegForSemanticSegmentation":
        """Remove the text tower; the checkpoint keeps segmenting by its stored vectors. Returns the model itself."""
        self.text_model = None
        self.config.text_config = None
        return self

    def _weight_dtype(self) -> torch.dtype:
        # As `dtype`, but a replica of nn.DataParallel has its weights as plain attributes, and no parameters.
        found = (parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())
        return next(found, self.head.decoder.output.weight.dtype)

    def _feature_maps(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Channels last in memory, which every following layer keeps: depthwise convolutions and enlargements are then
        # several times faster on a CPU, and half-precision ones on a GPU need no transposition.
        pixel_values = pixel_values.to(self._weight_dtype(), memory_format=torch.channels_last)
        # Requests for hidden states and attentions are meant for the fusion layers; some backbones would reject them.
        feature_maps = self.backbone(pixel_values, output_hidden_states=False, output_attentions=False).feature_maps
        if not torch.compiler.is_compiling():  # a compiled or exported graph has been run once before, unlike a config
            expected = [tuple(math.ceil(side / stride) for side in pixel_values.shape[-2:]) for stride in STRIDES]
            found = [tuple(feature_map.shape[-2:]) for feature_map in feature_maps]
            if found != expected:
                raise ValueError(
                    f"For an image of {tuple(pixel_values.shape[-2:])} pixels the backbone gives maps of {found}, but "
                    f"strides {STRIDES} would give {expected}. Choose its maps by `out_indices` or `out_features`; a "
                    "network without these strides cannot be used."
                )
        return feature_maps

    def _centred_embeddings(self, input_ids, attention_mask, class_embeddings) -> torch.Tensor | None:
        """The one source of classes, as centred vectors of unit length (K, D); None for a head without text."""
        given = [
            name
            for name, value in (("input_ids", input_ids), ("class_embeddings", class_embeddings))
            if value is not None
        ]
        if given and not self.open_vocabulary:
            raise ValueError(
                f"guidance={self.config.guidance!r} takes no classes but its own, yet `{given[0]}` was given; leave "
                f"it out, or use a checkpoint with guidance={OPEN_GUIDANCES}."
            )
        if not self.head.takes_text:
            return None
        if len(given) == 2:
            raise ValueError("Classes were given twice, as `input_ids` and as `class_embeddings`; give one of them.")
        if input_ids is not None:
            class_embeddings = self.get_text_features(input_ids, attention_mask, return_dict=True).pooler_output
        elif class_embeddings is None:
            class_embeddings = self._stored_class_embeddings()
        if class_embeddings.ndim != 2 or class_embeddings.shape[-1] != self.config.class_embed_dim:
            raise ValueError(
                f"`class_embeddings` has shape {tuple(class_embeddings.shape)}; expected (num_classes, "
                f"{self.config.class_embed_dim}). Are they from another text tower than "
                f"{self.config.text_model_name_or_path!r}?"
            )
        # In float32: the difference is small against both, and in half precision its length could underflow.
        center = self.class_center.float()
        centred = nn.functional.normalize(class_embeddings.to(center), dim=-1) - center
        return nn.functional.normalize(centred, dim=-1).to(self._weight_dtype())

    def _stored_class_embeddings(self) -> torch.Tensor:
        # Not inside a compiled or exported graph, which must not branch on values; nor on meta, where there are none.
        if not (torch.compiler.is_compiling() or self.class_embeddings.is_meta) and not self.class_embeddings.any():
            raise ValueError(
                "This model has no class embeddings yet: call `set_classes(names)`, or pass `class_embeddings` or "
                "`input_ids`."
            )
        return self.class_embeddings

    def _loss(self, logits, auxiliary_logits, labels, class_mask, phase) -> torch.Tensor:
        if not (self.training and self.samples_loss):
            phase = None
        elif phase is None:
            phase = draw_phase()
        return segmentation_loss(
            logits,
            auxiliary_logits if self.config.auxiliary_loss_weight else None,
            labels,
            ignore_index=self.config.semantic_loss_ignore_index,
            auxiliary_loss_weight=self.config.auxiliary_loss_weight,
            phase=phase,
            class_mask=class_mask,
            pixel_loss=self.pixel_loss,
        )

    def _check_backbone_strides(self):
        wrapped = getattr(self.backbone, "_backbone", None)  # a timm network, which knows its strides
        reductions = tuple(wrapped.feature_info.reduction()) if wrapped is not None else STRIDES
        if len(self.backbone.channels) != len(STRIDES) or reductions != STRIDES:
            found = reductions if wrapped is not None else f"{len(self.backbone.channels)} maps"
            raise ValueError(
                f"`backbone_config` must give four feature maps at strides {STRIDES}, but gives {found}. Choose them "
                "by `out_indices` (or `out_features`); a network without a stride-4 map cannot be used."
            )


__all__ = ["LClipSegForSemanticSegmentation", "LClipSegPreTrainedModel"]
