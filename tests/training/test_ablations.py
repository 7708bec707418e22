"""What comparisons take away: parts of the fusion module, and the meaning of class embeddings."""

import pytest
import torch
from tiny_model import NAMES, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.networks.build import ClassEmbeddings
from lclipseg.training.ablations import ABLATIONS, VECTORS, ablate, control_vectors

IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def vectors(count: int = 5) -> ClassEmbeddings:
    return ClassEmbeddings(
        torch.nn.functional.normalize(torch.randn(count, 32), dim=-1), torch.randn(9, 32), "tower", ()
    )


def outputs(model) -> dict[str, torch.Tensor]:
    """What the fusion module makes of an image: map, tokens, scores."""
    found = {}
    handle = model.head.fusion.register_forward_hook(
        lambda module, given, made: found.update(zip(("map", "tokens", "scores"), made, strict=True))
    )
    model(IMAGE)
    handle.remove()
    return found


@pytest.mark.parametrize("part", ABLATIONS)
def test_ablation_changes_the_logits(part):
    model = tiny_model().train()  # with batch statistics, which give every branch its due size
    before = model(IMAGE).logits
    ablate(model, part)
    assert (model(IMAGE).logits - before).abs().max() > 1e-5


@pytest.mark.parametrize("part", ABLATIONS)
def test_ablated_part_stays_so_when_the_rest_is_trained(part):
    model = tiny_model()
    ablate(model, part)
    held = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model(IMAGE, labels=torch.randint(0, 3, (2, 64, 96))).loss.backward()
    torch.optim.AdamW(trained, lr=0.1).step()
    after = dict(model.named_parameters())
    assert bool(held) == (part != "undisturbed")
    assert all(torch.equal(after[name], value) and not value.any() for name, value in held.items())


@pytest.mark.parametrize("part", ["image_to_text", "bridge"])
def test_without_image_to_text_tokens_do_not_see_the_image(part):
    model = tiny_model()
    ablate(model, part)
    tokens = outputs(model)["tokens"]
    torch.testing.assert_close(tokens[0], tokens[1])


@pytest.mark.parametrize("part", ["text_to_image", "bridge"])
def test_without_text_to_image_the_map_does_not_see_the_text(part):
    model = tiny_model()
    ablate(model, part)
    one = outputs(model)["map"]
    model.set_classes(NAMES, torch.randn(3, 32))
    torch.testing.assert_close(outputs(model)["map"], one)


def test_ablated_checkpoint_loads_as_it_was(tmp_path):
    model = tiny_model()
    ablate(model, "image_branch")
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(type(model).from_pretrained(tmp_path).eval()(IMAGE).logits, model(IMAGE).logits)


@pytest.mark.parametrize(
    ("part", "network", "said"),
    [
        ("gates", {}, "'gates'; allowed: image_to_text"),
        ("bridge", {"num_fusion_layers": 0}, "bridge needs a two-way block: add --config num_fusion_layers=1"),
        ("image_branch", {"guidance": "none"}, "needs --guidance fusion, not 'none'"),
    ],
)
def test_part_that_is_not_there_is_refused(part, network, said):
    with pytest.raises(InputError, match=said):
        ablate(tiny_model(**network), part)


def test_shuffled_vectors_are_the_same_ones_none_in_its_place():
    right = vectors()
    wrong = control_vectors(right, "shuffled", seed=3)
    assert not (wrong.classes == right.classes).all(1).any()
    assert {tuple(row) for row in wrong.classes.tolist()} == {tuple(row) for row in right.classes.tolist()}
    assert wrong.words is right.words


@pytest.mark.parametrize("kind", ["random", "learned"])
def test_random_vectors_have_unit_length_and_no_centre(kind):
    drawn = control_vectors(vectors(), kind, seed=3)
    torch.testing.assert_close(drawn.classes.norm(dim=1), torch.ones(5))
    assert drawn.words is None


@pytest.mark.parametrize("kind", VECTORS)
def test_control_vectors_follow_from_the_seed(kind):
    right = vectors()
    one, same, other = (control_vectors(right, kind, seed).classes for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (kind == "clip")


@pytest.mark.parametrize(
    ("kind", "count", "said"), [("noise", 5, "'noise'; allowed: clip, shuffled"), ("shuffled", 1, "at least two")]
)
def test_vectors_that_cannot_be_made_are_refused(kind, count, said):
    with pytest.raises(InputError, match=said):
        control_vectors(vectors(count), kind, seed=0)
