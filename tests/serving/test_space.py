"""The Space: what its page does, without the page; that names are only ever text; that its folder is enough."""

import configparser
import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import save_photo
from PIL import Image
from tiny_model import NAMES, save_checkpoint, tiny_model

import modeling_lclipseg
from modeling_lclipseg import LClipSegImageProcessor, WordBank

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "space"))  # its files are in no package

import demo as space
import markup
from checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "scripts" / "space"
SHIPPED = ROOT / "checkpoints" / "lclipseg-mbv3s-everyday"
WIDTH = 32  # of the tiny model's class embeddings
OWN = ", ".join(NAMES)


def save_bank(folder: Path, words, width=WIDTH) -> str:
    vectors = torch.randn(len(words), width, generator=torch.Generator().manual_seed(3))
    WordBank(tuple(words), vectors).save(folder / "words.safetensors")
    return str(folder / "words.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return Checkpoint(str(save_checkpoint(tmp_path_factory.mktemp("checkpoint"), shortest_edge=32)))


@pytest.fixture(scope="module")
def closed(tmp_path_factory) -> Checkpoint:
    return Checkpoint(str(save_checkpoint(tmp_path_factory.mktemp("closed"), tiny_model(guidance="none"), 32)))


@pytest.fixture
def demo(checkpoint, tmp_path) -> space.SegmentationDemo:
    return space.SegmentationDemo(checkpoint, save_bank(tmp_path, ["lamp", "Sky", "<b>x</b>"]))


@pytest.fixture
def photo(tmp_path) -> str:
    return str(save_photo(tmp_path / "photo.png", (60, 40)))


# ------------------------------------------------------------------------------------------------- the list of classes


def test_names_are_separated_by_commas_and_line_breaks():
    assert space.read_names(" sky,road\n traffic  light ,, \r\ncar") == ["sky", "road", "traffic  light", "car"]


@pytest.mark.parametrize("names", [NAMES, ["door, double door", 'a "big" door', 'x, "y"'], ["5' pipe", "it's"]])
def test_written_names_are_read_as_they_were(names):
    assert space.read_names(space.write_names(names)) == names


def test_words_of_the_bank_follow_the_written_ones_and_count_once(demo):
    assert demo.class_list("road, Lamp", ["lamp", "<b>x</b>"]) == ["road", "Lamp", "<b>x</b>"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky, road, Sky", "Duplicate class names: 'sky', 'Sky'"),
        (", ".join(map(str, range(257))), "257 classes; give at most 256"),
        ("x" * 5001, "5,001 letters"),
    ],
)
def test_class_list_that_cannot_be_used(demo, text, message):
    with pytest.raises(ValueError, match=message):
        demo.class_list(text)


def test_bank_offers_the_words_that_are_not_the_models_own(demo):
    assert demo.known_words == ["<b>x</b>", "lamp"]


def test_no_class_stands_for_the_models_own(demo):
    assert demo.class_list(" , ") == NAMES


def test_long_list_of_own_classes_is_offered_rather_than_written(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(space, "SHOWN_CLASSES", 2)
    demo = space.SegmentationDemo(checkpoint, save_bank(tmp_path, ["lamp"]))
    assert (demo.own_text, demo.known_words) == ("", sorted([*NAMES, "lamp"]))


def test_everyday_words_come_with_the_page_for_a_model_of_their_tower(photo):
    demo = space.SegmentationDemo(Checkpoint(str(SHIPPED)))
    assert "airplane" in demo.known_words
    assert demo.segment(photo, "sky, airplane").names == ("sky", "airplane")


def test_everyday_words_are_not_offered_to_a_model_of_another_tower(checkpoint):
    assert space.SegmentationDemo(checkpoint).known_words == []


# -------------------------------------------------------------------------------------------------------- segmentation


def test_own_classes_give_what_the_model_says(demo, photo):
    inputs = demo.image_processor(images=Image.open(photo), return_tensors="pt")
    with torch.no_grad():
        outputs = demo.model(**inputs)
    expected = demo.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 60)])[0]
    np.testing.assert_array_equal(demo.segment(photo, demo.own_text).label_map, expected)


def test_other_classes_leave_the_model_as_it_was(demo, photo):
    names, vectors = dict(demo.model.config.id2label), demo.model.class_embeddings.clone()
    demo.segment(photo, "road, lamp")
    assert demo.model.config.id2label == names
    torch.testing.assert_close(demo.model.class_embeddings, vectors, rtol=0, atol=0)


