"""transformers' image processing tests on LClipSegImageProcessor."""

import math
import unittest

import numpy as np
import torch
from PIL import Image
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers_tests.test_image_processing_common import (
    ImageProcessingTester,
    ImageProcessingTestMixin,
    PostProcessSemanticSegmentationTestMixin,
)

from modeling_lclipseg import LClipSegImageProcessor

NUM_LABELS, SHORTEST_EDGE, DIVISOR = 3, 18, 32


class LClipSegImageProcessingTester(ImageProcessingTester):
    def __init__(self, parent, **kwargs):
        super().__init__(parent, size={"shortest_edge": SHORTEST_EDGE}, **kwargs)

    def _get_image_processing_classes(self):
        return {"torchvision": LClipSegImageProcessor}  # the common tester knows transformers' own classes

    def expected_output_image_shape(self, images):
        """Sides are rounded, not cut as in the common tester, and padded to a multiple of 32."""
        sizes = []
        for image in images:
            if isinstance(image, Image.Image):
                sizes.append((image.height, image.width))
            else:
                sizes.append(image.shape[:2] if isinstance(image, np.ndarray) else image.shape[1:])
        resized = [[round(side * (SHORTEST_EDGE / min(size))) for side in size] for size in sizes]
        return self.num_channels, *(math.ceil(max(sides) / DIVISOR) * DIVISOR for sides in zip(*resized, strict=True))

    def prepare_post_process_semantic_segmentation_inputs(self):
        # Logits of images of 1 x 4 pixels, the target size of the common tests: 18 x 72 is padded to 32 x 96.
        height, width = 8, 24
        logits = torch.randn(self.batch_size, NUM_LABELS, height, width)
        expected = {"num_labels": NUM_LABELS, "height": height, "width": width}
        return {"outputs": SemanticSegmenterOutput(logits=logits)}, expected


class LClipSegImageProcessingTest(
    ImageProcessingTestMixin, PostProcessSemanticSegmentationTestMixin, unittest.TestCase
):
    image_processor_tester_class = LClipSegImageProcessingTester
