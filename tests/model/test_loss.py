"""The loss of a sixteenth of the pixels against that of all, and the classes that an image does not compete among."""

import pytest
import torch
from compiled import Graphs
from tiny_model import RESNET, tiny_model
from transformers.loss.loss_utils import ForSemanticSegmentationLoss

from modeling_lclipseg.heads_lclipseg import HEADS
from modeling_lclipseg.loss_lclipseg import PHASES, draw_phase, segmentation_loss

IGNORED = 255
# Height and width: multiples of 4, none, cut-off cells on both sides, a side that is shorter than a cell.
SIZES = [(32, 48), (33, 47), (38, 41), (35, 64), (3, 9)]
OPTIONS = {"ignore_index": IGNORED, "auxiliary_loss_weight": 0.4}


def score_maps(height: int, width: int, num_classes: int = 5, batch_size: int = 2, stride: int = 16):
    """Logits, auxiliary logits and labels for an image of that size, in double precision."""
    generator = torch.Generator().manual_seed(height * width + num_classes)
    logits, auxiliary = (
        torch.randn(batch_size, num_classes, -(-height // step), -(-width // step), generator=generator).double()
        for step in (4, stride)
    )
    labels = torch.randint(0, num_classes, (batch_size, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORED
    return logits.requires_grad_(), auxiliary.requires_grad_(), labels


def mean_over_phases(*arguments, **options) -> torch.Tensor:
    return torch.stack([segmentation_loss(*arguments, phase=phase, **options) for phase in range(PHASES)]).mean()


def loss_and_gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return loss, *torch.autograd.grad(loss, inputs)


# ---------------------------------------------------------------------------------------------------------- the phases


@pytest.mark.parametrize("num_classes", [1, 5])
@pytest.mark.parametrize("stride", [16, 32])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_mean_over_the_phases_is_the_exact_loss_and_so_is_its_gradient(height, width, stride, num_classes):
    logits, auxiliary, labels = score_maps(height, width, num_classes, stride=stride)
    expected = segmentation_loss(logits, auxiliary, labels, **OPTIONS)
    found = mean_over_phases(logits, auxiliary, labels, **OPTIONS)
    torch.testing.assert_close(
        loss_and_gradients(found, logits, auxiliary),
        loss_and_gradients(expected, logits, auxiliary),
        atol=1e-12,
        rtol=1e-6,
    )


@pytest.mark.parametrize("masked_classes", [False, True])
def test_mean_over_the_phases_is_exact_for_labels_of_another_size_than_the_image(masked_classes):
    logits, auxiliary, labels = masked(21, 100)
    logits, auxiliary, _ = score_maps(32, 48)
    options = {"class_mask": MASK if masked_classes else None, **OPTIONS}
    expected = segmentation_loss(logits, auxiliary, labels, **options)
    torch.testing.assert_close(mean_over_phases(logits, auxiliary, labels, **options), expected, atol=0, rtol=1e-6)


@pytest.mark.parametrize("phase", range(PHASES))
def test_a_phase_is_sixteen_times_the_loss_of_its_pixels_alone(phase):
    logits, _, labels = score_maps(33, 46)
    others = labels.clone()
    others[:, phase // 4 :: 4, phase % 4 :: 4] = IGNORED
    alone = torch.where(others == IGNORED, labels, IGNORED)
    shares = [(given != IGNORED).sum() for given in (alone, labels)]
    expected = segmentation_loss(logits, None, alone, **OPTIONS) * PHASES * shares[0] / shares[1]
    torch.testing.assert_close(segmentation_loss(logits, None, labels, phase=phase, **OPTIONS), expected)


def test_exact_loss_is_that_of_transformers():
    logits, auxiliary, labels = score_maps(33, 47)
    expected = ForSemanticSegmentationLoss(logits, labels, ignore_index=IGNORED, auxiliary_logits=auxiliary)
    torch.testing.assert_close(segmentation_loss(logits, auxiliary, labels, **OPTIONS), expected)


def test_phase_as_a_tensor_is_the_phase_as_a_number():
    logits, auxiliary, labels = score_maps(33, 47)
    found = segmentation_loss(logits, auxiliary, labels, phase=torch.tensor(7), **OPTIONS)
    assert found == segmentation_loss(logits, auxiliary, labels, phase=7, **OPTIONS)


@pytest.mark.parametrize("phase", [None, 0, 15])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_how_logits_lie_in_memory_does_not_matter(phase, memory_format):
    logits, _, labels = score_maps(32, 48)
    given = logits.contiguous(memory_format=memory_format)
    expected = segmentation_loss(logits.contiguous(), None, labels, phase=phase, **OPTIONS)
    torch.testing.assert_close(segmentation_loss(given, None, labels, phase=phase, **OPTIONS), expected)


@pytest.mark.parametrize("phase", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_many_pixels_in_half_precision_do_not_overflow(phase, dtype):
    logits, labels = torch.full((1, 2, 128, 128), 8.0, dtype=dtype), torch.zeros(1, 512, 512, dtype=torch.long)
    loss = segmentation_loss(logits, None, labels, phase=phase, **OPTIONS)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor(2.0).log())


@pytest.mark.parametrize("phase", [-1, 16])
def test_phase_that_is_none_is_refused(phase):
    with pytest.raises(ValueError, match=f"`loss_phase` is {phase}; allowed: 0 to 15"):
        segmentation_loss(*score_maps(32, 48), phase=phase, **OPTIONS)


# ---------------------------------------------------------------------------------------------------- masks of classes


MASK = torch.tensor([[True, False, True, True, False], [True, True, False, True, True]])


def masked(height: int = 33, width: int = 46):
    """Labels are of classes that compete alone."""
    logits, auxiliary, labels = score_maps(height, width)
    for image, mask in zip(labels, MASK, strict=True):
        image[~torch.cat([mask, torch.ones(1, dtype=torch.bool)])[image.clamp(max=5)]] = IGNORED
    return logits, auxiliary, labels


@pytest.mark.parametrize("phase", [None, 6])
def test_masked_loss_is_that_of_the_logits_without_the_masked_classes(phase):
    logits, auxiliary, labels = masked()
    found = segmentation_loss(logits, auxiliary, labels, phase=phase, class_mask=MASK, **OPTIONS)
    total, expected = (labels != IGNORED).sum(), torch.zeros(())
    for image, mask in enumerate(MASK):
        new_ids = torch.full((256,), IGNORED)
        new_ids[: len(mask)][mask] = torch.arange(int(mask.sum()))
        of_image = [values[image : image + 1, mask] for values in (logits, auxiliary)]
        loss = segmentation_loss(*of_image, new_ids[labels[image : image + 1]], phase=phase, **OPTIONS)
        expected = expected + loss * (labels[image] != IGNORED).sum() / total
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("phase", [None, 6])
def test_masked_classes_have_exactly_no_gradient_and_the_others_a_finite_one(phase):
    logits, auxiliary, labels = masked()
    loss = segmentation_loss(logits, auxiliary, labels, phase=phase, class_mask=MASK, **OPTIONS)
    for gradient in torch.autograd.grad(loss, (logits, auxiliary)):
        assert gradient.isfinite().all()
        assert not gradient[~MASK].any()
        assert gradient[MASK].any()


@pytest.mark.parametrize("phase", [None, 6])
def test_image_without_labels_or_classes_has_no_part_in_a_masked_loss(phase):
    logits, auxiliary, labels = masked()
    mask = MASK.clone()
    labels[1], mask[1] = IGNORED, False
    found = segmentation_loss(logits, auxiliary, labels, phase=phase, class_mask=mask, **OPTIONS)
    alone = segmentation_loss(logits[:1], auxiliary[:1], labels[:1], phase=phase, class_mask=mask[:1], **OPTIONS)
    torch.testing.assert_close(found, alone)
    for gradient in torch.autograd.grad(found, (logits, auxiliary)):
        assert gradient.isfinite().all() and not gradient[1].any()


@pytest.mark.parametrize("mask", [torch.ones(2, 5), torch.ones(5, dtype=torch.bool), torch.ones(2, 4).bool()])
def test_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(ValueError, match=r"`class_mask` is torch.* expected torch.bool .* here \(2, 5\)"):
        segmentation_loss(*score_maps(32, 48), class_mask=mask, **OPTIONS)


# ----------------------------------------------------------------------------------------------------------- the model


LABELS = torch.randint(0, 3, (2, 64, 96), generator=torch.Generator().manual_seed(2))


def frozen_norms(**overrides) -> torch.nn.Module:
    """In training mode, but with normalisations and dropout that leave two passes equal."""
    model = tiny_model(**overrides)
    model.training = True
    return model


@pytest.mark.parametrize("guidance", HEADS)
def test_mean_over_the_phases_of_a_model_is_its_exact_loss(guidance, pixel_values):
    model = frozen_norms(guidance=guidance)
    losses = [model(pixel_values, labels=LABELS, loss_phase=phase).loss for phase in range(PHASES)]
    expected = model.eval()(pixel_values, labels=LABELS).loss
    torch.testing.assert_close(torch.stack(losses).mean(), expected, atol=0, rtol=1e-5)


def test_loss_in_eval_mode_is_of_all_pixels_whatever_the_phase(model, pixel_values):
    expected = model(pixel_values, labels=LABELS).loss
    assert model(pixel_values, labels=LABELS, loss_phase=3).loss == expected


def test_phase_is_drawn_by_the_generator_of_the_cpu(pixel_values):
    model = frozen_norms()
    torch.manual_seed(3)
    found = [model(pixel_values, labels=LABELS).loss for _ in range(4)]
    torch.manual_seed(3)
    phases = [draw_phase() for _ in range(4)]
    assert found == [model(pixel_values, labels=LABELS, loss_phase=phase).loss for phase in phases]
    assert len(set(phases)) > 1


def test_prediction_in_training_mode_draws_nothing(pixel_values):
    model, state = frozen_norms(), torch.random.get_rng_state()
    model(pixel_values)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("guidance", HEADS)
def test_mask_changes_a_models_loss_and_not_its_logits(guidance, pixel_values):
    model = tiny_model(guidance=guidance, num_fusion_layers=0)  # a block heeds the mask, see test_fusion.py
    mask = torch.tensor([[True, True, False], [True, True, True]])
    labels = LABELS.clone()
    labels[0] %= 2
    plain = model(pixel_values, labels=labels)
    found = model(pixel_values, labels=labels, class_mask=mask)
    assert torch.equal(found.logits, plain.logits)
    assert found.loss < plain.loss


@pytest.mark.parametrize("guidance", HEADS)
def test_training_compiles_to_one_graph_for_all_phases(guidance, pixel_values, tiny_denseclip):
    model, graphs = tiny_model(guidance=guidance, backbone_config=RESNET).train(), Graphs()
    if guidance == "denseclip":
        model.head.prompting.eval()  # its dropout would draw other numbers
    compiled = graphs.compile(model)
    for seed in range(3):
        losses = []
        for network in (model, compiled):
            torch.manual_seed(seed)
            losses.append(network(pixel_values, labels=LABELS).loss)
        torch.testing.assert_close(*losses)
    assert len(graphs) == 1
