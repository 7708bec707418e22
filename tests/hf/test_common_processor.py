"""transformers' ProcessorTesterMixin on LClipSegProcessor."""

import unittest

from transformers import CLIPTokenizer
from transformers_tests.test_processing_common import ProcessorTesterMixin

from modeling_lclipseg import LClipSegImageProcessor, LClipSegProcessor


class LClipSegProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = LClipSegProcessor

    @classmethod
    def _setup_image_processor(cls) -> LClipSegImageProcessor:
        return LClipSegImageProcessor()

    @classmethod
    def _setup_tokenizer(cls) -> CLIPTokenizer:
        letters = "abcdefghijklmnopqrstuvwxyz"
        tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
