"""Where class embeddings come from: bank, checkpoint, tower; and which of them a checkpoint refuses."""

import json

import pytest
import torch
from tiny_model import NAMES, tiny_config, tiny_model
from tiny_tower import save_tower, tiny_tokenizer, tiny_tower

from modeling_lclipseg import LClipSegForSemanticSegmentation, WordBank, vocabulary_lclipseg
from modeling_lclipseg.class_embeddings_lclipseg import check_same_tower, embed_class_names

WIDTH = 32  # of the tiny model's class embeddings
TOWER = "openai/clip-vit-base-patch16"


def bank(*words, text_model=None, width=WIDTH) -> WordBank:
    return WordBank(words, torch.randn(len(words), width, generator=torch.Generator().manual_seed(3)), text_model)


def cone(direction: int, count: int) -> torch.Tensor:
    """Vectors that share a direction, as a text tower's do."""
    noise = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(direction))
    return torch.nn.functional.normalize(noise / WIDTH**0.5 + 1.7 * torch.eye(WIDTH)[direction], dim=1)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    """A tiny tower and its tokenizer, and the folder that they are saved in."""
    folder = save_tower(tmp_path_factory.mktemp("tower"), projection_dim=WIDTH)
    return tiny_tower(projection_dim=WIDTH), tiny_tokenizer(), str(folder)


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(vocabulary_lclipseg.logger, "warning", said.append)
    return said


# ------------------------------------------------------------------------------------------------ where they come from


def test_bank_comes_before_the_checkpoint(model):
    words = bank("tree", "road")
    vectors = model.find_class_embeddings(["ROAD", "Sky"], words)
    assert torch.equal(vectors[0], words.lookup(["road"])[0])
    assert torch.equal(vectors[1], model.class_embeddings[NAMES.index("sky")])


def test_prompts_stand_for_the_names_in_the_bank(model):
    words = bank("tree", "a tall tree")
    vectors = model.find_class_embeddings(["tree"], words, ["a tall tree"])
    assert torch.equal(vectors, words.lookup(["a tall tree"]))


def test_finding_leaves_the_model_alone(model):
    before = model.class_embeddings.clone()
    model.find_class_embeddings(["tree", "car"], bank("tree"))
    assert torch.equal(model.class_embeddings, before)
    assert list(model.config.id2label.values()) == NAMES


def test_words_in_neither_go_through_the_text_tower(tower):
    text_model, tokenizer, folder = tower
    model = tiny_model(text_model_name_or_path=folder, prompt_templates=["{}"])
    vectors = model.find_class_embeddings(["bad", "car"])
    torch.testing.assert_close(vectors[:1], embed_class_names(["bad"], text_model, tokenizer, ["{}"]))
    assert torch.equal(vectors[1], model.class_embeddings[NAMES.index("car")])


def test_tower_is_loaded_once_for_all_calls(tower, monkeypatch):
    loaded = []
    monkeypatch.setattr(vocabulary_lclipseg, "load_text_tower", lambda name: loaded.append(name) or tower[:2])
    vocabulary_lclipseg._text_tower.cache_clear()
    for words in (["bad"], ["cab", "fad"]):
        tiny_model(text_model_name_or_path=tower[2], prompt_templates=["{}"]).find_class_embeddings(words)
    assert loaded == [tower[2]]
    vocabulary_lclipseg._text_tower.cache_clear()


def test_tower_is_not_loaded_without_need(model, monkeypatch):
    monkeypatch.setattr(vocabulary_lclipseg, "load_text_tower", lambda name: pytest.fail(f"loaded {name}"))
    model.config.text_model_name_or_path = TOWER
    model.find_class_embeddings(["tree", "car"], bank("tree"))
    model.set_classes(["road", "sky"])


def test_word_without_a_vector_is_named_with_its_closest(model):
    with pytest.raises(ValueError, match=r"no vector for 'skye', 'dog'.*did you mean 'sky'"):
        model.find_class_embeddings(["skye", "dog", "car"], bank("tree"))


@pytest.mark.parametrize("as_path", [True, False])
def test_a_bank_may_be_given_by_its_path(model, tmp_path, as_path):
    words = bank("tree", "pole")
    words.save(tmp_path / "bank.safetensors", key="plants")
    path = tmp_path / "bank.safetensors"
    vectors = model.find_class_embeddings(["tree"], path if as_path else f"{path}#plants")
    torch.testing.assert_close(vectors, words.lookup(["tree"]))


def test_class_of_several_words_gets_the_mean_of_their_directions(model):
    words = bank("tree", "bush")
    vectors = model.find_class_embeddings(["plants", "sky"], words, [["tree", "bush"], "sky"])
    mean = torch.nn.functional.normalize(words.lookup(["tree", "bush"]).mean(dim=0), dim=0)
    torch.testing.assert_close(vectors[0], mean)
    assert torch.equal(vectors[1], model.class_embeddings[NAMES.index("sky")])


