"""LClipSegConfig: what it accepts, what it refuses, what survives a round trip."""

import pytest
from tiny_model import TINY_TEXT, tiny_config
from transformers import AutoConfig, AutoModel, AutoModelForSemanticSegmentation

from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation
from modeling_lclipseg.configuration_lclipseg import GUIDANCES
from modeling_lclipseg.heads_lclipseg import HEADS


def test_config_builds_without_arguments():
    assert LClipSegConfig().backbone_config.backbone == "mobilenetv3_large_100"


def test_config_round_trips_through_a_folder(tmp_path):
    config = tiny_config(text_config=TINY_TEXT, fusion_stride=32, backbone_kwargs={"drop_rate": 0.1})
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    loaded.name_or_path = config.name_or_path
    assert loaded.to_dict() == config.to_dict()


def test_auto_classes_build_the_model():
    for auto_class in (AutoModel, AutoModelForSemanticSegmentation):
        assert isinstance(auto_class.from_config(tiny_config()), LClipSegForSemanticSegmentation)


def test_text_config_decides_the_width_of_class_embeddings():
    assert tiny_config(text_config=TINY_TEXT, class_embed_dim=99).class_embed_dim == TINY_TEXT["projection_dim"]


def test_every_guidance_has_a_head():
    assert set(GUIDANCES) == set(HEADS)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"guidance": "fuson"}, "'fusion', 'lseg', 'denseclip', 'none'"),
        ({"hidden_size": 18, "num_attention_heads": 4}, "num_attention_heads"),
        ({"fusion_stride": 8}, "16 or 32"),
        ({"num_fusion_layers": -1}, "num_fusion_layers"),
        ({"prompt_templates": ["a photo"]}, "a photo"),
        ({"prompt_templates": []}, "templates"),
        ({"num_labels": 5}, "num_labels"),
        ({"id2label": {1: "sky", 2: "road"}}, "0 to 1"),
        ({"id2label": {0: "sky", 1: "Sky"}}, "Duplicate"),
        ({"semantic_loss_ignore_index": 1}, "'road'"),
        ({"id2label": {i: f"class {i}" for i in range(300)}}, "-100"),
        ({"backbone_config": {"backbone": "resnet18"}}, "model_type"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:a/b"}}, "'hf-hub:a/b'.*fetched"),
        ({"backbone_kwargs": {"pretrained": True}}, "'pretrained'"),
        ({"backbone_kwargs": {"pretrained_cfg_overlay": {"url": "http://a"}}}, "'pretrained_cfg_overlay'"),
        ({"backbone_kwargs": {"checkpoint_path": "weights.pth"}}, "'checkpoint_path'"),
    ],
)
def test_wrong_field_is_refused_and_named(fields, named):
    with pytest.raises(Exception, match=named):  # strict fields raise an error class of huggingface_hub's
        tiny_config(**fields)
