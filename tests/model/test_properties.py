"""What holds for any image, mask, class list and prediction, tried on examples that hypothesis makes up.

Every property is a quick test of a few examples, the same ones each time, and a slow one of many more (`-m slow`).
"""

import functools
from collections.abc import Callable
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hostile_names import rendered
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from tiny_model import tiny_model

from lclipseg.console.errors import InputError
from lclipseg.console.markdown import plain
from lclipseg.data.class_list import ClassList
from lclipseg.data.labelled import class_ids
from lclipseg.prediction.metrics import ConfusionMatrix
from modeling_lclipseg import LClipSegImageProcessor
from modeling_lclipseg.class_embeddings_lclipseg import check_class_names, fold_name
from modeling_lclipseg.image_processing_lclipseg import to_image_tensor
from modeling_lclipseg.inputs_lclipseg import to_mask, to_rgb_image
from modeling_lclipseg.opening_lclipseg import open_image

FEW, MANY = 20, 600


def holds_for(**strategies: st.SearchStrategy) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make two tests of a check: one of a few examples, and a slow one of many."""

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            profile = settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            profile(given(**strategies)(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


# --------------------------------------------------------------------------------------------------------- any image


SIDES = st.one_of(st.integers(1, 70), st.sampled_from([1, 600]))
SEEDS = st.integers(0, 2**32 - 1)
IMAGE_MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16"]
FORMATS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "SGI"]
PROCESSORS = [
    LClipSegImageProcessor(**options)
    for options in (
        {"size": {"shortest_edge": 40, "longest_edge": 100}},
        {"size": {"longest_edge": 50}},
        {"size": {"shortest_edge": 20, "longest_edge": 64}, "do_pad": False},
        {"size": {"longest_edge": 60}, "pad_size": {"height": 64, "width": 100}},
        {"do_resize": False},
        {"do_resize": False, "pad_size_divisor": 1},
    )
]


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Height and width, of which not both are large."""
    height, width = draw(SIDES), draw(SIDES)
    return (height, width) if height + width < 1000 else (height, 3)


@st.composite
def images(draw: st.DrawFn) -> Image.Image:
    (height, width), mode = draw(sizes()), draw(st.sampled_from(IMAGE_MODES))
    pixels = noise(draw(SEEDS), height, width, 4)
    if mode == "I;16":
        return Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    if mode in ("P", "PA", "1"):
        return Image.fromarray(pixels[..., 0]).convert(mode)
    count = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), pixels[..., :count].tobytes())


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """An image file of some format with some of its bytes changed, or cut off."""
    file = BytesIO()
    Image.fromarray(noise(draw(SEEDS), 20, 30, 3)).save(file, draw(st.sampled_from(FORMATS)))
    content = bytearray(file.getvalue())
    for place, value in draw(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8)):
        content[place % min(len(content), 300)] = value
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


ARRAYS = npst.arrays(
    st.one_of(npst.integer_dtypes(endianness="?"), npst.unsigned_integer_dtypes(endianness="?"),
              npst.floating_dtypes(endianness="?"), npst.boolean_dtypes(), npst.complex_number_dtypes()),
    npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
)  # fmt: skip


@holds_for(image=images())
def test_image_becomes_a_tensor_of_its_size_that_stays_as_it_is(image):
    tensor = to_image_tensor(image)
    assert tensor.shape == (3, image.height, image.width)
    assert tensor.dtype == torch.uint8
    assert torch.equal(to_image_tensor(tensor), tensor)
    assert torch.equal(to_image_tensor(tensor.permute(1, 2, 0).numpy()), tensor)
    assert torch.equal(to_image_tensor(to_rgb_image(image)), tensor)


@holds_for(array=ARRAYS)
def test_array_is_a_image_or_a_clear_error(array):
    try:
        tensor = to_image_tensor(array)
    except ValueError as error:
        assert "must" in str(error) or "NaN" in str(error)
        return
    assert len(tensor) == 3 and tensor.dtype in (torch.uint8, torch.float32)
    assert 0 <= tensor.min() <= tensor.max() <= (1 if tensor.is_floating_point() else 255)


@holds_for(array=ARRAYS, ignore_index=st.sampled_from([255, -1, 0]))
def test_array_is_a_mask_or_a_clear_error(array, ignore_index):
    try:
        ids = to_mask(array, ignore_index)
    except ValueError as error:
        assert "must" in str(error) or "negative id" in str(error)
        return
    assert ids.ndim == 2 and ids.size == array.size
    assert ((ids >= 0) | (ids == ignore_index)).all()


@holds_for(content=st.one_of(files(), st.binary(max_size=300)))
def test_file_is_a_image_or_an_error_with_its_name(content):
    try:
        tensor = to_image_tensor(open_image(content, max_pixels=10**6, name="some file"))
    except ValueError as error:
        assert str(error).startswith("some file: ")
        return
    assert len(tensor) == 3


