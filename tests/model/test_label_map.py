"""Label maps from stride-4 logits: the same as enlarging all logits first, without doing so."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modeling_lclipseg import label_map_lclipseg
from modeling_lclipseg.label_map_lclipseg import label_map, with_least_score


def regions(num_classes: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Logits of a few large regions, as those of an image are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, num_classes, max(2, height // 8), max(2, width // 8), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    return 5 * smooth + torch.randn(num_classes, height, width, generator=generator) / 2


def enlarged(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.nn.functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("target", [(128, 160), (200, 99), (37, 50), (1, 1), (7, 640)])
@pytest.mark.parametrize("num_classes", [1, 2, 11, 150])
def test_is_the_argmax_of_the_enlarged_logits(num_classes, target):
    logits = regions(num_classes, 32, 40)
    expected = enlarged(logits, target).argmax(dim=0)
    assert (label_map(logits, (128, 160), target) == expected).float().mean() > 0.999


@pytest.mark.parametrize("shape", [(20, 16, 16), (3, 1, 1), (3, 1, 5), (3, 5, 1), (3, 2, 2)])
def test_noise_of_which_every_cell_is_a_border_is_no_exception(shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    target = (4 * shape[1], 4 * shape[2])
    assert torch.equal(label_map(logits, target, target), enlarged(logits, target).argmax(dim=0))


def test_pixels_that_differ_have_two_classes_equal_up_to_rounding():
    logits = regions(30, 64, 64)
    scores = enlarged(logits, (512, 512))
    found = label_map(logits, (256, 256), (512, 512))
    assert torch.allclose(scores.gather(0, found[None])[0], scores.max(dim=0).values, rtol=0, atol=1e-4)


def test_a_class_that_wins_at_no_corner_can_win_inside():
    logits = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]], [[0.5, 0.5]]])  # (3, 1, 2)
    assert label_map(logits, (4, 8), (4, 8))[0].tolist() == [0, 0, 0, 2, 2, 1, 1, 1]


def test_of_equal_classes_the_lowest_index_wins():
    logits = torch.zeros(5, 3, 3)
    logits[0] = -1
    assert label_map(logits, (12, 12), (20, 20)).unique().tolist() == [1]


@pytest.mark.parametrize("least_score", [-100.0, 1.0, 100.0])
def test_class_of_a_least_score_is_the_highest_exactly_where_all_others_are_lower(least_score):
    logits = regions(6, 16, 16)
    found = label_map(with_least_score(logits[None], least_score)[0], (64, 64), (90, 64))
    highest, best = enlarged(logits, (90, 64)).max(dim=0)
    clear = (highest - least_score).abs() > 1e-4  # of the rest rounding decides
    assert torch.equal(found[clear], best.where(highest >= least_score, torch.tensor(6))[clear])


def test_the_padding_is_left_out():
    logits = regions(6, 16, 16)
    whole = label_map(logits, (64, 64), (64, 64))
    assert torch.equal(label_map(logits, (40, 52), (40, 52)), whole[:40, :52])


@pytest.mark.parametrize("copied, interpolated", [(1, 1), (6 * 24 * 3, 100), (10**9, 10**9)])
def test_does_not_depend_on_the_portions(monkeypatch, copied, interpolated):
    logits = regions(6, 24, 24)
    expected = label_map(logits, (96, 96), (131, 77))
    monkeypatch.setattr(label_map_lclipseg, "MAX_COPIED_VALUES", copied)
    monkeypatch.setattr(label_map_lclipseg, "MAX_INTERPOLATED_VALUES", interpolated)
    assert torch.equal(label_map(logits, (96, 96), (131, 77)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_interpolated_in_single(dtype):
    logits = regions(6, 24, 24).to(dtype)
    assert torch.equal(label_map(logits, (96, 96), (96, 96)), label_map(logits.float(), (96, 96), (96, 96)))


@pytest.mark.parametrize("layout", ["rows apart", "classes last"])
def test_any_memory_layout(layout):
    logits = regions(6, 24, 24)
    other = {
        "rows apart": torch.cat([logits, logits], dim=1)[:, :24],
        "classes last": logits.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    }[layout]
    assert torch.equal(label_map(other, (96, 96), (96, 96)), label_map(logits, (96, 96), (96, 96)))


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            made = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
            self.bytes = max([self.bytes, *(tensor.nbytes for tensor in made)])
        return result


def test_no_tensor_of_all_classes_at_full_size_is_made():
    logits = regions(20, 256, 256)
    with Largest() as largest:
        label_map(logits, (1024, 1024), (2048, 2048))
    assert largest.bytes <= 8 * 2048 * 2048  # the label map itself; the logits at that size would take 0.3 GB
