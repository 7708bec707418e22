"""Names, vectors and the text tower. The towers are tiny and made here."""

import shutil

import numpy as np
import pytest
import torch
from tiny_model import NAMES
from tiny_tower import save_tower, tiny_text_config, tiny_tokenizer, tiny_tower
from transformers import CLIPConfig, CLIPModel

from modeling_lclipseg.class_embeddings_lclipseg import (
    check_class_embeddings,
    check_class_names,
    check_prompt_templates,
    embed_class_names,
    load_text_tower,
    nearest_known,
    project_onto_known,
)

TEMPLATES = ["a photo of a {}", "the {}"]


def random_rows(count: int, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0))


# --------------------------------------------------------------------------------------------------------------- names


def test_names_are_stripped_and_keep_their_order_and_case():
    assert check_class_names((" Sky ", "traffic light", "car\n")) == ["Sky", "traffic light", "car"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "empty"),
        ("sky", r"got the one string 'sky'"),
        (["sky", 5], r"Class name 2 of 2 is 5"),
        (["sky", "  "], r"Class name 2 of 2 is '  '"),
        (["sky", "car", "Sky "], r"Duplicate class names: 'sky', 'Sky '"),
        (["traffic light", "traffic  Light"], "Duplicate class names"),
        (["stra\u00dfe", "STRASSE"], "Duplicate class names"),
        (["sky", "two\nlines"], r"Class name 2 of 2 is 'two\\nlines'; leave the control characters out"),
        (["\x1b[2Jsky"], "control characters"),
        (["half \ud800"], "control characters"),
        (["two\u2028lines"], "control characters"),
    ],
)
def test_names_that_cannot_be_told_apart_or_read_are_errors(names, said):
    with pytest.raises(ValueError, match=said):
        check_class_names(names)


@pytest.mark.parametrize("templates", [[], ["a photo"], ["a {} and a {}"], "a photo of a {}"])
def test_templates_hold_the_place_of_the_name_once(templates):
    with pytest.raises(ValueError, match="Prompt templates must"):
        check_prompt_templates(templates)


# ------------------------------------------------------------------------------------------------------------- vectors


def test_vectors_come_back_as_float32_rows_of_unit_length():
    rows = (10 * random_rows(3)).half()
    found = check_class_embeddings(rows, 3, 8)
    expected = rows.numpy().astype(np.float64)
    expected /= np.sqrt((expected**2).sum(axis=1, keepdims=True))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_vectors_are_cut_off_from_what_they_were_computed_with():
    assert not check_class_embeddings(random_rows(2).requires_grad_(), 2, 8).requires_grad


def spoilt(place: int | tuple[int, int], value: float) -> torch.Tensor:
    rows = random_rows(4)
    rows[place] = value
    return rows


NOT_FINITE = r"1 of 4 class embeddings hold NaN or infinity \(row 1\)"
NO_VECTORS = [
    (spoilt(2, 0), r"1 of 4 class embeddings are zero \(row 2\)"),
    *((spoilt((1, 3), float(n)), NOT_FINITE) for n in ("nan", "inf", "-inf")),
    (random_rows(3), "3 class embeddings for 4 classes"),
    (random_rows(4, width=6), "6 wide, expected 8.*another text tower"),
    (torch.ones(8), r"got \(8,\)"),
    ([[1.0] * 8] * 4, "got list"),
]


@pytest.mark.parametrize(("rows", "said"), NO_VECTORS)
def test_zero_rows_others_that_are_not_finite_and_another_shape_are_errors_that_name_them(rows, said):
    with pytest.raises(ValueError, match=said):
        check_class_embeddings(rows, 4, 8)


def centred(vectors, center):
    return torch.nn.functional.normalize(torch.nn.functional.normalize(vectors, dim=1) - center, dim=1)


def test_projected_vectors_lie_in_the_span_of_the_known_ones_after_centring():
    known, new, center = random_rows(4, width=16), random_rows(7, width=16)[4:], random_rows(20, width=16).mean(dim=0)
    seen, projected = centred(known, center), centred(project_onto_known(new, known, center), center)
    solution = torch.linalg.lstsq(seen.T, projected.T).solution
    torch.testing.assert_close(seen.T @ solution, projected.T, atol=1e-5, rtol=0)
    # The nearest unit vectors of that span: the difference is at right angles to it up to length.
    residual = centred(new, center) - projected * (centred(new, center) * projected).sum(dim=1, keepdim=True)
    torch.testing.assert_close(seen @ residual.T, torch.zeros(4, 3), atol=1e-5, rtol=0)


def test_known_words_are_projected_onto_themselves():
    known, center = random_rows(4, width=16), random_rows(20, width=16).mean(dim=0)
    projected = project_onto_known(3 * known, known, center)
    torch.testing.assert_close(projected, torch.nn.functional.normalize(known, dim=1), atol=1e-5, rtol=0)


