"""Several data sets in one run: one list of classes by their words, and images drawn in shares."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import Sample, SegmentationData, UnreadableError
from lclipseg.data.mix import MixedClasses, MixedSamples

STREET = ClassList(("sky", "road"), (("sky",), ("road",)))
PARK = ClassList(("street", "tree", "Sky"), (("Road",), ("tree",), ("sky",)))


class Plain(SegmentationData):
    """Image i is of class i alone, and of the grey i."""

    def __init__(self, classes: ClassList, num_images: int):
        super().__init__(classes, [str(index) for index in range(num_images)])

    def _read(self, index: int) -> Sample:
        mask = np.full((2, 3), index % len(self.classes.names), dtype=np.uint8)
        mask[0, 0] = 255
        return Sample(Image.new("RGB", (3, 2), 3 * (index,)), mask, str(index))


def mixed_samples(*lengths: int, transform=lambda *both: both, **options) -> MixedSamples:
    data = [Plain(classes, length) for classes, length in zip((STREET, PARK), lengths, strict=True)]
    return MixedSamples(data, MixedClasses.join([STREET, PARK], ["street", "park"]), transform, seed=3, **options)


def epochs(samples: MixedSamples, number: int) -> list[list[tuple[int, int]]]:
    """Data set and index of the images of so many epochs, in the order in which they are drawn."""
    drawn = (samples.image_at(position) for (position,) in samples.batches(1, 0, 0, 1))
    return [list(islice(drawn, samples.images_per_epoch)) for _ in range(number)]


def test_classes_of_the_same_words_are_one_whatever_they_are_called():
    mixed = MixedClasses.join([STREET, PARK], ["street", "park"])
    assert mixed.classes.names == ("sky", "road", "tree")
    assert mixed.classes.prompts == (("sky",), ("road",), ("tree",))
    assert mixed.ids == ((0, 1), (1, 2, 0))


def test_name_that_stands_for_other_words_gets_the_name_of_its_set():
    lists = [ClassList(("crane",), (("bird",),)), ClassList(("Crane",), (("machine",),))]
    assert MixedClasses.join(lists, ["zoo", "port"]).classes.names == ("crane", "Crane (port)")


def test_several_words_are_compared_as_a_set():
    words = (("sofa", "couch"), ("couch", "sofa"), ("sofa",))
    mixed = MixedClasses.join([ClassList(("sofa",), (one,)) for one in words], ["a", "b", "c"])
    assert (mixed.classes.names, mixed.ids) == (("sofa", "sofa (c)"), ((0,), (0,), (1,)))


def test_more_classes_than_masks_can_number_are_refused():
    names = [tuple(f"{part}{index}" for index in range(128)) for part in "ab"]
    lists = [ClassList(one, tuple((name,) for name in one)) for one in names]
    with pytest.raises(InputError, match="256 classes together; at most 255"):
        MixedClasses.join(lists, ["a", "b"])


@pytest.mark.parametrize(("weights", "expected"), [(None, [7, 13]), ([3, 1], [15, 5])])
def test_every_epoch_has_the_sets_in_their_shares(weights, expected):
    """By default as the square roots of 4 and 16, which are 2 and 4 of 6, of 20 images."""
    samples = mixed_samples(4, 16, weights=weights)
    assert samples.images_per_epoch == 20
    for epoch in epochs(samples, 3):
        assert [sum(index == number for index, _ in epoch) for number in (0, 1)] == expected


def test_images_of_a_set_have_come_equally_often_after_every_epoch():
    drawn = [Counter(), Counter()]
    for epoch in epochs(mixed_samples(4, 16), 7):
        for index, image in epoch:
            drawn[index][image] += 1
        for counts, length in zip(drawn, (4, 16), strict=True):
            times = [counts[image] for image in range(length)]
            assert max(times) - min(times) <= 1


def test_epochs_have_orders_of_their_own():
    first, second = epochs(mixed_samples(4, 16), 2)
    assert first != second


def test_batches_go_on_where_a_resumed_run_begins():
    whole = list(islice(mixed_samples(4, 16).batches(3, 0, 0, 1), 20))
    assert list(islice(mixed_samples(4, 16).batches(3, 8, 0, 1), 12)) == whole[8:]


def test_processes_share_the_batches():
    whole = list(islice(mixed_samples(4, 16).batches(3, 0, 0, 1), 20))
    for process in (0, 1):
        assert list(islice(mixed_samples(4, 16).batches(3, 0, process, 2), 10)) == whole[process::2]


def test_sample_follows_from_its_position_alone():
    def shake(image, mask):
        return image + torch.rand(()), mask

    samples = mixed_samples(4, 16, transform=shake)
    values = [samples[position]["pixel_values"] for position in range(32)]
    assert torch.equal(mixed_samples(4, 16, transform=shake)[31]["pixel_values"], values[31])
    assert len({value.frac().max().item() for value in values}) > 1


@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["read again", "kept"])
def test_labels_are_ids_of_the_joint_list_and_the_own_classes_alone_compete(device):
    samples = mixed_samples(2, 3, device=device)
    for position in range(samples.images_per_epoch):
        index, image = samples.image_at(position)
        ids = ((0, 1), (1, 2, 0))[index]
        sample = samples[position]
        assert sample["class_mask"].tolist() == [number in ids for number in range(3)]
        assert sample["labels"].flatten().tolist() == [255] + 5 * [ids[image]]
        assert sample["pixel_values"].unique().tolist() == [image]


def test_image_that_cannot_be_decoded_has_no_label_and_says_why():
    class Broken(Plain):
        def _read(self, index: int) -> Sample:
            raise UnreadableError("broken.png: cut short")

    mixed = MixedClasses.join([STREET, PARK], ["street", "park"])
    sample = MixedSamples([Broken(STREET, 1), Broken(PARK, 1)], mixed, lambda *both: both, seed=0)[0]
    assert sample["unreadable"] == "broken.png: cut short"
    assert sample["labels"].unique().tolist() == [255] and sample["class_mask"].any()


def test_set_without_images_is_named():
    with pytest.raises(InputError, match="data set 2 of 2 has no image"):
        mixed_samples(3, 0)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, 0], [1, -1]])
def test_weights_of_another_number_or_not_above_0_are_refused(weights):
    with pytest.raises(InputError, match=r"--data_weights is .* one number above 0 for each of 2 data sets"):
        mixed_samples(3, 4, weights=weights)
