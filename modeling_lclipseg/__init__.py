"""LClipSeg: text-guided semantic segmentation at phone size. Importing this package registers the Auto classes.

The model proper is kept under 1,300 lines. Its modules, NAME_lclipseg, in the order to read them: `configuration`,
`modeling`, `loss`, `heads`, `decoder`, `similarity`, `fusion`, `attention`, `outputs`. Around it stand another head
(`denseclip`), the class lists (`vocabulary`, `class_embeddings`, `word_bank`, `names`), a checkpoint with other
classes (`loading`), the copy for inference (`folding`), a form of TensorFlow's padding for graphs (`padding`), and
images on their way in and out (`image_processing`, `post_processing`, `processing`, `pipeline`, `opening`, `inputs`,
`sizing`, `label_map`, `visualization`). `code` is about what a checkpoint says of its code.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from .configuration_lclipseg import LClipSegConfig
from .denseclip_lclipseg import LClipSegDenseCLIPForSemanticSegmentation
from .image_processing_lclipseg import LClipSegImageProcessor
from .modeling_lclipseg import LClipSegForSemanticSegmentation, LClipSegPreTrainedModel
from .outputs_lclipseg import LClipSegSemanticSegmenterOutput
from .pipeline_lclipseg import LClipSegPipeline
from .processing_lclipseg import LClipSegProcessor
from .visualization_lclipseg import class_palette, draw_overlay
from .vocabulary_lclipseg import LClipSegVocabulary
from .word_bank_lclipseg import WordBank

AutoConfig.register("lclipseg", LClipSegConfig)
AutoModel.register(LClipSegConfig, LClipSegForSemanticSegmentation)
AutoModelForSemanticSegmentation.register(LClipSegConfig, LClipSegForSemanticSegmentation)
AutoImageProcessor.register(LClipSegConfig, image_processor_classes={"torchvision": LClipSegImageProcessor})
AutoProcessor.register(LClipSegConfig, LClipSegProcessor)
# The built-in image-segmentation pipeline looks here, and nowhere else, whether it knows a model; it works either way.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["lclipseg"] = LClipSegForSemanticSegmentation.__name__

__all__ = [
    "LClipSegConfig",
    "LClipSegDenseCLIPForSemanticSegmentation",
    "LClipSegForSemanticSegmentation",
    "LClipSegImageProcessor",
    "LClipSegPipeline",
    "LClipSegPreTrainedModel",
    "LClipSegProcessor",
    "LClipSegSemanticSegmenterOutput",
    "LClipSegVocabulary",
    "WordBank",
    "class_palette",
    "draw_overlay",
]
