"""Where class embeddings come from: bank, checkpoint, tower; and which of them a checkpoint refuses."""

import pytest
import torch
from tiny_model import NAMES, TINY_TEXT, tiny_model
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from modeling_lclipseg import WordBank, find_class_embeddings, vocabulary_lclipseg
from modeling_lclipseg.class_embeddings_lclipseg import check_same_tower, embed_class_names

WIDTH = 32  # of the tiny model's class embeddings
TOWER = "openai/clip-vit-base-patch16"


def bank(*words, text_model=None, width=WIDTH) -> WordBank:
    return WordBank(words, torch.randn(len(words), width, generator=torch.Generator().manual_seed(3)), text_model)


def cone(direction: int, count: int) -> torch.Tensor:
    """Vectors that share a direction, as a text tower's do."""
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(direction))
    return torch.nn.functional.normalize(noise / WIDTH**0.5 + 1.7 * torch.eye(WIDTH)[direction], dim=1)


@pytest.fixture
def tower(tmp_path):
    """A tiny tower and its tokenizer, and the folder that they are saved in."""
    letters = [*"abcdefghijk", *(f"{letter}</w>" for letter in "abcdefghijk")]
    vocabulary = {token: index for index, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16)
    torch.manual_seed(0)
    text_model = CLIPTextModelWithProjection(CLIPTextConfig(**TINY_TEXT)).eval()
    text_model.save_pretrained(tmp_path / "tower")
    tokenizer.save_pretrained(tmp_path / "tower")
    return text_model, tokenizer, str(tmp_path / "tower")


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(vocabulary_lclipseg.logger, "warning", said.append)
    return said


# ------------------------------------------------------------------------------------------------ where they come from


def test_bank_comes_before_the_checkpoint(model):
    words = bank("tree", "road")
    vectors = find_class_embeddings(model, ["ROAD", "Sky"], word_bank=words)
    assert torch.equal(vectors[0], words.lookup(["road"])[0])
    assert torch.equal(vectors[1], model.class_embeddings[NAMES.index("sky")])


def test_prompts_stand_for_the_names_in_the_bank(model):
    words = bank("tree", "a tall tree")
    vectors = find_class_embeddings(model, ["tree"], ["a tall tree"], words)
    assert torch.equal(vectors, words.lookup(["a tall tree"]))


def test_finding_leaves_the_model_alone(model):
    before = model.class_embeddings.clone()
    find_class_embeddings(model, ["tree", "car"], word_bank=bank("tree"))
    assert torch.equal(model.class_embeddings, before)
    assert list(model.config.id2label.values()) == NAMES


def test_words_in_neither_go_through_the_text_tower(tower):
    text_model, tokenizer, folder = tower
    model = tiny_model(text_model_name_or_path=folder, prompt_templates=["{}"])
    vectors = find_class_embeddings(model, ["bad", "car"])
    torch.testing.assert_close(vectors[:1], embed_class_names(["bad"], text_model, tokenizer, ["{}"]))
    assert torch.equal(vectors[1], model.class_embeddings[NAMES.index("car")])


def test_tower_is_loaded_once_for_all_calls(tower, monkeypatch):
    loaded = []

    def load(name):
        loaded.append(name)
        return tower[:2]

    monkeypatch.setattr(vocabulary_lclipseg, "load_text_tower", load)
    vocabulary_lclipseg._text_tower.cache_clear()
    for words in (["bad"], ["cab", "fad"]):
        find_class_embeddings(tiny_model(text_model_name_or_path=tower[2], prompt_templates=["{}"]), words)
    assert loaded == [tower[2]]
    vocabulary_lclipseg._text_tower.cache_clear()


def test_tower_is_not_loaded_without_need(model, monkeypatch):
    monkeypatch.setattr(vocabulary_lclipseg, "_text_tower", lambda name: pytest.fail(f"loaded {name}"))
    model.config.text_model_name_or_path = TOWER
    find_class_embeddings(model, ["tree", "car"], word_bank=bank("tree"))
    model.set_classes(["road", "sky"])


def test_classes_set_from_a_bank_are_saved_and_used_without_it(model, tmp_path, pixel_values):
    words = bank("tree", "pole")
    model.set_classes(["pole", "car", "tree"], words).save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.config.class_names == ["pole", "car", "tree"]
    torch.testing.assert_close(loaded.class_embeddings[[0, 2]], words.lookup(["pole", "tree"]))
    torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits)


def test_word_without_a_vector_is_named_with_its_closest(model):
    with pytest.raises(ValueError, match=r"no vector for 'skye', 'dog'.*did you mean 'sky'"):
        find_class_embeddings(model, ["skye", "dog", "car"], word_bank=bank("tree"))