def test_other_classes_take_their_vectors_from_bank_and_checkpoint(demo, photo, tmp_path):
    changed = copy.deepcopy(demo.model)
    changed.set_classes(
        ["lamp", "road"], torch.stack([demo._bank.lookup(["lamp"])[0], demo.model.class_embeddings[1]])
    )
    with torch.no_grad():
        outputs = changed(**demo.image_processor(images=Image.open(photo), return_tensors="pt"))
    expected = demo.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 60)])[0]
    np.testing.assert_array_equal(demo.segment(photo, "lamp, road").label_map, expected)


def test_own_class_keeps_its_vector_though_the_bank_has_another(checkpoint, demo, photo):
    without_bank = space.SegmentationDemo(checkpoint)
    text = ", ".join(reversed(NAMES))  # not the model's own order, so every name is looked up
    np.testing.assert_array_equal(demo.segment(photo, text).label_map, without_bank.segment(photo, text).label_map)


def test_pixel_below_the_least_score_is_none_of_the_classes(demo, photo):
    result = demo.segment(photo, OWN)
    inputs = demo.image_processor(images=Image.open(photo), return_tensors="pt")
    with torch.no_grad():
        scores = demo.image_processor.post_process_semantic_segmentation(demo.model(**inputs), [(40, 60)], True)
    highest = scores[0].segmentation_scores.amax(0).numpy()
    # Enlarging the highest logit of every cell is no less than the highest of the enlarged ones.
    assert (result.scores >= highest - 1e-2 * np.abs(highest).max()).all()
    least = float(np.median(result.scores))
    kept = result.above(least)
    np.testing.assert_array_equal(kept == space.NO_CLASS, result.scores < least)
    np.testing.assert_array_equal(kept[kept >= 0], result.label_map[kept >= 0])
    assert demo.class_shares(kept, result.id2label)[-1].class_id is None


def test_large_image_is_scaled_down(demo, tmp_path):
    image = demo.segment(str(save_photo(tmp_path / "large.png", size=(2000, 500))), OWN).image
    assert image.size == (1600, 400)


def test_every_stage_is_timed(demo, photo):
    seconds = demo.segment(photo, OWN).seconds
    assert list(seconds) == ["reading", "class embeddings", "preparing", "network", "label map"]
    assert all(taken >= 0 for taken in seconds.values())


def test_drawing_again_runs_no_network(demo, photo, monkeypatch):
    result = demo.segment(photo, OWN)
    monkeypatch.setattr(demo.model, "forward", None)
    faint, strong = demo.draw(result, opacity=0.1), demo.draw(result, opacity=0.9)
    assert faint.size == strong.size == (60, 40)
    assert faint.tobytes() != strong.tobytes()


def test_legend_is_drawn_beside_the_image(demo, photo):
    drawn = demo.draw(demo.segment(photo, OWN), legend=True)
    assert drawn.width * drawn.height > 60 * 40


# ------------------------------------------------------------------------------------------------- what cannot be used


def test_missing_image(demo):
    with pytest.raises(ValueError, match="no image yet"):
        demo.segment(None, OWN)


