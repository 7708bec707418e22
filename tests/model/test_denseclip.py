"""DenseCLIP's prompting against PyTorch's own attention, its score map, and its closed vocabulary."""

import pytest
import torch
from tiny_model import NAMES, tiny_config, tiny_model
from torch import nn

from modeling_lclipseg.denseclip_lclipseg import (
    LClipSegAttentionPool,
    LClipSegContextDecoder,
    LClipSegContextLayer,
    LClipSegContextPrompting,
    LClipSegDenseCLIPHead,
)

CHANNELS = (8, 12, 20, 24)
WIDTH = 32  # of the class embeddings of a tiny model


def randomized(module: nn.Module) -> nn.Module:
    """In eval mode, all parameters drawn anew: norms of one and biases of zero would hide a mix-up."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def feature_map(channels: int = CHANNELS[-1], height: int = 3, width: int = 5) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(1))


def maps() -> list[torch.Tensor]:
    sizes = zip(CHANNELS, (16, 8, 4, 2), (24, 12, 6, 3), strict=True)
    return [feature_map(channels, height, width) for channels, height, width in sizes]


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def prompting() -> LClipSegContextPrompting:
    """Untrained but for a large shift: at 1e-4, what the context decoder says would be lost in the tolerances."""
    torch.manual_seed(0)
    module = LClipSegContextPrompting(tiny_config(), CHANNELS[-1]).eval()
    nn.init.normal_(module.shift)
    return module


def head(names: list[str] = NAMES) -> LClipSegDenseCLIPHead:
    """Without dropout, but with batch statistics: without them an untrained decoder lets next to nothing through."""
    torch.manual_seed(0)
    module = LClipSegDenseCLIPHead(tiny_config(guidance="denseclip", id2label=dict(enumerate(names))), CHANNELS)
    module.prompting.eval()
    return module


# ------------------------------------------------------------------------------------------------------ attention pool


@pytest.mark.parametrize(("channels", "num_heads"), [(128, 2), (24, 3)])  # 64 wide, or the largest share of 64
def test_attention_pool_equals_multi_head_attention(channels, num_heads):
    pool, features = randomized(LClipSegAttentionPool(tiny_config(), channels)), feature_map(channels)
    positions = nn.functional.interpolate(pool.positions, (3, 5), mode="bilinear", align_corners=False)
    pixels = (features + positions).reshape(2, channels, 15)
    mean = features.mean((2, 3)) + pool.mean_position
    tokens = torch.cat([mean[:, :, None], pixels], dim=2).permute(2, 0, 1)  # (1 + n, B, C)
    expected, _ = nn.functional.multi_head_attention_forward(
        tokens, tokens, tokens, channels, num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.query.bias, pool.key.bias, pool.value.bias]),
        bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0,
        out_proj_weight=pool.output.weight,
        out_proj_bias=pool.output.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.query.weight,
        k_proj_weight=pool.key.weight,
        v_proj_weight=pool.value.weight,
    )  # fmt: skip
    torch.testing.assert_close(pool(features), expected.transpose(0, 1), atol=1e-4, rtol=1e-4)


def test_positions_keep_their_place_in_the_image_at_another_size():
    """A table that rises evenly over 16 x 16 cells gives, at the centres of 4 x 8 cells, the values known here."""
    pool = LClipSegAttentionPool(tiny_config(), 8)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    with torch.no_grad():
        pool.positions.copy_((rows + 100 * columns).expand_as(pool.positions))
    tokens = []
    pool.query.register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0]))
    pool(torch.zeros(1, 8, 4, 8))
    rows, columns = torch.tensor([1.5, 5.5, 9.5, 13.5]), torch.tensor([0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5])
    expected = (rows[:, None] + 100 * columns).flatten()  # row by row
    torch.testing.assert_close(tokens[0][0, 1:, 0], expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(tokens[0][0, 0], pool.mean_position)


# ---------------------------------------------------------------------------------------------------- context decoder


def reference_layer(layer: LClipSegContextLayer) -> nn.TransformerDecoderLayer:
    """PyTorch's own pre-norm decoder layer with the same weights."""
    reference = nn.TransformerDecoderLayer(
        256, nhead=4, dim_feedforward=1024, activation="gelu", norm_first=True, batch_first=True
    )
    norm, first, _, _, second = layer.feed_forward
    parts = {
        "norm1": layer.self_attention_norm, "norm2": layer.cross_attention_norm, "norm3": norm,
        "linear1": first, "linear2": second,
        "self_attn.out_proj": layer.self_attention.output, "multihead_attn.out_proj": layer.cross_attention.output,
    }  # fmt: skip
    weights = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    for name, attention in (("self_attn", layer.self_attention), ("multihead_attn", layer.cross_attention)):
        projections = (attention.query, attention.key, attention.value)
        weights[f"{name}.in_proj_weight"] = torch.cat([projection.weight for projection in projections])
        weights[f"{name}.in_proj_bias"] = torch.zeros(3 * 256)  # they have none
    reference.load_state_dict(weights)
    return reference.eval()


def test_context_layer_equals_pytorchs_decoder_layer():
    layer = randomized(LClipSegContextLayer(tiny_config()))
    tokens, memory = torch.randn(2, 3, 256), torch.randn(2, 7, 256)
    torch.testing.assert_close(layer(tokens, memory), reference_layer(layer)(tokens, memory), atol=1e-3, rtol=1e-4)