def test_nearest_known_word_is_that_of_the_largest_cosine_without_the_centre():
    known, center = random_rows(4, width=16), random_rows(20, width=16).mean(dim=0)
    new = torch.cat([5 * known[2:3], random_rows(3, width=16) + 0.1])
    cosines, rows = nearest_known(new, known, center)
    for vector, cosine, row in zip(torch.nn.functional.normalize(new, dim=1), cosines, rows, strict=True):
        lengths = torch.nn.functional.normalize(known, dim=1) - center
        each = [torch.dot(vector - center, other) / ((vector - center).norm() * other.norm()) for other in lengths]
        assert int(row) == int(torch.stack(each).argmax())
        assert float(cosine) == pytest.approx(float(max(each)), abs=1e-5)
    assert float(cosines[0]) == pytest.approx(1, abs=1e-5)
    assert int(rows[0]) == 2


# ----------------------------------------------------------------------------------------------------------- embedding


def test_embedding_is_the_normalised_mean_of_normalised_template_vectors():
    tower, tokenizer = tiny_tower(), tiny_tokenizer()
    expected = []
    projection = tower.text_projection.weight.detach().numpy()
    for name in NAMES:  # one sentence at a time, so without padding, and from the last hidden state on by hand
        vectors = []
        for sentence in (f"a photo of a {name}", f"the {name}"):
            states = tower.text_model(input_ids=torch.tensor([tokenizer(sentence)["input_ids"]])).last_hidden_state
            vector = projection @ states[0, -1].detach().numpy()
            vectors.append(vector / np.linalg.norm(vector))
        mean = np.mean(vectors, axis=0)
        expected.append(mean / np.linalg.norm(mean))
    found = embed_class_names(NAMES, tower, tokenizer, TEMPLATES)
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-5)


def test_a_tower_of_the_old_end_token_reads_at_the_end_too():
    expected = embed_class_names(NAMES, tiny_tower(), tiny_tokenizer(), TEMPLATES)
    found = embed_class_names(NAMES, tiny_tower(eos_token_id=2), tiny_tokenizer(), TEMPLATES)
    torch.testing.assert_close(found, expected)


def test_embedding_switches_dropout_off_and_leaves_the_tower_as_it_was():
    tower = tiny_tower(attention_dropout=0.5).train()
    first, second = (embed_class_names(NAMES, tower, tiny_tokenizer(), TEMPLATES) for _ in range(2))
    assert torch.equal(first, second)
    assert tower.training


def test_embeddings_can_take_part_in_training():
    vectors = embed_class_names(NAMES, tiny_tower(), tiny_tokenizer(), TEMPLATES)
    weight = torch.ones(8, requires_grad=True)
    (vectors * weight).sum().backward()
    assert torch.equal(weight.grad, vectors.sum(dim=0))


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("pedestrian", {}, "'a photo of a pedestrian' has 21 tokens and the text tower reads 16"),
        ("sky", {"vocab_size": 40}, "The tokenizer is not this text tower's"),
        ("sky", {"eos_token_id": 7}, "The tokenizer is not this text tower's"),
    ],
)
def test_what_the_tower_cannot_read_is_an_error(name, overrides, said):
    with pytest.raises(ValueError, match=said):
        embed_class_names(["car", name], tiny_tower(**overrides), tiny_tokenizer(), TEMPLATES)


# ---------------------------------------------------------------------------------------------------- loading a tower


def test_a_saved_tower_embeds_as_before(tmp_path):
    expected = embed_class_names(NAMES, tiny_tower(), tiny_tokenizer(), TEMPLATES)
    found = embed_class_names(NAMES, *load_text_tower(str(save_tower(tmp_path))), TEMPLATES)
    torch.testing.assert_close(found, expected)


def test_the_text_tower_of_a_whole_clip_model_is_found(tmp_path):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 16, "projection_dim": 8}
    config = CLIPConfig(text_config=tiny_text_config().to_dict(), vision_config=vision, projection_dim=8)
    clip = CLIPModel(config)
    clip.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    tower, _ = load_text_tower(str(tmp_path))
    assert torch.equal(tower.text_projection.weight, clip.text_projection.weight)


def without_projection(folder):
    kept = {name: tensor for name, tensor in tiny_tower().state_dict().items() if name != "text_projection.weight"}
    tiny_tower().save_pretrained(folder, state_dict=kept)


def without_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_projection, r"no CLIP text tower with projection: it lacks text_projection\.weight"),  # no random one
        (without_tokenizer, "no tokenizer files with a vocabulary"),  # and no empty vocabulary
        (shutil.rmtree, "tower.*cannot be loaded: .* a name on the Hub.*or a local folder"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not weights"), "tower.*cannot be loaded"),
    ],
)
def test_a_tower_that_cannot_be_used_is_an_error_that_says_what_it_lacks(tmp_path, damage, said):
    damage(save_tower(tmp_path / "tower"))
    with pytest.raises(ValueError, match=said):
        load_text_tower(str(tmp_path / "tower"))
