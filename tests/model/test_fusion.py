"""The fusion module's arithmetic; that it knows neither order nor number of classes: test_heads.py."""

import pytest
import torch
from tiny_model import tiny_config

from modeling_lclipseg.fusion_lclipseg import LClipSegFusion, LClipSegImageToText, LClipSegTextToImage


@pytest.fixture
def feature_map() -> torch.Tensor:
    return torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(1))


def test_without_values_text_stays_out_of_the_image(feature_map):
    fusion = LClipSegFusion(tiny_config(num_fusion_layers=2)).eval()
    for layer in fusion.layers:
        torch.nn.init.zeros_(layer.text_to_image.value.weight)
    one, other = (fusion(feature_map, torch.randn(3, 32))[0] for _ in range(2))
    torch.testing.assert_close(one, other)


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
