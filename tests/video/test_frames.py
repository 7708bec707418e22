"""Frames of files and of live sources, the file of the overlay, smoothing, drawing, and a watched folder."""

import time

import numpy as np
import pytest
import torch
from hostile_names import HOSTILE
from made_videos import StandInDecoder, numbered, plain, read_video
from photos import photo, save_photo
from tiny_model import save_checkpoint
from written_export import write_export

from lclipseg.prediction.checkpoint_segmenter import CheckpointSegmenter
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.video.drawing import OPACITY, Drawing
from lclipseg.video.frames import FileFrames, LiveFrames
from lclipseg.video.overlay_file import OverlayFile
from lclipseg.video.smoothing import SmoothSegmenter
from lclipseg.video.watch import Watched
from modeling_lclipseg.visualization_lclipseg import class_palette


def never() -> bool:
    return False


# -------------------------------------------------------------------------------------------------------------- frames


def test_file_waits_for_a_slow_network():
    source, seen = FileFrames(StandInDecoder(numbered(8))), []
    for frame in source:
        time.sleep(0.002)
        seen.append((frame.index, int(frame.pixels[0, 0, 0])))
    assert seen == [(index, index) for index in range(8)] and source.dropped == 0


def test_live_source_gives_its_newest_frame_and_counts_what_it_drops():
    source, seen = LiveFrames(StandInDecoder(numbered(60), pause=0.002), never), []
    for frame in source:
        seen.append(frame.index)
        assert frame.index == frame.pixels[0, 0, 0]
        time.sleep(0.02)
    source.close()
    assert seen == sorted(seen) and seen[-1] == 59  # the last is not lost
    assert 1 < len(seen) < 40 and len(seen) + source.dropped == 60


def test_live_source_that_hangs_does_not_keep_from_stopping():
    source = LiveFrames(StandInDecoder(numbered(1), pause=0.5), lambda: True)
    assert list(source) == []


def test_times_of_a_variable_rate_are_kept_and_unsaid_ones_follow_the_rate():
    frames = FileFrames(StandInDecoder(numbered(4), times=[0.0, 0.03, 0.5, 0.0]))
    assert [round(frame.seconds, 6) for frame in frames] == [0, 0.03, 0.5, 0.6]


@pytest.mark.parametrize("source", [FileFrames, lambda decoder: LiveFrames(decoder, never)])
def test_broken_frames_are_counted_where_others_follow(source):
    frames = source(StandInDecoder([None, *numbered(1), None, None, *numbered(1), None]))
    assert [frame.index for frame in frames][-1] == 4 and frames.broken == [0, 2, 3]


# ------------------------------------------------------------------------------------------------------- overlay, draw


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([0, 0.1, 0.2], [0, 1, 2]),
        ([0, 0.3, 0.4], [0, 0, 0, 1, 2]),  # a frame stands until the next
        ([0, 0.01, 0.02, 0.5], [0, 1, 2, 2, 2, 3]),  # more than fit: late, and none is left out
    ],
)
def test_overlay_keeps_the_pace_of_its_source(tmp_path, times, shown):
    file = OverlayFile(tmp_path / "a.avi", 10, (32, 16))
    for index, seconds in enumerate(times):
        file.add(np.full((16, 32, 3), 60 * index, dtype=np.uint8), seconds)
    file.close()
    assert [round(frame.mean() / 60) for frame in read_video(tmp_path / "a.avi")] == shown
    assert file.written == len(shown)


@pytest.mark.parametrize("size", [(48, 32), (51, 37)])
def test_drawing_has_even_sides_and_the_colours_of_the_overlay(size):
    (frame,) = plain("red", size=size)
    ids = np.zeros(size[::-1], dtype=np.int32)
    ids[:, 20:] = 2
    drawn = Drawing({0: HOSTILE[0], 2: "x" * 5000}, *size[::-1])(frame, ids)
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0 and drawn.shape[1] > size[0]
    expected = (1 - OPACITY) * frame + OPACITY * class_palette(3)[ids]
    assert np.abs(drawn[: size[1], : size[0]] - expected).max() <= 0.5


def test_panel_shows_the_largest_classes_where_not_all_have_room():
    ids = np.zeros((42, 64), dtype=np.int32)  # room for two
    ids[0, 0] = 97
    drawing = Drawing(dict.fromkeys(range(100), "name"), 42, 64)
    panel = drawing(np.zeros((42, 64, 3), dtype=np.uint8), ids)[:, 64:].reshape(-1, 3)
    assert [(panel == class_palette(100)[index]).all(axis=1).any() for index in (0, 97, 99)] == [True, True, False]


# ----------------------------------------------------------------------------------------------------------- smoothing


class Numbers:
    """Its logits are the mean of the image."""

    id2label = {0: "a"}

    def logits(self, image):
        return np.full((1, 1, 1), np.asarray(image).mean())

    def label_map(self, logits, image):
        return logits[0]


def test_smoothing_is_an_exponential_average():
    segmenter = SmoothSegmenter(Numbers(), 0.75)
    images = [photo(8, 8, seed) for seed in range(3)]
    expected = np.asarray(images[0]).mean()
    assert segmenter.segment(images[0]) == expected
    for image in images[1:]:
        expected = 0.75 * expected + 0.25 * np.asarray(image).mean()
        assert segmenter.segment(image) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["checkpoint", "export"])
def test_label_map_of_logits_is_that_of_the_image(tmp_path, kind):
    if kind == "export":
        segmenter = GraphSegmenter(write_export(tmp_path / "export"))
    else:
        torch.manual_seed(0)
        segmenter = CheckpointSegmenter(str(save_checkpoint(tmp_path / "checkpoint", shortest_edge=32)))
    image = photo(50, 40)
    assert np.array_equal(segmenter.label_map(segmenter.logits(image), image), segmenter.segment(image))


# ------------------------------------------------------------------------------------------------------------- watched


def test_watched_folder_gives_each_image_when_it_is_complete(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    save_photo(folder / "a.png")
    save_photo(out / "a_overlay.png")
    watched = Watched(folder, out)
    assert watched.look() == []  # it may still be in the making
    (job,) = watched.look()
    assert (job.path, job.name) == (folder / "a.png", "a")
    save_photo(folder / "more" / "b.png")
    (folder / "note.txt").write_text("")
    assert watched.look() == []
    assert [job.name for job in watched.look()] == ["more/b"]
    save_photo(folder / "a.png", (60, 20))
    assert [watched.look(), watched.look()] == [[], [job]]  # anew, under its name
    (folder / "a.png").unlink()
    assert [watched.look(), watched.look()] == [[], []]
