"""transformers' ConfigTester on LClipSegConfig."""

import unittest

from transformers_tests.test_configuration_common import ConfigTester

from modeling_lclipseg import LClipSegConfig


class LClipSegConfigTest(unittest.TestCase):
    def setUp(self):
        self.config_tester = ConfigTester(
            self,
            LClipSegConfig,
            has_text_modality=False,
            common_properties=["hidden_size", "num_attention_heads", "num_fusion_layers", "text_config"],
            hidden_size=24,
            guidance="lseg",
            prompt_templates=["a {}", "{} b"],
        )
        self.model_tester = self

    def get_config(self) -> LClipSegConfig:
        return LClipSegConfig(text_config={"vocab_size": 99, "num_hidden_layers": 1}, id2label={0: "sky", 1: "road"})

    def test_config(self):
        self.config_tester.run_common_tests()
