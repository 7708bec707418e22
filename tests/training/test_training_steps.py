"""What makes an optimiser step: accumulation, the schedule, and the steps that are left out."""

from collections.abc import Sequence
from itertools import cycle, islice
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lclipseg.console.errors import InputError
from lclipseg.data.samples import Samples
from lclipseg.training.folder import Progress
from lclipseg.training.steps import Schedule, Training, build_optimizer

IGNORED = None  # in place of a number: an image without a labelled pixel
BROKEN = "broken.png: cut short"  # one that cannot be decoded


class Quadratic(nn.Module):
    """A "model" whose loss is the mean of (w - pixel)^2 / 2 over the labelled pixels, so that every step can be worked
    out. It normalises the pixels, too, for the sake of the statistics."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.normalisation = nn.BatchNorm1d(1)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor):
        labelled = labels == 0
        squares = (self.weight - pixel_values) ** 2 / 2 + 0 * self.normalisation(pixel_values)
        return SimpleNamespace(loss=squares[labelled].sum() / labelled.sum().clamp(min=1))


class Numbers(Samples):
    """ "Images" of one pixel: numbers in turn, without end."""

    def __init__(self, values: Sequence[float | str | None]):
        super().__init__(transform=None, seed=0)
        self.values = values

    @property
    def images_per_epoch(self) -> int:
        return len(self.values)

    def batches(self, size, start, process, num_processes):
        positions = cycle(range(len(self.values)))
        return iter(lambda: list(islice(positions, size)), None)

    def __getitem__(self, position: int):
        value = self.values[position]
        labelled = isinstance(value, float)
        return {
            "pixel_values": torch.tensor([value if labelled else 50.0]),
            "labels": torch.tensor([0 if labelled else 255]),
            "unreadable": value if isinstance(value, str) else "",
        }


def quadratic(
    values: Sequence[float | str | None],
    batch_size: int,
    accumulation_steps: int = 1,
    steps: int = 1,
    max_unreadable: float = 0.0,
    **schedule,
) -> Training:
    settings = {"max_grad_norm": 100.0, **schedule}
    plan = Schedule(steps, batch_size, accumulation_steps, 1.0, 1.0, 0.0, 0, 1.0, **settings)
    training = Training(Accelerator(cpu=True), Quadratic(), Numbers(values), plan, 0, max_unreadable)
    training.gradients = []
    training.optimizer.optimizer.register_step_pre_hook(
        lambda *_: training.gradients.append(training.model.weight.grad.item())
    )
    return training


@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(4, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize(
    ("second", "loss", "gradient"), [(2.0, (1 + 4 + 9 + 36) / 8, -3), (IGNORED, (1 + 9 + 36) / 6, -10 / 3)]
)
def test_accumulated_batches_make_the_step_of_one_batch_and_count_by_their_labelled_pixels(
    batch_size, accumulation_steps, second, loss, gradient
):
    training = quadratic((1.0, second, 3.0, 6.0), batch_size, accumulation_steps, batch_norm="frozen")
    (step,) = training.steps(Progress())
    assert step.loss == pytest.approx(loss)
    assert training.gradients == [pytest.approx(gradient)]


def test_gradients_are_clipped():
    training = quadratic((1.0, 2.0, 3.0, 6.0), 4, max_grad_norm=0.5)
    list(training.steps(Progress()))
    assert training.gradients == [pytest.approx(-0.5, rel=1e-4)]


def test_step_without_a_labelled_pixel_changes_nothing():
    training = quadratic((IGNORED, IGNORED, 1.0, 2.0), 2, steps=2)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    progress = Progress()
    assert next(training.steps(progress)).loss == 0
    torch.testing.assert_close(dict(training.model.state_dict()), before, rtol=0, atol=0)
    assert (progress.step, progress.skipped_steps, training.gradients) == (1, 1, [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_step_that_is_not_finite_or_explodes_changes_nothing(bad):
    training = quadratic((1.0, 2.0, bad, 1.0), 2, steps=2, max_loss=1000.0)
    progress = Progress()
    steps = training.steps(progress)
    next(steps)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    moments = {name: value.clone() for name, value in training.optimizer.state[training.model.weight].items()}
    next(steps)
    torch.testing.assert_close(dict(training.model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(dict(training.optimizer.state[training.model.weight]), moments, rtol=0, atol=0)
    assert (progress.step, progress.skipped_steps, progress.skipped_in_a_row) == (2, 1, 1)


def test_training_goes_on_after_a_step_that_was_left_out():
    training = quadratic((float("nan"), 1.0), 1, steps=6, batch_norm="frozen")
    progress = Progress()
    losses = [step.loss for step in training.steps(progress)]
    assert losses[1] > losses[3]
    assert (progress.skipped_steps, progress.skipped_in_a_row) == (3, 0)


def test_run_that_diverges_ends_and_says_what_to_try():
    training = quadratic((float("nan"),), 2, steps=100)
    progress = Progress()
    with pytest.raises(InputError, match=r"20 steps in a row, up to step 20, .*diverged.*--learning_rate"):
        list(training.steps(progress))
    assert progress.step == 19


def test_run_that_sees_no_label_ends_and_says_so():
    with pytest.raises(InputError, match=r"20 steps in a row.*had no labelled pixel.*check-data"):
        list(quadratic((IGNORED,), 2, steps=100).steps(Progress()))


@pytest.mark.parametrize(("batch_norm", "mean", "batches"), [("frozen", 0, 0), ("synced", 0.1 * 1.5, 1)])
def test_statistics_follow_the_batches_unless_they_are_frozen(batch_norm, mean, batches):
    training = quadratic((1.0, 2.0), 2, batch_norm=batch_norm)
    list(training.steps(Progress()))
    assert training.model.normalisation.running_mean.item() == pytest.approx(mean)
    assert training.model.normalisation.num_batches_tracked.item() == batches


def test_unknown_treatment_of_statistics_is_refused():
    with pytest.raises(InputError, match="allowed: synced, frozen"):
        quadratic((1.0,), 1, batch_norm="group")


def test_images_that_cannot_be_decoded_are_counted_and_named_once(caplog):
    training = quadratic((1.0, BROKEN), 2, steps=3, max_unreadable=0.5, batch_norm="frozen")
    progress = Progress()
    with caplog.at_level("WARNING", logger="lclipseg"):
        losses = [step.loss for step in training.steps(progress)]
    assert (progress.unreadable_samples, progress.samples) == (3, 6)
    assert caplog.text.count(BROKEN) == 1
    assert losses[0] == pytest.approx(0.5)


def test_too_many_of_them_end_the_run():
    values = (*[1.0] * 99, BROKEN)
    list(quadratic(values, 10, steps=20, max_unreadable=0.01, batch_norm="frozen").steps(Progress()))
    values = (*[1.0] * 98, BROKEN, BROKEN)
    progress = Progress()
    with pytest.raises(InputError, match=r"2 of the 100 images drawn .*--max_unreadable.*cut short"):
        list(quadratic(values, 10, steps=20, max_unreadable=0.01, batch_norm="frozen").steps(progress))
    assert (progress.step, progress.samples, progress.unreadable_samples) == (9, 90, 0)


def test_schedule_rises_then_falls_to_zero():
    schedule = Schedule(100, 1, 1, 1.0, 1.0, 0.0, warmup_steps=10, power=0.9, max_grad_norm=1.0)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5**0.9)
    assert rates[100] == 0


def test_backbone_learns_slower_and_vectors_do_not_decay(model):
    optimizer = build_optimizer(model, Schedule(10, 1, 1, 0.1, 0.25, 0.5, 0, 1.0, 1.0))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            in_backbone = names.pop(id(parameter)).startswith("backbone.")
            assert group["initial_lr"] == pytest.approx(0.025 if in_backbone else 0.1)
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0)
    assert not names  # every parameter is in a group


# -------------------------------------------------------------------------------------------------- pixels of the loss


class Sampling(Quadratic):
    """A model that notes which pixels of the 4x4 cells it was asked for."""

    def __init__(self):
        super().__init__()
        self.asked: list[int] = []

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor, loss_phase: int | None = None):
        self.asked.append(loss_phase)
        return super().forward(pixel_values, labels)


def asked_phases(steps: int, seed: int = 0, start: int = 0) -> list[int]:
    samples, model = Numbers([1.0, 2.0]), Sampling()
    samples.seed = seed
    plan = Schedule(steps, 2, 2, 1.0, 1.0, 0.0, 0, 1.0, max_grad_norm=100.0)
    training = Training(Accelerator(cpu=True), model, samples, plan, num_workers=0)
    list(training.steps(Progress(step=start)))
    return model.asked


def test_all_batches_of_a_step_take_the_same_pixels_and_sixteen_steps_take_all():
    asked = asked_phases(steps=32)
    assert asked[::2] == asked[1::2]
    assert sorted(asked[:32:2]) == sorted(asked[32::2]) == list(range(16))
    assert asked[:32] != asked[32:]


def test_resumed_run_takes_the_pixels_that_it_would_have_taken():
    assert asked_phases(steps=24, start=9) == asked_phases(steps=24)[2 * 9 :]


def test_runs_of_other_seeds_take_other_pixels():
    assert asked_phases(steps=16, seed=1) != asked_phases(steps=16)
