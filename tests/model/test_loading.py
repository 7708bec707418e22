"""Transformers' keywords for other classes: names, number and embeddings of a checkpoint are one thing."""

import logging

import pytest
import torch
from tiny_model import NAMES, tiny_model
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation

ELEVEN = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "person", "bike"]
IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 2, (2, 64, 96), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return lambda: [record.message for record in caplog.records if "vector" in record.message]


def load(checkpoint, names=None, **keywords):
    if names is not None:
        keywords |= {"num_labels": len(names), "id2label": dict(enumerate(names))}
    return AutoModelForSemanticSegmentation.from_pretrained(checkpoint, **keywords)


def vectors_of(model) -> dict[str, torch.Tensor]:
    return dict(zip(model.config.class_names, model.class_embeddings.detach(), strict=True))


# ------------------------------------------------------------------------------------------------------- configuration


def assigned(checkpoint, id2label) -> LClipSegConfig:
    config = LClipSegConfig()
    config.id2label = id2label
    return config


@pytest.mark.parametrize(
    "configure",
    [lambda checkpoint, id2label: LClipSegConfig(id2label=id2label), AutoConfig.from_pretrained, assigned],
    ids=["new", "loaded", "assigned"],
)
def test_ids_that_are_text_are_ordered_as_numbers(checkpoint, configure):
    ids = {str(index): name for index, name in enumerate(ELEVEN)}
    config = configure(checkpoint, id2label=dict(sorted(ids.items())))
    assert config.class_names == ELEVEN and list(config.id2label) == list(range(11))
    assert config.label2id == {name: index for index, name in enumerate(ELEVEN)}


@pytest.mark.parametrize(
    "keywords",
    [
        {"num_labels": 2, "id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}},
        {"num_labels": 2, "id2label": {"0": "a", "1": "b"}},
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": "0", "b": "1"}},  # as transformers' own script gives them
        {"id2label": {0: "a", 1: "b"}},
        {"label2id": {"b": 1, "a": 0}},
    ],
)
def test_any_one_keyword_decides_all_three(checkpoint, keywords):
    for config in (AutoConfig.from_pretrained(checkpoint, **keywords), LClipSegConfig(**keywords)):
        assert (config.num_labels, config.id2label) == (2, {0: "a", 1: "b"})
        assert config.label2id == {"a": 0, "b": 1}


def test_number_of_the_stored_classes_leaves_them_as_they_are(checkpoint):
    assert load(checkpoint, num_labels=3).config.class_names == NAMES


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"num_labels": 4, "id2label": {0: "a", 1: "b"}}, "num_labels"),
        ({"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}}, "label2id"),
    ],
)
def test_keywords_that_contradict_each_other_are_refused(checkpoint, keywords, named):
    with pytest.raises(ValueError, match=named):
        load(checkpoint, **keywords)


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("names", [["car", "Sky"], NAMES[::-1]])
def test_names_take_their_own_vectors_with_them(checkpoint, names, ignore):
    before = vectors_of(load(checkpoint))
    after = vectors_of(load(checkpoint, names, ignore_mismatched_sizes=ignore))
    assert list(after) == names
    assert all(torch.equal(after[name], before[name.lower()]) for name in names)


def test_names_in_a_configuration_and_keywords_of_the_class_itself_do_the_same(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint, id2label={"0": "car", "1": "sky"})
    of_config = AutoModelForSemanticSegmentation.from_pretrained(checkpoint, config=config)
    of_class = LClipSegForSemanticSegmentation.from_pretrained(checkpoint, id2label={0: "car", 1: "sky"})
    for model in (of_config, of_class):
        assert torch.equal(vectors_of(model)["car"], vectors_of(load(checkpoint))["car"])


def test_trained_classes_are_found_again_under_other_present_ones(checkpoint, tmp_path):
    before = vectors_of(load(checkpoint))
    load(checkpoint, ["car"]).save_pretrained(tmp_path / "one")
    assert torch.equal(vectors_of(load(tmp_path / "one", ["road", "car"]))["road"], before["road"])


