"""Fused copies compute the same without normalisations, and leave the model that they were made from alone."""

import copy

import pytest
import torch
from tiny_model import NAMES, tiny_model
from torch import nn

from lclipseg.networks.presets import load_preset, preset_names
from modeling_lclipseg import LClipSegForSemanticSegmentation

REPARAMETERISABLE = {"model_type": "timm_backbone", "backbone": "repvit_m0_9", "out_indices": [0, 1, 2, 3]}


def with_statistics(model: LClipSegForSemanticSegmentation) -> LClipSegForSemanticSegmentation:
    """As after training: no normalisation is the identity."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    return model


@pytest.fixture(params=["fusion", "lseg", "denseclip", "none"])
def trained(request) -> LClipSegForSemanticSegmentation:
    return with_statistics(tiny_model(guidance=request.param))


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@torch.no_grad()
def test_logits_are_the_same(trained, pixel_values):
    expected = trained(pixel_values).logits
    torch.testing.assert_close(trained.fold()(pixel_values).logits, expected, rtol=1e-4, atol=1e-4)


def test_no_normalisation_of_maps_is_left(trained):
    assert norms(trained) > 30 and norms(trained.fold()) == 0


def test_the_model_stays_as_it_was(trained):
    before = copy.deepcopy(trained.state_dict())
    trained.fold()
    assert before.keys() == trained.state_dict().keys()
    assert all(torch.equal(before[name], values) for name, values in trained.state_dict().items())


def test_branches_of_the_backbone_are_merged():
    model = with_statistics(tiny_model(backbone_config=REPARAMETERISABLE))
    convolutions = [sum(isinstance(m, nn.Conv2d) for m in one.modules()) for one in (model, model.fold())]
    assert convolutions[1] < convolutions[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_folded(name):
    config = load_preset(name).build_config(id2label=dict(enumerate(NAMES)))
    model = LClipSegForSemanticSegmentation(config).eval().set_classes(NAMES, torch.randn(len(NAMES), 512))
    folded = with_statistics(model).fold()  # compares
    assert norms(folded) < norms(model) or norms(model) == 0


def test_a_copy_that_would_differ_is_refused():
    """Normalisations that do something else as well, which no convolution can take over."""
    model = with_statistics(tiny_model())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *called: 1 - called[-1])
    with pytest.raises(ValueError, match="cannot be folded"):
        model.fold()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(dtype, pixel_values):
    model = with_statistics(tiny_model())
    expected = model(pixel_values).logits
    folded = model.to(dtype).fold()
    assert folded.dtype == dtype
    torch.testing.assert_close(folded(pixel_values).logits.float(), expected, rtol=0.1, atol=1.0)


@pytest.mark.gpu
def test_is_where_the_model_is(pixel_values):
    folded = with_statistics(tiny_model()).to("cuda").fold()
    assert folded(pixel_values.to("cuda")).logits.is_cuda


def test_fused_in_inference_mode_can_be_used_outside(pixel_values):
    with torch.inference_mode():
        folded = tiny_model().fold()
    folded(pixel_values).logits.sum().backward()


def test_takes_other_classes(pixel_values):
    model = with_statistics(tiny_model())
    folded, vectors = model.fold(), torch.randn(2, 32)
    folded.set_classes(["tree", "pole"], vectors)
    expected = model.set_classes(["tree", "pole"], vectors)(pixel_values).logits
    torch.testing.assert_close(folded(pixel_values).logits, expected, rtol=1e-4, atol=1e-4)


def test_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="save the model that it was made from"):
        tiny_model().fold().save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_is_not_trained():
    with pytest.raises(ValueError, match="train the model it was made from"):
        tiny_model().fold().train()


def test_a_model_in_training_is_not_folded():
    with pytest.raises(ValueError, match="eval mode"):
        tiny_model().train().fold()