@holds_for(shapes=st.lists(sizes(), min_size=1, max_size=3), processor=st.sampled_from(PROCESSORS), seed=SEEDS)
def test_batch_holds_every_image_as_it_is_alone_and_padding_beside_it(shapes, processor, seed):
    assume(processor.do_pad or len(shapes) == 1)
    given_, masks = [noise(seed, *shape, 3) for shape in shapes], [noise(seed, *shape) % 7 for shape in shapes]
    batch = processor(given_, masks, return_tensors="pt")
    assert {batch[key].shape[-2:] for key in ("pixel_values", "labels")} == {processor.sizing.padded(
        [processor.sizing.resized(*shape) for shape in shapes]
    )}  # fmt: skip
    for index, (image, mask) in enumerate(zip(given_, masks, strict=True)):
        alone = processor(image, mask, return_tensors="pt")
        height, width = processor.sizing.resized(*image.shape[:2])
        for key, padding in (("pixel_values", 0), ("labels", processor.ignore_index)):
            rest = batch[key][index].clone()
            assert torch.equal(rest[..., :height, :width], alone[key][0, ..., :height, :width])
            rest[..., :height, :width] = padding
            assert (rest == padding).all()


@holds_for(shape=sizes(), processor=st.sampled_from(PROCESSORS))
def test_resized_image_keeps_its_shape_and_its_bounds(shape, processor):
    height, width = processor.sizing.resized(*shape)
    assert min(height, width) >= 1
    if not processor.do_resize:
        assert (height, width) == shape
        return
    assert max(height, width) <= processor.size["longest_edge"]
    assert abs(height * shape[1] - width * shape[0]) <= max(*shape, height, width)  # one factor, up to a pixel


# ------------------------------------------------------------------------------------------------------------ any mask


@holds_for(
    shape=sizes(),
    processor=st.sampled_from(PROCESSORS),
    ids=st.lists(st.integers(0, 70_000), min_size=1, max_size=9),
    reduce=st.booleans(),
    seed=SEEDS,
)
def test_resized_mask_has_no_other_ids(shape, processor, ids, reduce, seed):
    mask = np.random.default_rng(seed).choice(ids, shape).astype(np.int32)
    labels = processor(noise(seed, *shape, 3), mask, do_reduce_labels=reduce, return_tensors="pt")["labels"]
    kept = {i - 1 if i not in (0, 255) else 255 for i in ids} if reduce else set(ids)
    assert set(labels.unique().tolist()) <= kept | {255}


@holds_for(
    values=npst.arrays(np.int64, npst.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.integers(0, 300)),
    count=st.integers(1, 254),
    ignored=st.none() | st.integers(255, 300),
    reduce=st.booleans(),
)
def test_mask_has_ids_of_classes_or_is_refused(values, count, ignored, reduce):
    classes = ClassList(tuple(map(str, range(count))), tuple(map(str, range(count))), ignored, None, reduce)
    allowed = {value: value - reduce for value in range(reduce, count + reduce)}
    allowed |= {255: 255} | ({ignored: 255} if ignored is not None else {}) | ({0: 255} if reduce else {})
    if set(values.flat) <= set(allowed):
        assert class_ids(values, classes, "mask").tolist() == [[allowed[value] for value in row] for row in values]
    else:
        with pytest.raises(InputError, match="mask holds the id"):
            class_ids(values, classes, "mask")


# ------------------------------------------------------------------------------------------------------ any prediction


