"""Training samples: image and mask move together, and what is drawn follows from seed and position alone."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from lclipseg.data.augmentation import RandomScaledCrop, training_transform
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import Sample, SegmentationData
from lclipseg.data.samples import PositionSampler, TrainingSamples
from modeling_lclipseg import LClipSegImageProcessor

GREY = (0.5, 0.5, 0.5)


class Blocks(SegmentationData):
    """Images whose every pixel's colour is ten times its class id."""

    def __init__(self, num_images: int = 5, size: tuple[int, int] = (40, 60)):
        names = tuple("abcdefgh")
        super().__init__(ClassList(names, names), [str(i) for i in range(num_images)])
        self.size = size

    def _read(self, index: int) -> Sample:
        blocks = np.random.default_rng(index).integers(0, 8, (4, 6), dtype=np.uint8)
        mask = np.kron(blocks, np.ones((self.size[0] // 4, self.size[1] // 6), dtype=np.uint8))
        return Sample(Image.fromarray(np.stack(3 * [10 * mask], axis=-1)), mask, str(index))


def samples(seed: int = 0, device: torch.device | None = None) -> TrainingSamples:
    transform = training_transform((32, 48), None, (0.5, 2.0), 0.75, GREY, GREY)
    return TrainingSamples(Blocks(), transform, seed, device)


def as_tensors(sample: Sample) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)
    return tv_tensors.Image(pixels), tv_tensors.Mask(torch.from_numpy(sample.mask)[None])


def test_crops_have_the_asked_size_and_types():
    sample = samples()[3]
    assert sample["pixel_values"].shape == (3, 32, 48)
    assert sample["pixel_values"].dtype == torch.float32
    assert sample["labels"].shape == (32, 48)
    assert sample["labels"].dtype == torch.int64


def test_image_and_mask_stay_together():
    crop = RandomScaledCrop((24, 36), scale=(0.5, 2.0), fill=(255, 255, 255))
    for index in range(20):
        torch.manual_seed(index)
        image, mask = crop(*as_tensors(Blocks()[index % 5]))
        labelled = mask[0] != 255
        difference = (image[0].int() - 10 * mask[0].int()).abs()[labelled]
        assert (difference <= 1).float().mean() > 0.6  # the rest is blended at the edges of the blocks


@pytest.mark.parametrize("size", [(40, 60), (80, 120)])
def test_images_of_any_size_are_brought_to_the_same_scale(size):
    sample = Blocks(size=size)[0]
    crop = RandomScaledCrop((20, 30), shortest_edge=20, scale=(1.0, 1.0), max_class_share=1.0)
    (mask,) = crop(tv_tensors.Mask(torch.from_numpy(sample.mask)[None]))
    expected = np.kron(sample.mask[:: size[0] // 4, :: size[1] // 6], np.ones((5, 5), dtype=np.uint8))
    torch.testing.assert_close(mask.as_subclass(torch.Tensor), torch.from_numpy(expected))


def test_padding_is_ignored_and_has_the_fill_colour():
    crop = RandomScaledCrop((80, 120), scale=(0.5, 0.5), fill=(200, 200, 200))
    image, mask = crop(*as_tensors(Blocks()[0]))
    ignored = mask[0] == 255
    assert ignored.sum() == 80 * 120 - 20 * 30
    assert (image[0][ignored] == 200).float().mean() > 0.95


def test_mask_does_not_lag_behind_the_image():
    ramp = np.tile(np.arange(240, dtype=np.uint8), (240, 1))
    crop = RandomScaledCrop((60, 60), scale=(0.25, 0.25), max_class_share=1.0)
    image, mask = crop(tv_tensors.Image(torch.from_numpy(ramp)[None]), tv_tensors.Mask(torch.from_numpy(ramp)[None]))
    assert (image.float() - mask.float()).abs().mean() <= 1  # of 4 pixels that become one, one in the middle


def test_colours_keep_their_names():
    """Jitter changes shades; it must not turn the sky red, as a permutation of the channels would."""

    class Red(Blocks):
        def _read(self, index: int) -> Sample:
            return Sample(Image.new("RGB", (60, 40), (200, 60, 60)), np.zeros((40, 60), dtype=np.uint8), str(index))

    transform = training_transform((32, 48), None, (1.0, 1.0), 1.0, GREY, GREY)
    for position in range(40):
        red, green, blue = TrainingSamples(Red(), transform, 0)[position]["pixel_values"].mean((1, 2))
        assert red > green + 0.2
        assert red > blue + 0.2


def test_training_and_inference_see_the_same_image():
    """Without anything random, a training sample equals what the image processor makes of the image."""
    sample = Blocks(size=(160, 240))[0]
    crop = RandomScaledCrop((80, 120), shortest_edge=80, scale=(1.0, 1.0), max_class_share=1.0)
    transform = v2.Compose(
        [crop, v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True), v2.Normalize(GREY, GREY)]
    )
    image, mask = transform(*as_tensors(sample))
    processor = LClipSegImageProcessor(size={"shortest_edge": 80}, image_mean=GREY, image_std=GREY, pad_size_divisor=1)
    expected = processor(sample.image, sample.mask, return_tensors="pt")
    torch.testing.assert_close(image.as_subclass(torch.Tensor), expected["pixel_values"][0], atol=0.01, rtol=0)
    assert torch.equal(mask[0].as_subclass(torch.Tensor).long(), expected["labels"][0])


def test_labels_are_never_blended():
    for position in range(20):
        assert set(samples()[position]["labels"].unique().tolist()) <= {*range(8), 255}


def test_crop_full_of_one_class_is_drawn_again():
    mask = torch.zeros(1, 40, 200, dtype=torch.uint8)
    mask[:, :, 180:] = 1
    crop = RandomScaledCrop((40, 40), scale=(1.0, 1.0), max_class_share=0.75)
    torch.manual_seed(0)
    mixed = [crop.make_params([tv_tensors.Mask(mask)])["left"] > 140 for _ in range(100)]
    crop.max_class_share = 1.0
    plain = [crop.make_params([tv_tensors.Mask(mask)])["left"] > 140 for _ in range(100)]
    assert sum(mixed) > 2 * sum(plain)


def test_same_seed_and_position_give_the_same_sample():
    torch.manual_seed(1)
    one = samples()[7]
    torch.manual_seed(2)
    other = samples()[7]
    assert all(torch.equal(other[name], one[name]) for name in ("pixel_values", "labels"))


def test_another_seed_or_repetition_gives_another_sample():
    one = samples()[2]["pixel_values"]
    assert not torch.equal(samples()[7]["pixel_values"], one)  # the same image, next repetition
    assert not torch.equal(samples(seed=1)[2]["pixel_values"], one)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_images_kept_on_a_device_give_the_same_samples(device):
    kept, read = samples(device=torch.device(device)), samples()
    for position in (0, 5, 10, 0):  # one image, augmented anew each time
        torch.testing.assert_close(
            kept[position]["pixel_values"].cpu(), read[position]["pixel_values"], atol=0.03, rtol=0
        )
        torch.testing.assert_close(kept[position]["labels"].cpu(), read[position]["labels"])


def test_images_kept_on_a_device_are_read_once(monkeypatch):
    reads = []
    monkeypatch.setattr(
        Blocks, "_read", lambda self, index, real=Blocks._read: reads.append(index) or real(self, index)
    )
    kept = samples(device=torch.device("cpu"))
    for position in range(15):
        kept[position]
    assert sorted(reads) == [0, 1, 2, 3, 4]


def test_drawing_a_sample_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    samples()[0]
    torch.testing.assert_close(torch.rand(4), expected)


def test_every_repetition_takes_every_image_once():
    positions = list(islice(PositionSampler(num_images=5, seed=0), 15))
    for repetition in range(3):
        assert sorted(positions[5 * repetition : 5 * repetition + 5]) == list(
            range(5 * repetition, 5 * repetition + 5)
        )
    assert [p % 5 for p in positions[:5]] != [p % 5 for p in positions[5:10]]


@pytest.mark.parametrize("start", [0, 3, 5, 11])
def test_a_resumed_order_is_the_rest_of_the_whole(start):
    whole = list(islice(PositionSampler(5, seed=4), 12))
    assert list(islice(PositionSampler(5, seed=4, start=start), 12 - start)) == whole[start:]


def test_crops_around_classes_show_a_rare_one_as_often_as_the_others():
    mask = torch.zeros(1, 60, 80, dtype=torch.uint8)
    mask[0, 50:52, 70:72] = 1  # 4 of 4,800 pixels
    crop = RandomScaledCrop((16, 16), scale=(1.0, 1.0), class_centred=1.0)
    torch.manual_seed(0)
    seen = sum(bool((crop(tv_tensors.Mask(mask)) == 1).any()) for _ in range(200))
    assert seen > 70  # half of them, and those of the other class that happen to; 70 is 4 deviations below 100


@pytest.mark.parametrize("size", [(16, 16), (100, 120)])
def test_crop_around_a_class_holds_it_at_any_size(size):
    mask = torch.full((1, 60, 80), 255, dtype=torch.uint8)
    mask[0, 3, 77] = 5
    crop = RandomScaledCrop(size, scale=(1.0, 1.0), class_centred=1.0)
    assert all(bool((crop(tv_tensors.Mask(mask)) == 5).any()) for _ in range(20))
