"""What starts gain with few labels, from made-up results."""

import pytest

from lclipseg.lab.comparisons.labels import gains_over_imagenet, table_of_gains


def line(start: str, images: int, seed: int, mean_iou: float, label: str = "default") -> dict:
    place = {"data": "streets", "start": start, "images": images, "seed": seed}
    return {**place, "label": label, "mean_iou": mean_iou}


LINES = [
    *(line("imagenet", 5, seed, 0.4) for seed in (0, 1)),
    *(line("mine", 5, seed, 0.5 + 0.02 * seed) for seed in (0, 1, 2)),
    line("mine", 20, 0, 0.6),
    line("mine", 5, 0, 0.9, label="another rate"),
    line("imagenet-none", 5, 0, 0.3),
]


def test_gains_are_over_pairs_by_the_defaults_alone():
    ((name, by_images),) = gains_over_imagenet(LINES).items()
    assert name == "streets, mine" and list(by_images) == [5]
    assert by_images[5].pairs == 2 and by_images[5].mean == pytest.approx(0.11)


def test_table_of_gains_has_a_column_for_each_number_of_images():
    gains = gains_over_imagenet([*LINES, line("imagenet", 20, 0, 0.55)])
    head, _, row = table_of_gains(gains).splitlines()
    assert head == "| minus imagenet | 5 images | 20 images |"
    assert "+11.00 [" in row and row.endswith("| +5.00 (1 pair, no interval) |")