def test_model_that_never_had_classes_stores_no_vectors(model):
    model.class_embeddings.zero_()
    with pytest.raises(ValueError, match="no vector for 'car'"):
        find_class_embeddings(model, ["car"])


def test_every_class_has_one_prompt(model):
    with pytest.raises(ValueError, match="1 prompts for 2 classes"):
        find_class_embeddings(model, ["sky", "tree"], ["a tree"])


# ------------------------------------------------------------------------------------------------------- another tower


@pytest.mark.parametrize("as_bank", [True, False])
def test_vectors_of_another_tower_are_refused(model, as_bank):
    model.set_class_center(cone(0, 50))
    foreign = cone(1, 2)
    with pytest.raises(ValueError, match="'tree', 'pole' do not come from this checkpoint's text tower"):
        model.set_classes(["tree", "pole"], WordBank(("tree", "pole"), foreign) if as_bank else foreign)


def test_one_foreign_vector_among_its_own_is_named(model):
    model.set_class_center(cone(0, 50))
    mixed = torch.cat([cone(0, 2), cone(1, 1)])
    with pytest.raises(ValueError, match="vectors of 'bin' do not"):
        model.set_classes(["tree", "pole", "bin"], mixed)


def test_vectors_of_the_own_tower_are_taken_whatever_their_bank_says(model):
    model.set_class_center(cone(0, 50))
    model.config.text_model_name_or_path = TOWER
    model.set_classes(["tree"], WordBank(("tree",), cone(0, 1), "/somewhere/copy-of-the-tower"))
    assert model.config.class_names == ["tree"]


def test_the_identity_survives_saving(model, tmp_path):
    model.set_class_center(cone(0, 50)).set_classes(NAMES, cone(0, 3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="text tower"):
        type(model).from_pretrained(tmp_path).set_classes(["tree"], cone(1, 1))


def test_a_centre_without_a_common_direction_tells_nothing():
    check_same_tower(cone(1, 2), ["tree", "pole"], torch.eye(WIDTH)[0] * 0.4, TOWER)


def test_towers_of_clip_are_told_apart(real_data):
    paths = {size: real_data / "clip_text" / f"clip_vitb{size}_text.safetensors" for size in (16, 32)}
    banks = {size: WordBank.load(f"{paths[size]}#{key}") for size, key in ((16, "bank.single"), (32, "lvis1203.a"))}
    for words, other in ((banks[16], banks[32]), (banks[32], banks[16])):
        check_same_tower(words.embeddings, words.names, words.center, None)
        for name, vector in zip(words.names, words.embeddings, strict=True):
            with pytest.raises(ValueError, match="do not come from"):
                check_same_tower(vector[None], [name], other.center, None)


def test_without_a_centre_the_names_decide(model):
    model.config.text_model_name_or_path = TOWER
    with pytest.raises(ValueError, match=r"openai/clip-vit-base-patch32.*openai/clip-vit-base-patch16"):
        find_class_embeddings(model, ["tree"], word_bank=bank("tree", text_model="openai/clip-vit-base-patch32"))


def test_bank_of_a_local_copy_of_the_tower_is_taken(model):
    model.config.text_model_name_or_path = TOWER
    words = bank("tree", text_model="/data/CLIP-ViT-Base-Patch16/")
    assert torch.equal(find_class_embeddings(model, ["tree"], word_bank=words), words.lookup(["tree"]))


def test_bank_of_another_width_is_refused(model):
    with pytest.raises(ValueError, match="16 wide, but this checkpoint takes 32"):
        find_class_embeddings(model, ["tree"], word_bank=bank("tree", width=16))


def test_what_is_neither_vectors_nor_a_bank_is_refused(model):
    with pytest.raises(ValueError, match=r"must be a tensor .* got list"):
        model.set_classes(["tree"], [[0.0] * WIDTH])


# -------------------------------------------------------------------------------------------- words unlike all classes


def at_right_angles(count: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(WIDTH, count, generator=torch.Generator().manual_seed(2))).Q.T


def test_word_unlike_every_class_is_named_with_the_nearest(model, warnings):
    *own, other = at_right_angles(4)
    model.set_classes(NAMES, torch.stack(own))
    warnings.clear()
    model.set_classes(["lane", "moon"], torch.stack([own[1] + own[2], other + 0.1 * own[0]]))
    assert len(warnings) == 1
    assert "'moon' (nearest: 'sky', 0.10)" in warnings[0]
    assert "lane" not in warnings[0]


def test_model_without_classes_has_nothing_to_be_unlike(model, warnings):
    model.class_embeddings.zero_()
    model.set_classes(["moon"], at_right_angles(1))
    assert not warnings


def test_own_classes_in_another_order_are_familiar(model, warnings):
    model.set_classes(NAMES[::-1])
    assert not warnings