def test_report_of_the_loading_is_handed_on(checkpoint):
    model, report = load(checkpoint, ["car"], output_loading_info=True)
    assert model.config.class_names == ["car"] and not report["mismatched_keys"]


def test_name_without_a_vector_is_named_and_is_no_other_class(checkpoint, warnings):
    before = load(checkpoint)
    model = load(checkpoint, ["sky", "unheard"])
    assert "'unheard'" in "".join(warnings()) and "'sky'" not in "".join(warnings())
    cosines = before.class_embeddings @ vectors_of(model)["unheard"]
    assert vectors_of(model)["unheard"].norm().item() == pytest.approx(1)
    assert cosines.max() < 0.99 * before.class_embeddings.norm(dim=1).min()


def test_known_names_are_loaded_without_a_word(checkpoint, warnings):
    load(checkpoint, ["car", "sky"])
    assert not warnings()


def test_name_around_a_known_one_begins_beside_it(checkpoint):
    vectors = vectors_of(load(checkpoint, ["car", "red car", "blue car"]))
    directions = {name: torch.nn.functional.normalize(vector, dim=0) for name, vector in vectors.items()}
    # Beside a unit vector, noise of length 0.3 turns it by arcsin(0.3) at most.
    assert directions["car"] @ directions["red car"] > 0.95
    assert not torch.equal(directions["red car"], directions["blue car"])


def test_only_vectors_of_unknown_names_are_learned(checkpoint):
    model = load(checkpoint, ["unheard", "sky"]).train()
    model(IMAGE, labels=LABELS).loss.backward()
    assert (model.class_embeddings.grad.abs().sum(1) > 0).tolist() == [True, False]


def test_number_alone_gives_classes_to_learn(checkpoint, warnings):
    model = load(checkpoint, num_labels=5)
    assert model(IMAGE).logits.shape[1] == model.config.num_labels == 5
    assert "'LABEL_0'" in "".join(warnings())


def test_learned_vectors_are_loaded_like_any_other(checkpoint, tmp_path):
    model = load(checkpoint, ["unheard", "sky"])
    model.save_pretrained(tmp_path / "trained")
    loaded, report = type(model).from_pretrained(tmp_path / "trained", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(loaded(IMAGE).logits, model(IMAGE).logits)


def test_classes_can_be_set_after_some_were_learned(checkpoint):
    model = load(checkpoint, ["unheard", "sky"])
    model.set_classes(["road"])
    assert dict(model.named_parameters()).get("class_embeddings") is None
    assert "class_embeddings" in model.state_dict() and model(IMAGE).logits.shape[1] == 1


def test_checkpoint_that_never_had_classes_gets_none_by_name(tmp_path):
    LClipSegForSemanticSegmentation(tiny_model().config).save_pretrained(tmp_path)
    model = load(tmp_path, ["a", "b"])
    assert model.class_embeddings.shape == (2, 32)
    with pytest.raises(ValueError, match="no class embeddings"):
        model(IMAGE)


# -------------------------------------------------------------------------------------------------------- bound heads


@pytest.fixture(params=["none", "denseclip"])
def bound(request, tmp_path, tiny_denseclip):
    tiny_model(guidance=request.param).save_pretrained(tmp_path / "bound")
    return tmp_path / "bound"


def test_bound_head_takes_another_number_as_transformers_classifiers_do(bound):
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(bound, ["car", "unheard"])
    model = load(bound, ["car", "unheard"], ignore_mismatched_sizes=True)
    assert model(IMAGE).logits.shape[1] == 2


def test_bound_head_tells_that_other_names_need_training(bound, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    model = load(bound, ["car", "sky", "road"])
    assert "'car', 'sky', 'road'" in caplog.text
    if model.head.takes_text:
        assert torch.equal(vectors_of(model)["car"], vectors_of(load(bound))["car"])
