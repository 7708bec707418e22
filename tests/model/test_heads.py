"""The head contract, held by every head, and the arithmetic of the similarity."""

import math

import pytest
import torch
from tiny_model import tiny_config
from torch import nn

from modeling_lclipseg.heads_lclipseg import HEADS
from modeling_lclipseg.similarity_lclipseg import LClipSegProjectedSimilarity, LClipSegSimilarity

CHANNELS = (8, 12, 20, 24)
OPEN_VOCABULARY = [name for name, head in HEADS.items() if head.open_vocabulary]


def maps(height: int = 64, width: int = 96) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, channels, -(-height // stride), -(-width // stride), generator=generator)
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    )


def build(guidance: str, **overrides) -> nn.Module:
    torch.manual_seed(0)
    return HEADS[guidance](tiny_config(guidance=guidance, **overrides), CHANNELS).eval()


@pytest.mark.parametrize("guidance", HEADS)
@pytest.mark.parametrize("fusion_stride", [16, 32])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (70, 101)])
def test_logits_are_at_stride_4_with_one_channel_a_class(guidance, fusion_stride, height, width):
    logits, auxiliary = build(guidance, fusion_stride=fusion_stride)(maps(height, width), torch.randn(3, 32))
    assert logits.shape == (2, 3, -(-height // 4), -(-width // 4))
    stride = {"fusion": fusion_stride, "denseclip": 32}.get(guidance)
    assert (auxiliary is None) == (stride is None)
    assert stride is None or auxiliary.shape == (2, 3, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("guidance", HEADS)
def test_every_parameter_gets_a_gradient(guidance):
    head = build(guidance).train()
    logits, auxiliary = head(maps(), torch.randn(3, 32))
    loss = (logits * torch.randn_like(logits)).sum()
    if auxiliary is not None:
        loss = loss + (auxiliary * torch.randn_like(auxiliary)).sum()
    loss.backward()
    without = [
        name for name, parameter in head.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # A key's bias shifts all scores of a query alike, which softmax does not see.
    assert [name for name in without if not name.endswith("pool.key.bias")] == []


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
@pytest.mark.parametrize("num_classes", [1, 7])
def test_open_vocabulary_head_takes_another_number_of_classes(guidance, num_classes):
    assert build(guidance)(maps(), torch.randn(num_classes, 32))[0].shape[1] == num_classes


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
def test_permuted_classes_permute_the_logits_of_an_open_vocabulary_head(guidance):
    head, vectors, order = build(guidance), torch.randn(5, 32), torch.tensor([3, 0, 4, 1, 2])
    permuted = head(maps(), vectors[order])[0]
    torch.testing.assert_close(permuted, head(maps(), vectors)[0][:, order], atol=1e-4, rtol=1e-4)


def test_fusion_logits_are_fine_similarity_plus_coarse_scores_plus_presence():
    head, vectors = build("fusion"), torch.randn(3, 32)
    coarse, tokens, scores = head.fusion(head.neck(maps()), vectors)
    pixels = head.decoder(coarse, maps())[1, :, 5, 7]
    token = (head.text_projection(vectors) + head.token_projection(tokens))[1, 2]
    fine = torch.cosine_similarity(pixels, token, dim=0) / 0.07
    enlarged = nn.functional.interpolate(scores, size=(16, 24), mode="bilinear")[1, 2, 5, 7]
    presence = head.presence(tokens)[1, 2, 0]
    logits, auxiliary = head(maps(), vectors)
    torch.testing.assert_close(logits[1, 2, 5, 7], fine + enlarged + presence, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(auxiliary, scores)


def test_lseg_logits_equal_scaled_cosines_of_projected_pixels():
    head, vectors = build("lseg"), torch.randn(3, 32)
    pixels = head.decoder(head.neck(maps()), maps())
    embeddings = torch.einsum("dc,bchw->bdhw", head.similarity.projection.weight, pixels)
    cosines = [torch.cosine_similarity(embeddings, vector[None, :, None, None], dim=1) for vector in vectors]
    torch.testing.assert_close(head(maps(), vectors)[0], torch.stack(cosines, dim=1) / 0.07, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [1e-3, 1, 1e3])
def test_projected_similarity_ignores_the_length_of_pixels(dtype, length):
    torch.manual_seed(0)
    similarity, vectors = LClipSegProjectedSimilarity(tiny_config()), torch.randn(5, 32)
    pixels = nn.functional.normalize(torch.randn(2, 16, 3, 4), dim=1)
    expected = similarity(pixels, vectors)
    logits = similarity.to(dtype)((length * pixels).to(dtype), vectors.to(dtype)).float()
    assert (logits - expected).abs().max() < (1e-4 if dtype == torch.float32 else 0.2)  # of 14


def test_projected_similarity_of_an_empty_pixel_is_zero_with_gradient():
    similarity, pixels = LClipSegProjectedSimilarity(tiny_config()), torch.zeros(1, 16, 1, 2, requires_grad=True)
    logits = similarity(pixels, torch.randn(3, 32))
    logits.sum().backward()
    assert not logits.any()
    assert pixels.grad.isfinite().all()


def test_similarity_without_gradients_gives_the_same():
    similarity, tokens = LClipSegSimilarity(tiny_config()), torch.randn(2, 3, 16)
    pixels, bias = torch.randn(2, 16, 4, 5), torch.randn(2, 3, 4, 5)
    expected = similarity(pixels, tokens, bias).detach()
    with torch.no_grad():  # it writes over what it is given
        torch.testing.assert_close(similarity(pixels, tokens, bias), expected)


def test_similarity_is_clamped_at_100():
    similarity = LClipSegSimilarity(tiny_config(logit_scale_init_value=math.log(1e6)))
    vector = torch.randn(1, 16)
    logits = similarity(vector[:, :, None, None], vector[:, None])
    assert logits.item() == pytest.approx(100, rel=1e-4)
    logits.backward()
    assert similarity.logit_scale.grad > 0  # it can come back
