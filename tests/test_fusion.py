"""The fusion module: its arithmetic, and that it knows neither the order nor the number of classes."""

import math

import pytest
import torch
from conftest import tiny_config

from modeling_lclipseg.fusion_lclipseg import (
    LClipSegFusion,
    LClipSegFusionLayer,
    LClipSegImageToTextAttention,
    LClipSegTextToImageAttention,
)


@pytest.fixture
def fusion() -> LClipSegFusion:
    torch.manual_seed(0)
    config = tiny_config(num_fusion_layers=2)
    config._attn_implementation = "eager"
    module = LClipSegFusion(config).eval()
    with torch.no_grad():
        for layer in module.layers:
            layer.gate.fill_(0.5)
    return module


@pytest.fixture
def feature_map() -> torch.Tensor:
    return torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))


def test_permuted_classes_give_permuted_tokens_and_the_same_map(fusion, feature_map):
    vectors, order = torch.randn(5, 32), torch.tensor([3, 0, 4, 1, 2])
    fused, tokens = fusion(feature_map, vectors)
    fused_again, tokens_again = fusion(feature_map, vectors[order])
    torch.testing.assert_close(tokens_again, tokens[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused_again, fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_any_number_of_classes_works(fusion, feature_map, num_classes):
    fused, tokens = fusion(feature_map, torch.randn(num_classes, 32))
    assert fused.shape == feature_map.shape
    assert tokens.shape == (2, num_classes, 16)


def test_closed_gates_keep_text_out_of_the_image(fusion, feature_map):
    for layer in fusion.layers:
        torch.nn.init.zeros_(layer.gate)
    one, _ = fusion(feature_map, torch.randn(3, 32))
    other, _ = fusion(feature_map, torch.randn(3, 32))
    torch.testing.assert_close(one, other)


def test_open_gates_let_text_change_the_image(fusion, feature_map):
    one, _ = fusion(feature_map, torch.randn(3, 32))
    other, _ = fusion(feature_map, torch.randn(3, 32))
    assert (one - other).abs().max() > 1e-3


def test_image_changes_the_tokens(fusion, feature_map):
    vectors = torch.randn(3, 32)
    tokens = fusion(feature_map, vectors)[1]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_image_to_text_attention_equals_the_formula():
    config = tiny_config(num_attention_heads=1)
    config._attn_implementation = "eager"
    attention = LClipSegImageToTextAttention(config)
    tokens, pixels = torch.randn(1, 3, 16), torch.randn(1, 10, 16)
    output, weights = attention(tokens, pixels)
    expected_weights = torch.softmax(attention.query(tokens)[0] @ pixels[0].T / math.sqrt(16), dim=-1)
    torch.testing.assert_close(weights[0, 0], expected_weights)
    torch.testing.assert_close(output[0], attention.output(expected_weights @ pixels[0]))


def test_text_to_image_attention_equals_the_formula_per_head():
    config = tiny_config(num_attention_heads=2)
    config._attn_implementation = "eager"
    attention = LClipSegTextToImageAttention(config)
    pixels, tokens = torch.randn(1, 10, 16), torch.randn(1, 3, 16)
    output, _ = attention(pixels, tokens)
    key, value = attention.key(tokens)[0], attention.value(tokens)[0]
    for head in (slice(0, 8), slice(8, 16)):
        weights = torch.softmax(pixels[0][:, head] @ key[:, head].T / math.sqrt(8), dim=-1)
        torch.testing.assert_close(output[0][:, head], weights @ value[:, head])


def test_eager_and_sdpa_agree(fusion, feature_map):
    vectors = torch.randn(3, 32)
    eager = fusion(feature_map, vectors)
    fusion.layers[0].image_to_text.config._attn_implementation = "sdpa"
    for one, other in zip(eager, fusion(feature_map, vectors), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_keeps_the_gradients(feature_map):
    config = tiny_config()
    config._attn_implementation = "eager"
    layer = LClipSegFusionLayer(config).eval()  # batch statistics would be taken twice
    layer.training = True  # of the layer alone: what switches checkpointing on
    torch.nn.init.ones_(layer.gate)
    recomputed = []

    def checkpoint(function, *args):
        recomputed.append(True)
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)

    def gradient(checkpointing: bool) -> torch.Tensor:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = checkpointing, checkpoint
        inputs = feature_map.clone().requires_grad_()
        fused, updated = layer(inputs, tokens)
        (fused.square().sum() + updated.square().sum()).backward()
        return inputs.grad

    tokens = torch.randn(2, 3, 16)
    torch.testing.assert_close(gradient(False), gradient(True))
    assert recomputed
