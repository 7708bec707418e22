"""The presets of configuration/models."""

import pytest
import timm
import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.networks.build import build_image_processor, with_shortest_edge
from lclipseg.networks.presets import IMAGENET_MEAN, load_preset, preset_names
from modeling_lclipseg import LClipSegForSemanticSegmentation

BACKBONES = (
    "mbv3 mbv3s mbv3m mbv2 mbv2-tf mbv4s lite0 efficientvit-b0 efficientvit-b1 repvit-m0-9 efficientformerv2-s0 "
    "xception41 resnet50 swin-t"
)
EXPECTED = {f"lclipseg-{name}" for name in BACKBONES.split()}
# transformers' SwinBackbone normalises each of its maps by norms of their own and carries the classifier's along.
UNUSED = {"backbone.swin.layernorm.weight", "backbone.swin.layernorm.bias"}


def test_the_promised_presets_are_there():
    assert set(preset_names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_normalisation_is_that_of_the_weights(name):
    preset = load_preset(name)
    if preset.backbone_weights.endswith(".safetensors"):  # of TensorFlow, not on the Hub
        assert preset.image_mean == preset.image_std == (0.5, 0.5, 0.5)
    elif preset.config["backbone_config"]["model_type"] == "timm_backbone":
        weights = timm.get_pretrained_cfg(preset.backbone_weights.removeprefix("timm/"))
        assert (preset.image_mean, preset.image_std) == (tuple(weights.mean), tuple(weights.std))
        assert preset.licence == weights.license
    else:
        assert preset.image_mean == IMAGENET_MEAN


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_preset_takes_what_its_own_processor_makes_of_any_image(name):
    """On the meta device: shapes alone, at no cost."""
    preset = load_preset(name)
    processor = build_image_processor(preset, shortest_edge=64)
    pixel_values = processor(Image.new("RGB", (90, 50)), return_tensors="pt")["pixel_values"]
    with torch.device("meta"):
        model = LClipSegForSemanticSegmentation(preset.build_config(id2label={0: "sky", 1: "road"})).eval()
    logits = model(pixel_values.to("meta")).logits
    assert logits.shape == (1, 2, pixel_values.shape[2] // 4, pixel_values.shape[3] // 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_preset_runs_forward_and_backward_at_512(name):
    config = load_preset(name).build_config(id2label={0: "sky", 1: "road"})
    model = LClipSegForSemanticSegmentation(config).set_classes(["sky", "road"], torch.randn(2, 512))
    outputs = model(torch.randn(2, 3, 512, 512), labels=torch.randint(0, 2, (2, 512, 512)))
    outputs.loss.backward()
    assert outputs.logits.shape == (2, 2, 128, 128)
    trained = {n: p for n, p in model.named_parameters() if n not in UNUSED}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())


def test_unknown_preset_suggests_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'lclipseg-mbv3s'"):
        load_preset("lclipseg-mb3s")


def test_preset_of_another_form_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_text("backbone: resnet50\n")
    with pytest.raises(InputError, match=r"own\.yaml is not a preset"):
        load_preset(str(tmp_path / "own.yaml"))


def test_network_built_for_one_size_gets_no_other():
    processor = build_image_processor(load_preset("lclipseg-efficientformerv2-s0"), None)
    with pytest.raises(InputError, match="--shortest_edge 96: this network is built for 512 x 512 pixels alone"):
        with_shortest_edge(processor, 96)
