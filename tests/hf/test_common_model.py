"""transformers' ModelTesterMixin on LClipSegForSemanticSegmentation: every head, every source of class embeddings."""

import unittest
from unittest.mock import patch

import torch
from transformers import initialization as init
from transformers.testing_utils import torch_device
from transformers_tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor, random_attention_mask

from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation, denseclip_lclipseg

BATCH_SIZE, SIDE, NUM_CLASSES = 2, 64, 3  # the common tests slice whatever the batch size divides, so not the classes
CELLS = (SIDE // 16) ** 2  # of the coarse map


class StoredVectorsForSemanticSegmentation(LClipSegForSemanticSegmentation):
    """Born with class embeddings, as `set_classes` leaves them: the common tests build models and run them at once."""

    def __init__(self, config):
        super().__init__(config)
        if self.head.takes_text:
            self.class_embeddings.copy_(torch.eye(*self.class_embeddings.shape))

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, LClipSegForSemanticSegmentation) and module.head.takes_text:
            init.copy_(module.class_embeddings, torch.eye(*module.class_embeddings.shape))


class LClipSegModelTester:
    """A tiny model and its inputs.

    Args:
        parent (`unittest.TestCase`): The suite.
        inputs (`str`): Where the class embeddings come from: `"input_ids"`, `"class_embeddings"` or `"checkpoint"`.
        guidance (`str`): The head.
    """

    def __init__(self, parent, inputs: str, guidance: str):
        self.parent = parent
        self.inputs = inputs
        self.guidance = guidance
        self.batch_size = BATCH_SIZE
        self.is_training = True
        # What the common tests compare attentions with: (heads, classes, cells of the coarse map), one a layer.
        self.num_hidden_layers = 2
        self.num_attention_heads = 1
        self.encoder_seq_length, self.key_length = NUM_CLASSES, CELLS

    def get_config(self) -> LClipSegConfig:
        text_config = {
            "vocab_size": 24,
            "hidden_size": 16,
            "intermediate_size": 16,
            "projection_dim": 32,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "bos_token_id": 22,
            "eos_token_id": 23,
        }
        return LClipSegConfig(
            backbone_config={
                "model_type": "timm_backbone",
                "backbone": "mobilenetv3_small_050",
                "out_indices": [1, 2, 3, 4],
            },
            text_config=text_config if self.inputs == "input_ids" else None,
            class_embed_dim=32,
            guidance=self.guidance,
            hidden_size=16,
            num_fusion_layers=self.num_hidden_layers,
            num_attention_heads=2,
            decoder_hidden_size=16,
            num_labels=NUM_CLASSES,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[LClipSegConfig, dict[str, torch.Tensor]]:
        inputs = {"pixel_values": floats_tensor([BATCH_SIZE, 3, SIDE, SIDE])}
        if self.inputs == "input_ids":
            inputs["input_ids"] = ids_tensor([NUM_CLASSES, 7], vocab_size=22)
            inputs["attention_mask"] = random_attention_mask([NUM_CLASSES, 7])
        elif self.inputs == "class_embeddings":
            inputs["class_embeddings"] = floats_tensor([NUM_CLASSES, 32])
        return self.get_config(), inputs


class LClipSegSuite(ModelTesterMixin):
    """What the suites of all heads share. `inputs` and `guidance` are [`LClipSegModelTester`]'s."""

    inputs = "checkpoint"
    guidance: str
    all_model_classes = (StoredVectorsForSemanticSegmentation,)
    test_resize_embeddings = False
    _is_composite = True

    def setUp(self):
        self.model_tester = LClipSegModelTester(self, self.inputs, self.guidance)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        # The mixin knows what labels look like for transformers' own classes.
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=False)
        if return_labels:
            inputs["labels"] = torch.zeros([BATCH_SIZE, SIDE, SIDE], dtype=torch.long, device=torch_device)
        return inputs

    def _text_features_prepare_config_and_inputs(self):
        if self.inputs != "input_ids":
            self.skipTest("no text tower inside; the suite of the fusion with tower has this test")
        return super()._text_features_prepare_config_and_inputs()

    def test_model_get_set_embeddings(self):
        if self.inputs != "input_ids":
            self.skipTest("no text tower inside, so no embeddings of tokens")
        super().test_model_get_set_embeddings()

    def test_hidden_states_output(self):
        """Ours, as the hidden states are maps, like a convnet's; the mixin's looks for sequences."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for arguments, in_config in (({"output_hidden_states": True}, False), ({}, True)):
            config.output_hidden_states = in_config
            self._set_subconfig_attributes(config, "output_hidden_states", in_config)
            model = self.all_model_classes[0](config).to(torch_device).eval()
            hidden_states = model(**inputs, **arguments).hidden_states
            if self.guidance != "fusion":
                self.assertIsNone(hidden_states)
                continue
            shapes = [tuple(state.shape) for state in hidden_states]
            expected = (BATCH_SIZE, config.hidden_size, SIDE // 16, SIDE // 16)
            self.assertEqual(shapes, [expected] * (config.num_fusion_layers + 1))


class LClipSegFusionTest(LClipSegSuite, unittest.TestCase):
    """The head of the default configuration, with class embeddings as they come from a word bank."""

    guidance = "fusion"
    inputs = "class_embeddings"


class LClipSegFusionTextTowerTest(LClipSegSuite, unittest.TestCase):
    """The same with the text tower inside."""

    guidance = "fusion"
    inputs = "input_ids"
    test_all_params_have_gradient = False  # the tower is frozen


class HeadWithoutFusion(LClipSegSuite):
    has_attentions = False

    def test_retain_grad_hidden_states_attentions(self):
        self.skipTest("this head has neither hidden states nor attentions to keep a gradient of")


class LClipSegLSegTest(HeadWithoutFusion, unittest.TestCase):
    guidance = "lseg"
    inputs = "class_embeddings"


class LClipSegDenseCLIPTest(HeadWithoutFusion, unittest.TestCase):
    guidance = "denseclip"

    def setUp(self):
        super().setUp()
        tiny = patch.multiple(denseclip_lclipseg, DEPTH=2, WIDTH=32)  # the common tests allow a million parameters
        tiny.start()
        self.addCleanup(tiny.stop)


class LClipSegPlainTest(HeadWithoutFusion, unittest.TestCase):
    guidance = "none"
