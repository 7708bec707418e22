"""LClipSegForSemanticSegmentation: forward, loss, the sources of classes, saving and loading."""

import pytest
import torch
from tiny_model import NAMES, TINY_BACKBONE, TINY_TEXT, assert_equal_logits, tiny_config, tiny_model
from transformers import AutoModelForSemanticSegmentation, CLIPTokenizer

from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.heads_lclipseg import HEADS

OPEN_VOCABULARY = [name for name, head in HEADS.items() if head.open_vocabulary]


def tokenizer() -> CLIPTokenizer:
    letters = [*"abcdefghijk", *(f"{letter}</w>" for letter in "abcdefghijk")]
    vocabulary = {token: index for index, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (33, 130)])
def test_logits_are_a_quarter_of_the_image_rounded_up(model, height, width):
    logits = model(torch.randn(1, 3, height, width)).logits
    assert logits.shape == (1, len(NAMES), -(-height // 4), -(-width // 4))


@pytest.mark.parametrize(
    "backbone_config",
    [
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
         "layer_type": "basic", "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4,
         "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        {"model_type": "timm_backbone", "backbone": "test_convnext", "out_indices": [0, 1, 2, 3]},
    ],
    ids=lambda config: config.get("backbone", config["model_type"]),
)  # fmt: skip
def test_other_backbones_work_by_configuration_alone(backbone_config, pixel_values):
    assert tiny_model(backbone_config=backbone_config)(pixel_values).logits.shape == (2, 3, 16, 24)


def test_backbone_of_other_strides_is_refused():
    with pytest.raises(ValueError, match="strides"):
        tiny_model(backbone_config={**TINY_BACKBONE, "out_indices": [0, 1, 2, 3]})


def test_transformers_backbone_of_other_strides_is_refused(pixel_values):
    config = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
              "layer_type": "basic", "out_features": ["stem", "stage1", "stage2", "stage3"]}  # fmt: skip
    with pytest.raises(ValueError, match="strides"):
        tiny_model(backbone_config=config)(pixel_values)


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
def test_permuted_classes_permute_the_logits(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    vectors, order = torch.randn(5, 32), torch.tensor([3, 0, 4, 1, 2])
    logits = model(pixel_values, class_embeddings=vectors).logits
    permuted = model(pixel_values, class_embeddings=vectors[order]).logits
    torch.testing.assert_close(permuted, logits[:, order], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
def test_a_single_class_works(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    assert model(pixel_values, class_embeddings=torch.randn(1, 32)).logits.shape[1] == 1


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
def test_length_of_class_embeddings_does_not_matter(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    vectors = torch.randn(3, 32)
    torch.testing.assert_close(
        model(pixel_values, class_embeddings=7 * vectors).logits, model(pixel_values, class_embeddings=vectors).logits
    )


@pytest.mark.parametrize("guidance", HEADS)
def test_images_of_a_batch_do_not_see_each_other(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    assert_equal_logits(model(pixel_values).logits[1:], model(pixel_values[1:]).logits)


# ------------------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize("guidance", ["fusion", "denseclip"])
def test_loss_equals_cross_entropy_of_both_score_maps(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    labels = torch.randint(0, 3, (2, 64, 96))
    labels[:, :8] = 255
    feature_maps = model.backbone(pixel_values).feature_maps
    both = model.head(feature_maps, model._centred_embeddings(None, None, None))
    expected = [
        torch.nn.functional.cross_entropy(
            torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear"), labels, ignore_index=255
        )
        for logits in both
    ]
    torch.testing.assert_close(model(pixel_values, labels=labels).loss, expected[0] + 0.4 * expected[1])


def test_loss_leaves_the_text_tower_alone(tmp_path, pixel_values):
    tiny_model(text_config=TINY_TEXT).save_pretrained(tmp_path)
    for model in (tiny_model(text_config=TINY_TEXT), AutoModelForSemanticSegmentation.from_pretrained(tmp_path)):
        tokens = torch.tensor([[22, 1, 23], [22, 2, 23], [22, 3, 23]])
        model(pixel_values, labels=torch.randint(0, 3, (2, 64, 96)), input_ids=tokens).loss.backward()
        assert all(parameter.grad is None for parameter in model.text_model.parameters())


@pytest.mark.parametrize("guidance", ["lseg", "none"])
def test_loss_of_a_head_without_a_coarse_score_map_is_cross_entropy(guidance, pixel_values):
    model, labels = tiny_model(guidance=guidance), torch.randint(0, 3, (2, 64, 96))
    logits = torch.nn.functional.interpolate(model(pixel_values).logits, (64, 96), mode="bilinear")
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(model(pixel_values, labels=labels).loss, expected)


@pytest.mark.parametrize("guidance", HEADS)
def test_loss_of_ignored_pixels_alone_is_zero_with_gradient(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    loss = model(pixel_values, labels=torch.full((2, 64, 96), 255)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def replica(module: torch.nn.Module) -> torch.nn.Module:
    """As nn.DataParallel makes one for each GPU: its weights are plain attributes, and there are no parameters."""
    copy = module._replicate_for_data_parallel()
    for name, weight in module._parameters.items():
        setattr(copy, name, None if weight is None else weight.view_as(weight))
    for name, child in module._modules.items():
        copy._modules[name] = None if child is None else replica(child)
    return copy


@pytest.mark.parametrize("guidance", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replica_without_parameters_gives_the_same_logits_and_loss(guidance, dtype, pixel_values):
    model, labels = tiny_model(guidance=guidance).to(dtype), torch.randint(0, 3, (2, 64, 96))
    expected, copy = model(pixel_values, labels=labels), replica(model)
    assert not list(copy.parameters())
    found = copy(pixel_values, labels=labels)
    assert torch.equal(found.logits, expected.logits) and found.loss == expected.loss


# --------------------------------------------------------------------------------------------- where classes come from


@pytest.mark.parametrize("guidance", list(HEADS))
def test_one_image_is_batch_enough_for_training(guidance):
    model = tiny_model(guidance=guidance).train()  # a batch normalisation of a pooled map would refuse it
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    assert model(torch.ones(1, 3, 64, 64), labels=labels).loss.isfinite()


def test_two_sources_of_classes_are_refused(pixel_values):
    model = tiny_model(text_config=TINY_TEXT)
    with pytest.raises(ValueError, match="twice"):
        model(pixel_values, input_ids=torch.tensor([[22, 1, 23]]), class_embeddings=torch.randn(1, 32))


def test_input_ids_go_through_the_tower(pixel_values):
    model = tiny_model(text_config=TINY_TEXT)
    tokens = {"input_ids": torch.tensor([[22, 1, 2, 23], [22, 3, 23, 23]])}
    features = model.get_text_features(**tokens).pooler_output
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(
        model(pixel_values, **tokens).logits, model(pixel_values, class_embeddings=features).logits
    )


def test_input_ids_without_a_tower_are_refused(model, pixel_values):
    with pytest.raises(ValueError, match="text tower"):
        model(pixel_values, input_ids=torch.tensor([[22, 1, 23]]))


def test_vectors_of_another_width_are_refused(model, pixel_values):
    with pytest.raises(ValueError, match=r"\(2, 31\)"):
        model(pixel_values, class_embeddings=torch.randn(2, 31))


def test_model_without_class_embeddings_says_so(pixel_values):
    with pytest.raises(ValueError, match="set_classes"):
        LClipSegForSemanticSegmentation(tiny_config())(pixel_values)


@pytest.mark.parametrize("guidance", OPEN_VOCABULARY)
def test_set_classes_replaces_names_and_vectors_together(guidance, pixel_values):
    model, vectors = tiny_model(guidance=guidance), torch.randn(2, 32)
    model.set_classes([" tree ", "pole"], vectors)
    assert model.config.id2label == {0: "tree", 1: "pole"}
    assert model.config.label2id == {"tree": 0, "pole": 1}
    torch.testing.assert_close(model(pixel_values).logits, model(pixel_values, class_embeddings=vectors).logits)


def test_set_classes_through_the_tower_equals_the_prompts_vectors(pixel_values):
    model = tiny_model(text_config=TINY_TEXT, prompt_templates=["a {}", "{} b"])
    model.set_classes(["cab", "dad"], tokenizer=tokenizer())
    rows = []
    for name in ("cab", "dad"):
        per_template = [
            model.get_text_features(**tokenizer()(prompt, return_tensors="pt")).pooler_output[0]
            for prompt in (f"a {name}", f"{name} b")
        ]
        rows.append(torch.nn.functional.normalize(torch.stack(per_template).mean(0), dim=0))
    torch.testing.assert_close(model.class_embeddings, torch.stack(rows), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        ([], torch.randn(0, 32), "empty"),
        (["sky", " "], torch.randn(2, 32), "Class name 2"),
        (["sky", "Sky "], torch.randn(2, 32), "Duplicate"),
        (["sky"], torch.randn(2, 32), "2 class embeddings for 1"),
        (["sky"], torch.randn(1, 31), "31 wide"),
        (["sky"], torch.full((1, 32), torch.nan), "NaN"),
        (["tree"], None, "text_model_name_or_path` names none"),
    ],
)
def test_set_classes_refuses(model, names, vectors, message):
    before = model.class_embeddings.clone()
    with pytest.raises(ValueError, match=message):
        model.set_classes(names, vectors)
    assert model.config.id2label == dict(enumerate(NAMES))
    torch.testing.assert_close(model.class_embeddings, before)


def test_closed_vocabulary_model_refuses_other_classes(pixel_values):
    model = tiny_model(guidance="none")
    with pytest.raises(ValueError, match="bound to the 3 classes"):
        model.set_classes(["sky"], torch.randn(1, 32))
    with pytest.raises(ValueError, match="no classes but its own"):
        model(pixel_values, class_embeddings=torch.randn(1, 32))


def test_common_direction_is_removed(model, pixel_values):
    words = torch.randn(50, 32) * 0.1 + torch.ones(32)
    model.set_class_center(words)
    vectors = model._centred_embeddings(None, None, words[:3])
    unit = torch.nn.functional.normalize(words, dim=-1)
    expected = torch.nn.functional.normalize(unit[:3] - unit.mean(0), dim=-1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------ save and load


@pytest.mark.parametrize("guidance", HEADS)
def test_saved_model_loads_to_the_same_logits(tmp_path, guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    if model.open_vocabulary:
        model.set_class_center(torch.randn(9, 32)).set_classes(["tree", "pole", "bin", "cat"], torch.randn(4, 32))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert loaded.config.id2label == model.config.id2label
    assert_equal_logits(loaded(pixel_values).logits, model(pixel_values).logits)


def test_checkpoint_of_another_guidance_reports_the_difference(tmp_path):
    tiny_model(guidance="none").save_pretrained(tmp_path)
    config = tiny_config(guidance="fusion")
    _, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert any("fusion" in key for key in report["missing_keys"])
    assert any("classifier" in key for key in report["unexpected_keys"])


def test_dropped_tower_is_neither_saved_nor_missed(tmp_path, pixel_values):
    model = tiny_model(text_config=TINY_TEXT)
    before = model(pixel_values).logits
    model.drop_text_model().save_pretrained(tmp_path)
    loaded, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.text_model is None
    torch.testing.assert_close(loaded(pixel_values).logits, before)


def test_stored_half_precision_loads_either_way(tmp_path, model, pixel_values):
    before = model(pixel_values).logits
    model.half().save_pretrained(tmp_path)
    for dtype in (torch.float32, "auto"):
        loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, dtype=dtype)
        assert (loaded(pixel_values).logits.float() - before).abs().mean() < 0.05


def test_hidden_states_and_attentions_are_returned_on_request(pixel_values):
    model = tiny_model(num_fusion_layers=2)
    model.set_attn_implementation("eager")
    outputs = model(pixel_values, output_hidden_states=True, output_attentions=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == 3 * [(2, 16, 4, 6)]
    assert [tuple(weights.shape) for weights in outputs.attentions] == 2 * [(2, 1, 3, 24)]