@st.composite
def predictions(draw: st.DrawFn) -> SimpleNamespace:
    """Logits of any number of classes for an image of any size, as the network would give them."""
    shape, processor = draw(sizes()), draw(st.sampled_from(PROCESSORS))
    padded = processor.sizing.padded([processor.sizing.resized(*shape)])
    cells = [-(-side // 4) for side in padded]
    count = draw(st.integers(1, min(1000, 2**21 // max(shape[0] * shape[1], cells[0] * cells[1]))))
    generator = torch.Generator().manual_seed(draw(SEEDS))
    logits = torch.randn(1, count, *cells, generator=generator)
    return SimpleNamespace(shape=shape, processor=processor, logits=logits, count=count, generator=generator)


def up_to_rounding(prediction: SimpleNamespace) -> dict[str, float]:
    """Positions in scores are fractions of the whole side, rounded to single precision."""
    return {"atol": 1e-6 * max(100, *prediction.shape), "rtol": 0}


def label_map(prediction: SimpleNamespace, logits: torch.Tensor, **options: Any) -> Any:
    outputs = SimpleNamespace(logits=logits)
    return prediction.processor.post_process_semantic_segmentation(outputs, [prediction.shape], **options)[0]


@holds_for(prediction=predictions())
def test_label_map_has_the_size_of_the_image_and_the_class_of_the_highest_logit(prediction):
    ids = label_map(prediction, prediction.logits)
    assert ids.shape == prediction.shape and ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < prediction.count
    scores = label_map(prediction, prediction.logits, return_segmentation_scores=True).segmentation_scores
    torch.testing.assert_close(scores.gather(0, ids[None])[0], scores.amax(dim=0), **up_to_rounding(prediction))


@holds_for(prediction=predictions())
def test_permuted_logits_give_the_permuted_map(prediction):
    order = torch.randperm(prediction.count, generator=prediction.generator)
    ids, permuted = label_map(prediction, prediction.logits), label_map(prediction, prediction.logits[:, order])
    scores = label_map(prediction, prediction.logits, return_segmentation_scores=True).segmentation_scores
    one, other = (scores.gather(0, chosen[None])[0] for chosen in (ids, order[permuted]))
    torch.testing.assert_close(one, other, **up_to_rounding(prediction))  # the same class, or one that is as good


@holds_for(prediction=predictions())
def test_no_more_than_the_first_cell_of_the_padding_counts(prediction):
    """Up to half of a cell's side lies between the last cell's centre and the edge of the image."""
    disturbed = prediction.logits.clone()
    height, width = (-(-side // 4) + 1 for side in prediction.processor.sizing.resized(*prediction.shape))
    disturbed[..., height:, :] = 1000 * torch.randn(disturbed[..., height:, :].shape, generator=prediction.generator)
    disturbed[..., width:] = 1000 * torch.randn(disturbed[..., width:].shape, generator=prediction.generator)
    assert torch.equal(label_map(prediction, disturbed), label_map(prediction, prediction.logits))


@functools.cache
def model() -> Any:
    return tiny_model()


@holds_for(shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), count=st.integers(1, 1000), seed=SEEDS)
@torch.no_grad()
def test_permuted_classes_permute_the_map_of_the_model(shape, count, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors, order = torch.randn(count, 32, generator=generator), torch.randperm(count, generator=generator)
    pixel_values = PROCESSORS[0](noise(seed, *shape, 3), return_tensors="pt")["pixel_values"]
    logits, permuted = (model()(pixel_values, class_embeddings=rows).logits for rows in (vectors, vectors[order]))
    torch.testing.assert_close(permuted, logits[:, order], atol=1e-3, rtol=1e-3)


# ---------------------------------------------------------------------------------------------------------- any metric


@holds_for(count=st.integers(1, 1000), ignore_index=st.sampled_from([-1, 1000, 70_000]), seed=SEEDS, few=st.booleans())
def test_scores_are_those_of_the_definition_by_sets(count, ignore_index, seed, few):
    random = np.random.default_rng(seed)
    ids = random.choice(count, min(count, 3)) if few else np.arange(count)
    truth, prediction = random.choice([*ids, ignore_index], (2, 9, 7)), random.choice(ids, (2, 9, 7))
    matrix = ConfusionMatrix(count, ignore_index)
    for one, other in zip(prediction, truth, strict=True):
        matrix.update(torch.from_numpy(one), torch.from_numpy(other))
    scores = matrix.scores()
    counted = np.flatnonzero(truth != ignore_index)
    ious, shares = [], []
    for class_id in range(count):
        true = {place for place in counted if truth.flat[place] == class_id}
        found = {place for place in counted if prediction.flat[place] == class_id}
        ious += [len(true & found) / len(true | found)] if true | found else []
        shares += [len(true & found) / len(true)] if true else []
    right = [prediction.flat[place] == truth.flat[place] for place in counted]
    assert scores.num_pixels == len(counted) and scores.num_classes_counted == len(ious)
    for value, expected in ((scores.mean_iou, ious), (scores.mean_accuracy, shares), (scores.pixel_accuracy, right)):
        assert value == pytest.approx(np.mean(expected) if expected else np.nan, nan_ok=True)


# ------------------------------------------------------------------------------------------------------ any class list


TEXTS = st.text(max_size=12)
ALIKE = st.sampled_from(
    ["sky", "Sky", " SKY\t", "traffic light", "Traffic  Light", "straße", "STRASSE", "\u200b", "", "é"]
)


@holds_for(names=st.lists(TEXTS | ALIKE, max_size=5))
def test_class_list_is_stripped_and_unambiguous_or_refused(names):
    try:
        checked = check_class_names(names)
    except ValueError:
        folded = [fold_name(name) for name in names]
        unreadable = any(not name.strip() or not name.strip().isprintable() for name in names)
        assert not names or unreadable or len(set(folded)) < len(folded)
        return
    assert checked == [name.strip() for name in names] == check_class_names(checked)
    assert len({fold_name(name) for name in checked}) == len(checked) > 0
    "".join(checked).encode()  # as every file does that they are written to


@holds_for(name=TEXTS | ALIKE)
def test_folded_name_is_folded(name):
    assert fold_name(fold_name(name)) == fold_name(name) == fold_name(f" \t{name}\n")


@holds_for(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_text_stands_in_a_document_letter_by_letter(name):
    page = rendered(f"# x {plain(name)} x\n\n| a | b |\n|---|---|\n| {plain(name)} | x |\n")
    assert page.tags == {"h1", "table", "thead", "tbody", "tr", "th", "td"}
    shown = "".join(character if character.isprintable() else " " for character in name)
    assert page.text.split().count("x") >= 3 and " ".join(shown.split()) in " ".join(page.text.split())
