"""LClipSegForSemanticSegmentation: forward, loss, the sources of classes, saving and loading."""

import pytest
import torch
from tiny_model import NAMES, RESNET, TINY_BACKBONE, assert_equal_logits, tiny_config, tiny_model
from tiny_tower import tiny_text_config, tiny_tokenizer
from transformers import AutoModelForSemanticSegmentation

from modeling_lclipseg import LClipSegForSemanticSegmentation
from modeling_lclipseg.heads_lclipseg import HEADS

OPEN_VOCABULARY = [name for name, head in HEADS.items() if head.open_vocabulary]
CLOSED_VOCABULARY = [name for name in HEADS if name not in OPEN_VOCABULARY]
TOWER = {"text_config": tiny_text_config(projection_dim=32).to_dict()}
TOKENS = torch.tensor([[0, 1, 53], [0, 2, 53], [0, 3, 53]])  # a letter each, between the tower's begin and end


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97), (33, 130)])
def test_logits_are_a_quarter_of_the_image_rounded_up(model, height, width):
    logits = model(torch.randn(1, 3, height, width)).logits
    assert logits.shape == (1, len(NAMES), -(-height // 4), -(-width // 4))


@pytest.mark.parametrize(
    "backbone_config",
    [
        RESNET,
        {"model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4,
         "out_features": ["stage1", "stage2", "stage3", "stage4"]},
        {"model_type": "timm_backbone", "backbone": "test_convnext", "out_indices": [0, 1, 2, 3]},
    ],
    ids=lambda config: config.get("backbone", config["model_type"]),
)  # fmt: skip
def test_other_backbones_work_by_configuration_alone(backbone_config, pixel_values):
    assert tiny_model(backbone_config=backbone_config)(pixel_values).logits.shape == (2, 3, 16, 24)


@pytest.mark.parametrize(
    "backbone_config",
    [{**TINY_BACKBONE, "out_indices": range(4)}, {**RESNET, "out_features": ["stem", "stage1", "stage2", "stage3"]}],
)
def test_backbone_of_other_strides_is_refused(backbone_config, pixel_values):
    with pytest.raises(ValueError, match="strides"):
        tiny_model(backbone_config=backbone_config)(pixel_values)


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


@pytest.mark.parametrize("guidance", HEADS)
def test_loss_is_cross_entropy_of_the_logits_and_of_coarse_scores_where_the_head_has_them(guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    labels = torch.randint(0, 3, (2, 64, 96))
    labels[:, :8] = 255
    feature_maps = model.backbone(pixel_values).feature_maps
    both = model.head(feature_maps, model._centred_embeddings(None, None, None))
    expected = sum(
        weight * torch.nn.functional.cross_entropy(
            torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear"), labels, ignore_index=255
        )
        for weight, logits in zip((1, 0.4), both, strict=True) if logits is not None
    )  # fmt: skip
    torch.testing.assert_close(model(pixel_values, labels=labels).loss, expected)


def test_loss_leaves_the_text_tower_alone(tmp_path, pixel_values):
    tiny_model(**TOWER).save_pretrained(tmp_path)
    for model in (tiny_model(**TOWER), AutoModelForSemanticSegmentation.from_pretrained(tmp_path)):
        model(pixel_values, labels=torch.randint(0, 3, (2, 64, 96)), input_ids=TOKENS).loss.backward()
        assert all(parameter.grad is None for parameter in model.text_model.parameters())


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


def test_input_ids_go_through_the_tower(pixel_values):
    model, tokens = tiny_model(**TOWER), {"input_ids": torch.tensor([[0, 1, 2, 53], [0, 3, 53, 53]])}
    features = model.get_text_features(**tokens).pooler_output
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(
        model(pixel_values, **tokens).logits, model(pixel_values, class_embeddings=features).logits
    )


@pytest.mark.parametrize(
    ("overrides", "sources", "message"),
    [
        (TOWER, {"input_ids": TOKENS, "class_embeddings": torch.randn(3, 32)}, "twice"),
        ({}, {"input_ids": TOKENS}, "text tower"),
        ({}, {"class_embeddings": torch.randn(2, 31)}, r"\(2, 31\)"),
        ({"guidance": "none"}, {"input_ids": TOKENS}, "no classes but its own, yet `input_ids`.*'fusion' or 'lseg'"),
        ({"guidance": "denseclip"}, {"class_embeddings": torch.randn(3, 32)}, "yet `class_embeddings`"),
    ],
)
def test_classes_that_the_model_cannot_take_are_refused(overrides, sources, message, pixel_values):
    with pytest.raises(ValueError, match=message):
        tiny_model(**overrides)(pixel_values, **sources)


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


def test_set_classes_through_the_tower_equals_the_prompts_vectors():
    model, tokenizer = tiny_model(**TOWER, prompt_templates=["a {}", "{} b"]), tiny_tokenizer()
    model.set_classes(["cab", "dad"], tokenizer=tokenizer)
    rows = []
    for name in ("cab", "dad"):
        per_template = [
            model.get_text_features(**tokenizer(prompt, return_tensors="pt")).pooler_output[0]
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


@pytest.mark.parametrize("guidance", CLOSED_VOCABULARY)
@pytest.mark.parametrize("names", [["tree", "pole", "bin"], NAMES[:2], NAMES[::-1]])
def test_closed_vocabulary_model_refuses_other_classes_and_another_order(guidance, names):
    model = tiny_model(guidance=guidance)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"bound to the 3 classes .*\('sky', 'road', 'car'\).*'fusion' or 'lseg'"):
        model.set_classes(names, torch.randn(len(names), 32))
    assert model.config.class_names == NAMES
    torch.testing.assert_close(dict(model.state_dict()), before, atol=0, rtol=0)


def test_common_direction_is_removed(model, pixel_values):
    words = torch.randn(50, 32) * 0.1 + torch.ones(32)
    model.set_class_center(words)
    vectors = model._centred_embeddings(None, None, words[:3])
    unit = torch.nn.functional.normalize(words, dim=-1)
    expected = torch.nn.functional.normalize(unit[:3] - unit.mean(0), dim=-1)
    torch.testing.assert_close(vectors, expected, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------------------------ save and load


@pytest.mark.parametrize("guidance", HEADS)
def test_saved_model_loads_to_the_same_weights_and_logits(tmp_path, guidance, pixel_values):
    model = tiny_model(guidance=guidance)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # as trained: what loading initialises anew would show
    if model.open_vocabulary:
        model.set_class_center(torch.randn(9, 32)).set_classes(["tree", "pole", "bin", "cat"], torch.randn(4, 32))
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.config.id2label == model.config.id2label
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), atol=0, rtol=0)
    assert_equal_logits(loaded(pixel_values).logits, model(pixel_values).logits)


def test_checkpoint_of_another_guidance_reports_the_difference(tmp_path):
    tiny_model(guidance="none").save_pretrained(tmp_path)
    config = tiny_config(guidance="fusion")
    _, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, config=config, output_loading_info=True)
    assert any("fusion" in key for key in report["missing_keys"])
    assert any("classifier" in key for key in report["unexpected_keys"])


def test_dropped_tower_is_neither_saved_nor_missed(tmp_path, pixel_values):
    model = tiny_model(**TOWER)
    before = model(pixel_values).logits
    model.drop_text_model().save_pretrained(tmp_path)
    loaded, report = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.text_model is None
    torch.testing.assert_close(loaded(pixel_values).logits, before)
