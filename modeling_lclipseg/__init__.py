"""LClipSeg: text-guided semantic segmentation at phone size. Importing this package registers the Auto classes."""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, AutoProcessor

from .class_vectors_lclipseg import WordBank
from .configuration_lclipseg import LClipSegConfig
from .image_processing_lclipseg import LClipSegImageProcessor
from .modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegPreTrainedModel
from .processing_lclipseg import LClipSegProcessor
from .visualization_lclipseg import class_palette, draw_overlay

AutoConfig.register("lclipseg", LClipSegConfig)
AutoModel.register(LClipSegConfig, LClipSegForSemanticSegmentation)
AutoModelForSemanticSegmentation.register(LClipSegConfig, LClipSegForSemanticSegmentation)
AutoImageProcessor.register(LClipSegConfig, image_processor_classes={"torchvision": LClipSegImageProcessor})
AutoProcessor.register(LClipSegConfig, LClipSegProcessor)

__all__ = [
    "LClipSegConfig",
    "LClipSegForSemanticSegmentation",
    "LClipSegImageProcessor",
    "LClipSegPreTrainedModel",
    "LClipSegProcessor",
    "WordBank",
    "class_palette",
    "draw_overlay",
]
