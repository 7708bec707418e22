"""How long the stages of a video take, from a frame in one file to its overlay in another, by an exported graph."""

import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from PIL import Image

from lclipseg.console.errors import InputError
from lclipseg.export.label_map import PIXEL_VALUES
from lclipseg.networks.export_record import LOGITS, MODEL_FILE
from lclipseg.networks.folders import exported_folder
from lclipseg.networks.onnx_graph import open_session
from lclipseg.prediction.graph_segmenter import GraphSegmenter
from lclipseg.video.decoder import open_decoder
from lclipseg.video.overlay_file import OverlayFile
from lclipseg.video.places import find_place
from lclipseg.video.results import ResultPaths
from lclipseg.video.run import VideoRun

FPS = 30.0
GRAPH_ROUNDS = 3  # timings of the graph's parts are taken so many times less often than frames
Seconds = tuple[float, float]  # by the clock, and of the processor in all threads


@dataclass(frozen=True)
class VideoRow:
    """A stage: the medians of what it takes for a frame, in milliseconds."""

    stage: str
    clock_ms: float
    processor_ms: float


def video_rows(export: str, image: Image.Image, height: int, frames: int, threads: int) -> list[VideoRow]:
    """
    Args:
        export (`str`): Folder of an export with a label map.
        image (`PIL.Image.Image`): A photograph. The video moves over it.
        height (`int`): Of the frames, in pixels; their width is 16/9 of it.
        frames (`int`): How many.
        threads (`int`): Of onnxruntime.

    Returns:
        `list[VideoRow]`: the stages in their order, and the whole frame. Those inside of the graph are what a longer
        part of it takes more than a shorter one.

    Raises:
        InputError: another kind of export.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)  # where a segmenter looks how many it may take
    folder = exported_folder(export)
    if folder is None or not (segmenter := GraphSegmenter(folder)).graph.record.label_map:
        raise InputError(f"{export} is no export with a label map; export a checkpoint with --label_map")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source.mp4")
        first = _make_video(source, image, height, frames)
        place = find_place(str(source))
        paths = ResultPaths(Path(scratch, "overlay.mp4"), None, Path(scratch, "shares.csv"))
        run = VideoRun(place, open_decoder(place, 10**9), segmenter, paths, None, lambda: False)
        run.run()
        parts = _parts(folder, segmenter, first, max(2, frames // GRAPH_ROUNDS), threads, Path(scratch))
    stages = run.stages.seconds
    whole = [tuple(map(sum, zip(*frame, strict=True))) for frame in zip(*stages.values(), strict=False)]
    return [
        _row("decode", stages["decode"]),
        *parts,
        *(_row(stage, stages[stage]) for stage in ("draw", "encode", "shares")),
        _row("a whole frame", whole),
    ]


def _make_video(path: Path, image: Image.Image, height: int, frames: int) -> np.ndarray:
    """A camera that sways over a photograph; its first frame, (height, width, 3)."""
    width = round(height * 16 / 9 / 2) * 2
    scale = 1.2 * max(width / image.width, height / image.height)
    scene = np.asarray(image.resize((math.ceil(image.width * scale), math.ceil(image.height * scale))))
    file, first = OverlayFile(path, FPS, (width, height)), scene[:height, :width]
    for index in range(frames):
        sway = 0.5 + 0.5 * math.sin(index / 15), 0.5 + 0.5 * math.cos(index / 25)
        left, top = (round(part * room) for part, room in zip(sway, _room(scene, height, width), strict=True))
        file.add(scene[top : top + height, left : left + width], index / FPS)
    file.close()
    return first


def _room(scene: np.ndarray, height: int, width: int) -> tuple[int, int]:
    return scene.shape[1] - width, scene.shape[0] - height


def _parts(
    folder: Path, segmenter: GraphSegmenter, frame: np.ndarray, rounds: int, threads: int, scratch: Path
) -> list[VideoRow]:
    """The stages inside of the graph."""
    whole = onnx.shape_inference.infer_shapes(onnx.load(folder / MODEL_FILE))
    inputs = [value.name for value in whole.graph.input]
    extractor, times = onnx.utils.Extractor(whole), {}
    ends = {"resize": PIXEL_VALUES, "network": LOGITS, "label map": whole.graph.output[0].name}
    for stage, end in ends.items():
        path = scratch / "part.onnx"
        taken = inputs[:1] if end == PIXEL_VALUES else inputs
        onnx.save(whole if stage == "label map" else extractor.extract_model(taken, [end]), path)
        session, feed = open_session(path, threads), _feed(segmenter, frame)
        times[stage] = [_timed(session, {name: feed[name] for name in taken}) for _ in range(rounds)]
    rows, before = [], VideoRow("", 0.0, 0.0)
    for stage, seconds in times.items():
        until = _row(stage, seconds)
        clock, processor = until.clock_ms - before.clock_ms, until.processor_ms - before.processor_ms
        rows.append(VideoRow(stage, round(clock, 3), round(processor, 3)))
        before = until
    return rows


def _feed(segmenter: GraphSegmenter, frame: np.ndarray) -> Mapping[str, np.ndarray]:
    names = [value.name for value in segmenter.graph.session.get_inputs()]
    words = segmenter.graph.words
    vectors = [] if words is None else [words.class_embeddings]
    return dict(zip(names, [np.ascontiguousarray(frame), *vectors], strict=True))


def _timed(session: Any, feed: Mapping[str, np.ndarray]) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    session.run(None, feed)
    return time.perf_counter() - clock, time.process_time() - processor


def _row(stage: str, seconds: Sequence[Any]) -> VideoRow:
    clock, processor = (1000 * median(kind) for kind in zip(*seconds, strict=True))
    return VideoRow(stage, round(clock, 3), round(processor, 3))


__all__ = ["VideoRow", "video_rows"]