def test_context_decoder_equals_three_layers_between_projections(vectors):
    decoder, context = randomized(LClipSegContextDecoder(tiny_config())), torch.randn(2, 7, WIDTH)
    (before, linear, after), (text_norm, text_linear) = decoder.memory_projection, decoder.text_projection
    memory = after(linear(before(context)))
    tokens = text_linear(text_norm(vectors.expand(2, -1, -1)))
    first, second, third = map(reference_layer, decoder.layers)
    norm, output = decoder.output
    expected = output(norm(third(second(first(tokens, memory), memory), memory)))
    torch.testing.assert_close(decoder(vectors.expand(2, -1, -1), context), expected, atol=1e-3, rtol=1e-4)


def test_dropout_works_in_training_alone(vectors):
    decoder, context = LClipSegContextDecoder(tiny_config()), torch.randn(2, 7, WIDTH)
    inputs = (vectors.expand(2, -1, -1), context)
    assert torch.equal(decoder.eval()(*inputs), decoder(*inputs))
    assert not torch.allclose(decoder.train()(*inputs), decoder(*inputs), atol=1e-2)


# ---------------------------------------------------------------------------------------------------------- score map


def cosines(pool: LClipSegAttentionPool, features: torch.Tensor, class_embeddings: torch.Tensor) -> torch.Tensor:
    """`class_embeddings` (B, K, D) and the pooled pixels give (B, K, h, w)."""
    pixels = pool(features)[:, 1:]  # (B, n, D)
    compared = torch.cosine_similarity(class_embeddings[:, :, None], pixels[:, None], dim=-1)
    return compared.reshape(*compared.shape[:2], *features.shape[2:])


def test_class_embeddings_are_shifted_by_what_they_read(prompting, vectors):
    class_embeddings = vectors.expand(2, -1, -1)
    read = prompting.context_decoder(class_embeddings, prompting.pool(feature_map()))  # the whole image and its pixels
    expected = cosines(prompting.pool, feature_map(), class_embeddings + prompting.shift * read)
    torch.testing.assert_close(prompting(feature_map(), vectors), expected, atol=1e-5, rtol=1e-4)


def test_eager_and_sdpa_agree(prompting, vectors):
    config = prompting.pool.config  # one for the whole module
    config._attn_implementation = "eager"
    eager = prompting(feature_map(), vectors)
    config._attn_implementation = "sdpa"
    torch.testing.assert_close(prompting(feature_map(), vectors), eager, atol=1e-5, rtol=1e-4)


def test_auxiliary_logits_are_the_score_map_over_its_temperature(vectors):
    module = head()
    torch.testing.assert_close(module(maps(), vectors)[1], module.prompting(maps()[-1], vectors) / 0.07)


def test_score_map_joins_the_coarsest_map(vectors):
    module = head()
    seen = []
    module.neck.register_forward_hook(lambda neck, inputs, output: seen.extend(inputs[0]))
    module(maps(), vectors)
    scores = module.prompting(maps()[-1], vectors)
    for found, expected in zip(seen, [*maps()[:-1], torch.cat([maps()[-1], scores], dim=1)], strict=True):
        torch.testing.assert_close(found, expected)
    assert module.neck.projections[-1][0].in_channels == CHANNELS[-1] + len(NAMES)


def test_class_embeddings_reach_the_logits_through_the_score_map_alone(vectors):
    module, others = head(), torch.randn(3, WIDTH)
    logits, auxiliary = module(maps(), vectors)
    other_logits, other_auxiliary = module(maps(), others)
    assert (other_logits - logits).abs().max() > 1e-2
    with torch.no_grad():
        module.neck.projections[-1][0].weight[:, -len(NAMES) :] = 0  # where the score map enters
    torch.testing.assert_close(module(maps(), others)[0], module(maps(), vectors)[0])
    assert (other_auxiliary - auxiliary).abs().max() > 1e-2


# ---------------------------------------------------------------------------------------------------------- vocabulary


def test_permuted_classes_permute_the_score_map_but_not_the_slots_of_the_classifier(vectors):
    module, order = head(), torch.tensor([2, 0, 1])
    logits, auxiliary = module(maps(), vectors)
    permuted_logits, permuted_auxiliary = module(maps(), vectors[order])
    torch.testing.assert_close(permuted_auxiliary, auxiliary[:, order], atol=1e-5, rtol=1e-4)
    assert (permuted_logits - logits[:, order]).abs().max() > 1e-2


def test_a_single_class_works(vectors):
    logits, auxiliary = head(["sky"])(maps(), vectors[:1])
    assert logits.shape == (2, 1, 16, 24)
    assert auxiliary.shape == (2, 1, 2, 3)
    assert logits.isfinite().all()


def test_model_takes_new_vectors_for_its_own_classes(pixel_values):
    model = tiny_model(guidance="denseclip")
    vectors = torch.randn(3, WIDTH)
    model.set_classes(NAMES, vectors)
    torch.testing.assert_close(model.class_embeddings, nn.functional.normalize(vectors, dim=-1))
    assert model(pixel_values).logits.shape == (2, 3, 16, 24)


def test_model_from_a_configuration_is_initialised():
    """That what a checkpoint lacks is initialised as here, test_transformers.py says."""
    prompting = tiny_model(guidance="denseclip").head.prompting
    channels = prompting.pool.mean_position.shape[0]
    assert (prompting.shift == 1e-4).all()
    for positions in (prompting.pool.positions, prompting.pool.mean_position):
        assert positions.std().item() == pytest.approx(channels**-0.5, rel=0.2)
