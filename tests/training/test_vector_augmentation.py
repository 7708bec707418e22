"""Shaken class embeddings and competing words in training."""

import pytest
import torch
from tiny_model import tiny_model

from lclipseg.console.errors import InputError
from lclipseg.training.vector_augmentation import VectorAugmentation

IMAGE = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
WORDS = torch.randn(9, 32, generator=torch.Generator().manual_seed(2))


def test_other_words_compete_in_training():
    model = tiny_model()
    VectorAugmentation(0.0, 4, WORDS).attach(model)
    assert model.train()(IMAGE).logits.shape[1] == 3 + 4


def test_a_validation_sees_the_classes_alone():
    model = tiny_model()
    before = model(IMAGE).logits
    VectorAugmentation(0.5, 4, WORDS).attach(model)
    torch.testing.assert_close(model(IMAGE).logits, before)


def test_noise_has_the_length_asked_for():
    model = tiny_model()
    _, given = VectorAugmentation(0.5, 0, WORDS)._add_vectors(model.train(), (), {})
    difference = given["class_embeddings"] - torch.nn.functional.normalize(model.class_embeddings, dim=-1)
    torch.testing.assert_close(difference.norm(dim=1), torch.full((3,), 0.5))


def test_words_are_drawn_anew_without_repetition():
    augmentation, model = VectorAugmentation(0.0, 8, WORDS), tiny_model().train()
    first, second = (augmentation._add_vectors(model, (), {})[1]["class_embeddings"][3:] for _ in range(2))
    assert len({tuple(row) for row in first.tolist()}) == 8
    assert not torch.equal(first, second)


def test_loss_counts_labels_of_the_classes_as_before():
    model = tiny_model()
    VectorAugmentation(0.0, 2, WORDS).attach(model)
    loss = model.train()(IMAGE, labels=torch.randint(0, 3, (2, 64, 96))).loss
    loss.backward()
    assert loss.isfinite() and loss > 0


@pytest.mark.parametrize(
    ("noise", "count", "said"), [(-0.1, 0, "below 0"), (0, -1, "below 0"), (0, 10, "only 9 other words")]
)
def test_amounts_that_there_are_not_are_refused(noise, count, said):
    with pytest.raises(InputError, match=said):
        VectorAugmentation(noise, count, WORDS)
