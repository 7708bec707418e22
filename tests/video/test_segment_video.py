"""`lclipseg segment` with videos: what is written, and what is refused."""

import csv
import re
import signal
import time

import numpy as np
import pytest
from hostile_names import HOSTILE
from made_videos import StandInDecoder, break_frame, plain, read_video, turn_clockwise, write_video
from photos import save_photo
from PIL import Image
from written_export import write_export

from lclipseg.commands import segment
from lclipseg.console.errors import InputError
from lclipseg.console.extras import missing_library
from lclipseg.console.stop import StopRequest
from lclipseg.video.drawing import Drawing
from lclipseg.video.places import Place, find_place, is_moving
from lclipseg.video.results import ResultPaths, SharesTable
from lclipseg.video.run import VideoRun


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two exports that tell red, green and blue: one of label maps, one of logits."""
    folder = tmp_path_factory.mktemp("exports")
    return {kind: write_export(folder / kind, label_map=kind == "maps") for kind in ("maps", "logits")}


@pytest.fixture
def run(exports, tmp_path, monkeypatch):
    """Run the command in a folder of its own; its results go to `out`."""
    monkeypatch.chdir(tmp_path)

    def run_(*arguments, kind="maps"):
        given = [*map(str, arguments), "--model", str(exports[kind]), "--out", "out"]
        return segment.main(*segment.parse(given))

    return run_


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --------------------------------------------------------------------------------------------------------- the results


def test_every_frame_of_a_file_is_in_overlay_masks_and_shares(run, tmp_path, capsys):
    write_video(tmp_path / "drive.mp4", plain("red", "green", "blue"))
    assert run("drive.mp4", "--outputs", "overlay", "masks", "shares", "--timing") == 0
    out = tmp_path / "out"
    assert [(row["frame"], row["seconds"]) for row in rows(out / "drive_shares.csv")] == [
        ("0", "0.000"), ("1", "0.100"), ("2", "0.200")
    ]  # fmt: skip
    assert [max(("red", "green", "blue"), key=row.get) for row in rows(out / "drive_shares.csv")] == [
        "red", "green", "blue"
    ]  # fmt: skip
    masks = [np.asarray(Image.open(path)) for path in sorted((out / "drive_masks").iterdir())]
    assert [mask[16, 24] for mask in masks] == [0, 1, 2] and masks[0].shape == (32, 48)
    overlay = read_video(out / "drive_overlay.mp4")
    assert len(overlay) == 3 and overlay[0].shape[0] == 32
    said = capsys.readouterr().out
    assert said.startswith("drive.mp4: 3 frames in ")
    assert re.findall(r"(?m)^(\w+) +[\d.]+ +[\d.]+$", said) == [
        "decode", "segment", "draw", "encode", "masks", "shares"
    ]  # fmt: skip


def test_video_of_a_phone_stands_upright(run, tmp_path):
    left_green = plain("red")[0]
    left_green[:, :24] = (0, 255, 0)
    turn_clockwise(write_video(tmp_path / "phone.mp4", [left_green] * 2))
    assert run("phone.mp4", "--outputs", "masks") == 0
    mask = np.asarray(Image.open(tmp_path / "out" / "phone_masks" / "000000.png"))
    assert mask.shape == (48, 32)
    assert [mask[row, 16] for row in (8, 40)] == [1, 0]  # left is on top


def test_broken_frame_in_the_middle_is_left_out_and_named(run, tmp_path, capsys):
    break_frame(write_video(tmp_path / "drive.avi", plain("red", "green", "blue", "red")), 2)
    assert run("drive.avi") == 0
    assert "3 frames" in (said := capsys.readouterr().out) and "1 broken and left out (frame 2)" in said
    assert [row["frame"] for row in rows(tmp_path / "out" / "drive_shares.csv")] == ["0", "1", "3"]


def test_limit_several_files_and_a_format_of_ones_own(run, tmp_path):
    for name in ("a.mp4", "b.mkv"):
        write_video(tmp_path / name, plain("red", "green", "blue"))
    assert run("*.mp4", "*.mkv", "--limit", "2") == 0
    assert [len(read_video(tmp_path / "out" / f"{name}_overlay.mp4")) for name in "ab"] == [2, 2]
    assert run("a.mp4", "--outputs", "overlay", "--overlay", "made/own.avi") == 0
    assert len(read_video(tmp_path / "made" / "own.avi")) == 3


def test_scores_are_smoothed_over_the_frames_of_one_video(run, tmp_path):
    write_video(tmp_path / "a.avi", plain("red", "green", "green"))
    write_video(tmp_path / "b.avi", plain("green"))
    assert run("a.avi", "b.avi", "--smooth", "0.6", "--outputs", "shares", kind="logits") == 0
    # Of red, green after one green frame: 0.6, 0.4; after two: 0.36, 0.64. Another video begins anew.
    assert [float(row["red"]) > 0.5 for row in rows(tmp_path / "out" / "a_shares.csv")] == [True, True, False]
    assert [float(row["red"]) > 0.5 for row in rows(tmp_path / "out" / "b_shares.csv")] == [False]


def test_pixels_of_no_class_count_in_no_share_and_keep_their_colour(tmp_path):
    names, ids = {0: "red", 1: "green"}, np.array([[-1, 0], [-1, 1]])
    table = SharesTable(tmp_path / "a.csv", names)
    table.add(0, 0.0, ids)
    table.close()
    assert [rows(tmp_path / "a.csv")[0][name] for name in names.values()] == ["0.2500", "0.2500"]
    frame = np.full((2, 2, 3), 90, dtype=np.uint8)
    assert ((Drawing(names, 2, 2)(frame, ids)[:2, :2] == 90).all(axis=2) == (ids < 0)).all()


def test_class_with_any_name_has_a_column_of_its_own(tmp_path):
    names = dict(enumerate([*HOSTILE, "frame", "a, b"]))
    table = SharesTable(tmp_path / "a.csv", names)
    table.add(0, 0.0, np.zeros((2, 2), dtype=np.int32))
    table.close()
    (row,) = rows(tmp_path / "a.csv")
    assert len(row) == 2 + len(names) and row[HOSTILE[0]] == "1.0000" and row["frame (class)"] == "0.0000"


# ----------------------------------------------------------------------------------------------------- what ends early


class Colours:
    """Segments by the brightest channel, and does something before each frame."""

    id2label = {0: "red", 1: "green", 2: "blue"}

    def __init__(self, before=lambda frame: None):
        self.before, self.frames = before, 0

    def segment(self, image, mode="whole"):
        self.before(self.frames)
        self.frames += 1
        return np.asarray(image).argmax(axis=2).astype(np.int32)


def video_run(decoder, segmenter, folder, is_stopped=lambda: False, given="x.mp4") -> VideoRun:
    paths = ResultPaths(folder / "overlay.mp4", None, folder / "shares.csv")
    return VideoRun(Place(given, "x", "x.mp4"), decoder, segmenter, paths, None, is_stopped)


def test_ctrl_c_finishes_the_frame_and_leaves_files_that_can_be_used(tmp_path):
    decoder = StandInDecoder(plain(*["red"] * 50))
    with StopRequest("this frame") as stop:
        segmenter = Colours(lambda frame: signal.raise_signal(signal.SIGINT) if frame == 3 else None)
        run = video_run(decoder, segmenter, tmp_path, lambda: stop.signal is not None)
        run.run()
    assert run.summary().startswith("x.mp4: 4 frames in ") and decoder.closed
    assert len(read_video(tmp_path / "overlay.mp4")) == len(rows(tmp_path / "shares.csv")) == 4


def test_failure_leaves_files_that_can_be_used(tmp_path):
    frames = plain("red", "red") + plain("red", size=(64, 32))
    with pytest.raises(InputError, match=r"change from 48 x 32 to 64 x 32 pixels at frame 2"):
        video_run(StandInDecoder(frames), Colours(), tmp_path).run()
    assert len(read_video(tmp_path / "overlay.mp4")) == len(rows(tmp_path / "shares.csv")) == 2


def test_no_frame_is_an_error_that_writes_nothing(tmp_path):
    with pytest.raises(InputError, match=r"x\.mp4: no frame of it can be decoded"):
        video_run(StandInDecoder([None]), Colours(), tmp_path / "out").run()
    assert not (tmp_path / "out").exists()


def test_end_before_the_promised_one_is_told(tmp_path):
    run = video_run(StandInDecoder(plain("red", "red"), count=30), Colours(), tmp_path)
    run.run()
    assert "its end is 28 frames earlier than it promises" in run.summary()


@pytest.mark.parametrize(("count", "dropped"), [(None, True), (6, False)])
def test_address_with_an_end_is_a_file_of_which_no_frame_is_dropped(tmp_path, count, dropped):
    segmenter = Colours(lambda frame: time.sleep(0.05))
    run = video_run(StandInDecoder(plain(*["red"] * 6), count=count), segmenter, tmp_path, given="http://host/x")
    run.run()
    assert (segmenter.frames < 6) == dropped == (" dropped" in run.summary())


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.mp4"], r"gone\.mp4: there is no such file"),
        (["*.mov"], r"\*\.mov: no file matches"),
        (["ftp://host/a.mp4"], r"begins with ftp:// is not known; allowed are http, "),
        (["text.mp4", "--overlay", "a.gif"], r"none of the suffixes \.mp4, "),
        (["text.mp4", "--overlay", "a.mp4", "--outputs", "masks"], r"needs overlay among --outputs"),
        (["text.mp4", "text.avi"], r"would have results of one name"),
        (["text.mp4", "a.png"], r"a\.png and videos in one call"),
        (["0", "text.mp4"], r"camera 0 has no end"),
        (["done.mp4"], r"done_shares\.csv exists already; give another --out"),
        (["text.mp4", "--smooth", "1"], r"--smooth is 1\.0; give a number from 0"),
        (["text.mp4", "--smooth", "0.5", "--mode", "slide"], r"--smooth goes with --mode whole"),
        (["text.mp4", "--limit", "0"], r"--limit is 0"),
        (["text.mp4", "--annotations", "coco"], r"--annotations is for images"),
        (["a.png", "--smooth", "0.5"], r"--smooth is for videos and cameras, and these are images"),
        (["a.png", "--outputs", "masks"], r"--outputs is for videos"),
        (["a.png", "--watch"], r"--watch watches one folder, and a\.png is none"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(run, tmp_path, arguments, said):
    for name in ("text.mp4", "text.avi", "done.mp4"):
        (tmp_path / name).write_text("no video")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "done_shares.csv").write_text("")
    save_photo(tmp_path / "a.png")
    with pytest.raises(InputError, match=said) as error:
        run(*arguments)
    assert "\n" not in str(error.value)


def test_video_that_cannot_be_opened_is_reported_and_the_others_go_on(run, tmp_path, capsys):
    (tmp_path / "a.mp4").write_text("no video")
    write_video(tmp_path / "b.mp4", plain("red"))
    assert run("a.mp4", "b.mp4") == 1
    printed = capsys.readouterr()
    assert printed.err == "failed: a.mp4: not a video, or of a format that OpenCV does not read\n"
    assert printed.out.startswith("b.mp4: 1 frames")


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ("63", [], "there is no camera 63 that can be opened"),
        ("big.mp4", ["--max_pixels", "99"], "1,536 pixels, more than --max_pixels 99"),
        ("big.mp4", ["--smooth", "0.5"], "gives label maps, without the scores of all classes to average"),
        ("rtsp://me:secret@127.0.0.1:9/a?key=secret", [], "rtsp://127.0.0.1:9/a: no video comes from this address"),
    ],
)
def test_source_that_cannot_be_used_is_named_without_its_password(run, tmp_path, capsys, given, options, said):
    write_video(tmp_path / "big.mp4", plain("red"))
    assert run(given, *options) == 1
    printed = capsys.readouterr()
    assert said in printed.err and "secret" not in printed.err + printed.out


def test_window_is_refused_where_none_can_be(run, tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", plain("red"))
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match=r"^--show needs (a display|tkinter)"):
        run("a.mp4", "--show")


def test_library_that_decodes_is_an_extra():
    assert missing_library("this", "cv2") == (
        'this needs the library cv2, which is not installed: pip install "lclipseg[video]"'
    )


# -------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("0", Place(0, "camera0", "camera 0")),
        ("/dev/video2", Place(2, "camera2", "camera 2")),
        ("rtsp://a:b@cam:554/x/1?k=2", Place("rtsp://a:b@cam:554/x/1?k=2", "cam-x-1", "rtsp://cam:554/x/1")),
        ("http://host/", Place("http://host/", "host", "http://host/")),
    ],
)
def test_cameras_and_addresses_are_known_by_how_they_are_written(given, place):
    assert is_moving(given) and find_place(given) == place


@pytest.mark.parametrize("given", ["photos", "a.png", "7"])
def test_folders_and_images_are_no_videos(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    assert not is_moving(given)
