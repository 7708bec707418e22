"""The fusion module: its arithmetic, and that it knows neither the order nor the number of classes."""

import pytest
import torch
from tiny_model import tiny_config

from modeling_lclipseg.fusion_lclipseg import (
    LClipSegFusion,
    LClipSegFusionLayer,
    LClipSegImageToText,
    LClipSegTextToImage,
)


@pytest.fixture
def fusion() -> LClipSegFusion:
    torch.manual_seed(0)
    config = tiny_config(num_fusion_layers=2)
    config._attn_implementation = "eager"
    return LClipSegFusion(config).eval()


@pytest.fixture
def feature_map() -> torch.Tensor:
    return torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))


def test_permuted_classes_give_permuted_tokens_and_scores_and_the_same_map(fusion, feature_map):
    vectors, order = torch.randn(5, 32), torch.tensor([3, 0, 4, 1, 2])
    fused, tokens, scores = fusion(feature_map, vectors)
    fused_again, tokens_again, scores_again = fusion(feature_map, vectors[order])
    torch.testing.assert_close(tokens_again, tokens[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores_again, scores[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused_again, fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 2, 40])
def test_any_number_of_classes_works(fusion, feature_map, num_classes):
    fused, tokens, scores = fusion(feature_map, torch.randn(num_classes, 32))
    assert fused.shape == feature_map.shape
    assert tokens.shape == (2, num_classes, 16)
    assert scores.shape == (2, num_classes, 4, 6)


def test_without_values_text_stays_out_of_the_image(fusion, feature_map):
    for layer in fusion.layers:
        torch.nn.init.zeros_(layer.text_to_image.value.weight)
    one, other = (fusion(feature_map, torch.randn(3, 32))[0] for _ in range(2))
    torch.testing.assert_close(one, other)


def test_text_changes_the_image(fusion, feature_map):
    one, other = (fusion(feature_map, torch.randn(3, 32))[0] for _ in range(2))
    assert (one - other).abs().max() > 1e-3


def test_image_changes_the_tokens(fusion, feature_map):
    vectors = torch.randn(3, 32)
    tokens = fusion(feature_map, vectors)[1]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_a_class_reads_the_pixels_that_look_like_it():
    bridge, pixels, affinity = LClipSegImageToText(tiny_config()), torch.randn(1, 10, 16), torch.randn(1, 3, 10)
    output, weights = bridge(pixels, affinity)
    shares = affinity[0, 1].exp() / affinity[0, 1].exp().sum()
    torch.testing.assert_close(weights[0, 0, 1], shares)
    torch.testing.assert_close(output[0, 1], bridge.output((shares[:, None] * pixels[0]).sum(0)))


def test_a_pixel_reads_the_classes_that_it_looks_like():
    bridge, tokens, affinity = LClipSegTextToImage(tiny_config()), torch.randn(1, 3, 16), torch.randn(1, 3, 10)
    output, weights = bridge(tokens, affinity)
    shares = affinity[0, :, 4].exp() / affinity[0, :, 4].exp().sum()
    torch.testing.assert_close(weights[0, 0, 4], shares)
    torch.testing.assert_close(output[0, 4], bridge.value((shares[:, None] * tokens[0]).sum(0)))


def test_the_affinity_is_a_scaled_cosine_of_pixels_and_tokens(feature_map):
    fusion, vectors = LClipSegFusion(tiny_config()).eval(), torch.randn(3, 32)
    scores = fusion(feature_map, vectors)[2]
    token = fusion.token_embedding(fusion.token_norm(fusion.token_projection(vectors[0])))
    pixel = fusion.pixel_embedding(feature_map)[1, :, 2, 3]
    torch.testing.assert_close(scores[1, 0, 2, 3], torch.cosine_similarity(pixel, token, dim=0) / 0.07)


def test_without_blocks_map_and_tokens_pass_through(feature_map):
    fusion, vectors = LClipSegFusion(tiny_config(num_fusion_layers=0)).eval(), torch.randn(3, 32)
    fused, tokens, _ = fusion(feature_map, vectors)
    assert torch.equal(fused, feature_map)
    assert torch.equal(tokens[0], fusion.token_norm(fusion.token_projection(vectors)))
    assert torch.equal(tokens[1], tokens[0])


def test_eager_and_sdpa_agree(fusion, feature_map):
    vectors = torch.randn(3, 32)
    eager = fusion(feature_map, vectors)
    fusion.layers[0].text_branch.attention.config._attn_implementation = "sdpa"
    for one, other in zip(eager, fusion(feature_map, vectors), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_keeps_the_gradients(feature_map):
    config = tiny_config()
    config._attn_implementation = "eager"
    layer = LClipSegFusionLayer(config).eval()  # batch statistics would be taken twice
    layer.training = True  # of the layer alone: what switches checkpointing on
    recomputed = []

    def checkpoint(function, *args):
        recomputed.append(True)
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)

    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = checkpointing, checkpoint
        inputs = [given.clone().requires_grad_() for given in (feature_map, tokens, affinity)]
        fused, updated = layer(*inputs)
        (fused.square().sum() + updated.square().sum()).backward()
        return [given.grad for given in inputs]

    tokens, affinity = torch.randn(2, 3, 16), torch.randn(2, 3, 24)
    torch.testing.assert_close(gradients(False), gradients(True))
    assert recomputed


def test_masked_classes_change_nothing_for_the_others():
    fusion = LClipSegFusion(tiny_config(num_fusion_layers=2)).eval()
    maps, vectors = torch.randn(2, 16, 4, 6), torch.randn(5, 32)
    mask = torch.tensor([[True, True, False, True, False], [False, True, True, False, True]])
    fused, tokens, affinity = fusion(maps, vectors, class_mask=mask)
    for image, kept in enumerate(mask):
        alone = fusion(maps[image : image + 1], vectors[kept])
        torch.testing.assert_close(fused[image], alone[0][0])
        torch.testing.assert_close(tokens[image, kept], alone[1][0])
        torch.testing.assert_close(affinity[image, kept], alone[2][0])