def test_words_of_a_prompt_are_looked_up_in_place_of_the_name(model):
    vectors = model.find_class_embeddings(["sky"], prompts=["road"])
    assert torch.equal(vectors[0], model.class_embeddings[NAMES.index("road")])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("sky", "must be a list"),
        (["sky", ["Sky "]], "'a' and 'b' have the same prompts"),
        ([["sky", "SKY"], "road"], "prompts of the class 'a'.*Duplicate"),
        ([[], "road"], "prompts of the class 'a'.*empty"),
        ([3, "road"], "prompts of the class 'a' are 3"),
        (["a tree"], "1 prompts for 2 classes"),
    ],
)
def test_bad_prompts_are_refused_by_the_class(model, prompts, message):
    with pytest.raises(ValueError, match=message):
        model.find_class_embeddings(["a", "b"], prompts=prompts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["sky"], torch.ones(1, WIDTH), ["blue sky"]), "leave one of them out"),
        ((["tree"], bank("tree", width=16)), "16 wide, but this checkpoint takes 32"),
        ((["tree"], [[0.0] * WIDTH]), r"must be a tensor .* got list"),
    ],
)
def test_what_is_no_one_source_of_fitting_vectors_is_refused(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.set_classes(*arguments)


def test_model_that_never_had_classes_stores_no_vectors(model):
    model.class_embeddings.zero_()
    with pytest.raises(ValueError, match="no vector for 'car'"):
        model.find_class_embeddings(["car"])


# ------------------------------------------------------------------------------------------------------- another tower


@pytest.mark.parametrize(
    ("names", "vectors", "foreign"),
    [
        (["tree", "pole"], cone(1, 2), "'tree', 'pole' do not"),
        (["tree", "pole"], WordBank(("tree", "pole"), cone(1, 2)), "'tree', 'pole' do not"),
        (["tree", "pole", "bin"], torch.cat([cone(0, 2), cone(1, 1)]), "vectors of 'bin' do not"),
    ],
)
def test_vectors_of_another_tower_are_refused_by_name(model, names, vectors, foreign):
    model.set_class_center(cone(0, 50))
    with pytest.raises(ValueError, match=f"{foreign} come from this checkpoint's text tower"):
        model.set_classes(names, vectors)


def test_vectors_of_the_own_tower_are_taken_whatever_their_bank_says(model):
    model.set_class_center(cone(0, 50))
    model.config.text_model_name_or_path = TOWER
    model.set_classes(["tree"], WordBank(("tree",), cone(0, 1), "/somewhere/copy-of-the-tower"))
    assert model.config.class_names == ["tree"]


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
        model.find_class_embeddings(["tree"], bank("tree", text_model="openai/clip-vit-base-patch32"))


def test_bank_of_a_local_copy_of_the_tower_is_taken(model):
    model.config.text_model_name_or_path = TOWER
    words = bank("tree", text_model="/data/CLIP-ViT-Base-Patch16/")
    assert torch.equal(model.find_class_embeddings(["tree"], words), words.lookup(["tree"]))


# -------------------------------------------------------------------------------------------- words unlike all classes


def at_right_angles(count: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(WIDTH, count, generator=torch.Generator().manual_seed(2))).Q.T


def test_word_unlike_every_class_is_named_with_the_nearest(model, warnings):
    *own, other = at_right_angles(4)
    model.set_classes(NAMES, torch.stack(own)).remember_classes()
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


# ---------------------------------------------------------------------------------------------- what it was trained on


def test_classes_that_were_left_out_come_back(model):
    trained = model.class_embeddings.clone()
    model.set_classes(["sky", "road"]).set_classes(["sky", "car"])
    assert torch.equal(model.class_embeddings, trained[[NAMES.index("sky"), NAMES.index("car")]])


def test_present_vector_of_a_name_comes_before_the_trained_one(model):
    vector = bank("sky").embeddings
    model.set_classes(["sky"], vector)
    torch.testing.assert_close(model.find_class_embeddings(["sky"]), vector)


def test_warning_compares_with_the_trained_classes(model, warnings):
    sky, road, car, other = at_right_angles(4)
    model.set_classes(NAMES, torch.stack([sky, road, car])).remember_classes()
    model.set_classes(["moon"], other[None])
    warnings.clear()
    model.set_classes(["stars"], (other + 0.1 * car)[None])  # like the last list, unlike all that was trained
    assert "'stars' (nearest: 'car', 0.10)" in warnings[0]
    warnings.clear()
    model.set_classes(["lane"], road[None])
    assert not warnings


def test_training_on_makes_the_present_classes_the_trained_ones(model):
    model.set_classes(["tree"], bank("tree")).remember_classes()
    assert model.trained_classes()[0] == ["tree"]
    with pytest.raises(ValueError, match="no vector for 'sky'"):
        model.find_class_embeddings(["sky"])


@pytest.mark.parametrize("guidance", ["fusion", "lseg"])
def test_trained_classes_are_those_given_first_and_survive_saving(tmp_path, guidance):
    model = tiny_model(guidance=guidance)
    trained = model.class_embeddings.clone()
    model.set_classes(["bin"], bank("bin")).set_classes(["tree", "pole"], bank("tree", "pole"))
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert loaded.config.class_names == ["tree", "pole"]
    assert loaded.trained_classes()[0] == NAMES
    assert torch.equal(loaded.trained_classes()[1], trained)
    assert torch.equal(loaded.set_classes(["car"]).class_embeddings[0], trained[NAMES.index("car")])


def test_checkpoint_of_the_trained_classes_stores_them_once(model, tmp_path):
    before = set(model.state_dict())
    model.set_classes(["tree"], bank("tree")).set_classes(NAMES)  # there and back
    assert set(model.state_dict()) == before
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["trained_classes"] is None
    _, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())


def test_folded_copy_knows_what_was_trained(model):
    folded = model.set_classes(["tree"], bank("tree")).fold()
    assert folded.trained_classes()[0] == NAMES


def test_new_model_has_no_trained_classes():
    assert LClipSegForSemanticSegmentation(tiny_config()).trained_classes()[0] == []