def test_unreadable_file_is_named_without_its_folder(demo, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^broken\.jpg: not an image"):
        demo.segment(str(tmp_path / "broken.jpg"), OWN)


def test_huge_image_is_refused_before_it_is_decoded(demo, tmp_path, monkeypatch):
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(ValueError, match=r"^huge\.png: 10000 x 5001 pixels are more than the 50,000,000"):
        demo.segment(str(tmp_path / "huge.png"), OWN)


def test_unknown_word_is_named_with_the_closest_known_one(demo, photo):
    with pytest.raises(ValueError, match=r"no vector for 'lamb'.*did you mean 'lamp'"):
        demo.segment(photo, "sky, lamb")


def test_bank_of_another_text_tower(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="16 wide, but this checkpoint takes 32"):
        space.SegmentationDemo(checkpoint, save_bank(tmp_path, ["lamp"], width=16))


def test_closed_model_segments_into_its_own_classes_alone(closed, photo):
    demo = space.SegmentationDemo(closed)
    assert set(np.unique(demo.segment(photo, demo.own_text).label_map)) <= {0, 1, 2}
    with pytest.raises(ValueError, match="bound to the 3 classes"):
        demo.segment(photo, "sky, lamp")


def test_other_kind_of_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    with pytest.raises(ValueError, match="'segformer', not 'lclipseg'"):
        Checkpoint(str(tmp_path))


# -------------------------------------------------------------------------------------------------------------- markup

HOSTILE = "<b onclick='x'>&amp;\"${1+1}{{value}}"


def test_names_are_shown_letter_by_letter(demo):
    shares = demo.class_shares(np.array([[0, 0, 1]]), {0: HOSTILE, 1: "road"})
    shown = markup.shares_table(shares, demo.class_palette(3), [HOSTILE, "road", HOSTILE + "!"])
    for piece in ("<b", "${", "{{", '&amp;"', "'x'"):
        assert piece not in shown


@pytest.mark.parametrize("piece", [markup.notice, lambda text: markup.heading(text, [text], text)])
def test_messages_are_shown_letter_by_letter(piece):
    assert "<b" not in piece(HOSTILE)
    assert "${" not in piece(HOSTILE)


def test_shares_stand_in_order_with_the_classes_not_found(demo):
    names = ["sky", "road", "car"]
    shares = demo.class_shares(np.array([[1, 1, 1, 0]]), dict(enumerate(names)))
    shown = markup.shares_table(shares, demo.class_palette(3), names)
    assert re.findall(r"sky|road|car|[\d.]+ %(?=<)", shown) == ["road", "75.0 %", "sky", "25.0 %", "car"]
    assert "Not found: car" in shown


def test_pixels_of_no_class_are_a_row_of_their_own(demo):
    shares = demo.class_shares(np.array([[1, -1]]), {0: "sky", 1: "road"})
    shown = markup.shares_table(shares, demo.class_palette(2), ["sky", "road"])
    assert shown.index(">road<") < shown.index(f">{markup.NONE_OF_THESE}<") and "Not found: sky" in shown


def test_timings_end_up_in_milliseconds():
    assert "62 ms in all: reading 2.0 · network 60" in markup.timings({"reading": 0.002, "network": 0.06})


# ---------------------------------------------------------------------------------------------------- as a Space alone


@pytest.mark.parametrize("folder", [SPACE, ROOT / "scripts" / "lclipseg" / "endpoint"], ids=lambda path: path.name)
def test_requirements_are_those_of_the_package(folder):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['torch']}".split()
    given = (folder / "requirements.txt").read_text().split()
    assert set(given) == {entry for entry in needed if not entry.startswith(("pyyaml", "rich"))}  # of the commands


def test_readme_and_page_name_the_same_model():
    listed = re.search(r"models:\n  - (\S+)", (SPACE / "README.md").read_text(encoding="utf-8"))
    default = re.search(r'DEFAULT_MODEL = "(.+)"', (SPACE / "app.py").read_text(encoding="utf-8"))
    assert listed and default and listed[1] == default[1]


def test_every_file_is_there():
    """Some are links into the repository, which are followed where the folder is uploaded."""
    assert all(path.exists() for path in SPACE.rglob("*"))


@pytest.mark.slow  # a process of its own reads torch and transformers again
def test_folder_works_without_the_package_by_the_models_own_code(tmp_path):
    """A checkpoint as it is published: weights, and beside them the code that its configuration names."""
    published = tmp_path / "published"
    model = tiny_model()
    model.config.auto_map = {
        "AutoConfig": "configuration_lclipseg.LClipSegConfig",
        "AutoModelForSemanticSegmentation": "modeling_lclipseg.LClipSegForSemanticSegmentation",
    }
    model.save_pretrained(published)
    processor = LClipSegImageProcessor(size={"shortest_edge": 32, "longest_edge": 64})
    processor.auto_map = {"AutoImageProcessor": "image_processing_lclipseg.LClipSegImageProcessor"}
    processor.save_pretrained(published)
    for file in Path(modeling_lclipseg.__file__).parent.glob("*_lclipseg.py"):
        shutil.copy(file, published)
    bank, photo = save_bank(tmp_path, ["lamp"]), str(save_photo(tmp_path / "photo.png", (60, 40)))
    code = f"""
import sys
sys.modules["modeling_lclipseg"] = None  # as if not installed
sys.path.insert(0, {str(SPACE)!r})
from checkpoint import Checkpoint
from demo import SegmentationDemo
demo = SegmentationDemo(Checkpoint({str(published)!r}), {bank!r})
result = demo.segment({photo!r}, "lamp, road")
print(type(demo.model).__module__.split(".")[0], demo.draw(result).size, result.label_map.max() < 2)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.split("\n")[-2:] == ["transformers_modules (60, 40) True", ""], ran.stderr
