"""From a video or a camera to its results, frame by frame."""

import glob
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from statistics import median
from typing import Any

from PIL import Image

from lclipseg.console import errors as cli
from lclipseg.console.errors import InputError
from lclipseg.console.stop import StopRequest
from lclipseg.data.files import named
from lclipseg.prediction.files import make_folder, print_failures
from lclipseg.prediction.open import ImageSegmenter, open_segmenter
from lclipseg.video.arguments import VideoArguments
from lclipseg.video.decoder import Decoder, open_decoder
from lclipseg.video.frames import FileFrames, Frame, LiveFrames
from lclipseg.video.outputs import Outputs
from lclipseg.video.places import Place, find_place, is_moving
from lclipseg.video.results import ResultPaths
from lclipseg.video.smoothing import SmoothSegmenter
from lclipseg.video.stages import KEPT, Stages
from lclipseg.video.window import Window

RECENT = 30  # frames that the rate is shown of


def segment_videos(inputs: Sequence[str], args: VideoArguments) -> int:
    """
    Segment videos one after the other, or one camera, and write the results.

    Args:
        inputs (sequence of `str`): Files, glob patterns, numbers of cameras, addresses.
        args ([`VideoArguments`]): The options.

    Returns:
        `int`: the exit status: 0, or 1 if any video could not be segmented.

    Raises:
        InputError: images among the inputs, options that do not go together, or a model, a class or a word bank that
            cannot be used.
    """
    args.check_for_videos(next(filter(is_moving, inputs)))
    out = Path(args.out).expanduser()
    jobs = _jobs(inputs, out, args)
    names = None if args.classes is None else args.classes.split(",")
    given = f"--classes {args.classes!r}"
    segmenter: Any = open_segmenter(args.model, args.revision, names, args.bank, given, args.least_score)
    make_folder(out)
    window = Window("lclipseg") if args.show else None
    failures: list[str] = []
    with StopRequest("this frame") as stop:

        def is_stopped() -> bool:
            return stop.signal is not None or (window is not None and window.closed)

        for place, paths in jobs:
            if is_stopped():
                break
            smooth = SmoothSegmenter(segmenter, args.smooth) if args.smooth else segmenter
            try:
                decoder = open_decoder(place, args.max_pixels)
                run = VideoRun(place, decoder, smooth, paths, window, is_stopped)
                run.run(args.mode, args.limit)
            except (ValueError, OSError) as error:
                failures.append(cli.naming(place.shown, error))
                continue
            ended_by = "" if stop.signal is None else f"; {Signals(stop.signal).name} ended it"
            print(cli.printable(run.summary() + ended_by))
            if args.timing:
                print("\n".join(run.stages.table()))
    if window is not None:
        window.close()
    print_failures(failures)
    return 1 if failures else 0


def _jobs(inputs: Sequence[str], out: Path, args: VideoArguments) -> list[tuple[Place, ResultPaths]]:
    """The videos, each with where its results go."""
    if images := [given for given in inputs if not is_moving(given)]:
        raise InputError(f"{named(images)} and videos in one call: segment images and videos in a call of their own")
    places = [place for given in inputs for place in _matches(given)]
    live = [place.shown for place in places if not place.is_file]
    if live and len(places) > 1:
        raise InputError(f"{live[0]} has no end, so that nothing can come after it: give it by itself")
    if args.overlay is not None and len(places) > 1:
        raise InputError(f"--overlay {args.overlay} is one file, and there are {len(places)} videos; leave it out")
    taken: dict[str, str] = {}
    for place in places:
        other = taken.setdefault(place.name.casefold(), place.shown)
        if other != place.shown:
            raise InputError(f"{other} and {place.shown} would have results of one name; give another --out to one")
    return [(place, ResultPaths.of(place, out, args)) for place in places]


def _matches(given: str) -> Iterator[Place]:
    if "://" in given or not glob.has_magic(given) or Path(given).exists():
        yield find_place(given)
        return
    files = sorted(glob.glob(given, recursive=True))
    if not files:
        raise InputError(f"{given}: no file matches")
    yield from map(find_place, files)


@dataclass
class VideoRun:
    """
    One video, from its first frame to its last.

    Args:
        place ([`Place`]): Where it comes from.
        decoder ([`Decoder`]): What decodes it; closed at the end.
        segmenter ([`ImageSegmenter`]): What gives the label maps.
        paths ([`ResultPaths`]): Where the results go.
        window ([`Window`], *optional*): Where the overlay is shown.
        is_stopped (`Callable[[], bool]`): Asked after every frame.
    """

    place: Place
    decoder: Decoder
    segmenter: ImageSegmenter
    paths: ResultPaths
    window: Window | None
    is_stopped: Callable[[], bool]
    stages: Stages = field(default_factory=Stages)
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))  # seconds from image to label map
    done: int = 0  # frames

    def __post_init__(self) -> None:
        # An address with an end is a file, of which no frame is dropped.
        self._is_live = not self.place.is_file and self.decoder.count is None
        self._source: Any = (
            LiveFrames(self.decoder, self.is_stopped) if self._is_live else FileFrames(self.decoder)
        )  # fmt: skip
        self._seconds = 0.0

    def run(self, mode: str = "whole", limit: int | None = None) -> None:
        """
        Segment until the end, a stop or so many frames. The files are finished whatever happens.

        Raises:
            InputError: no frame, frames of several sizes, or a file that cannot be written.
        """
        outputs: Outputs | None = None
        began = time.perf_counter()
        try:
            with self._progress(limit) as show:
                for frame in self._frames():
                    with self.stages("segment"):
                        ids = self.segmenter.segment(Image.fromarray(frame.pixels), mode)
                    self.latencies.append(time.perf_counter() - frame.arrived)
                    self.done += 1
                    if outputs is None:
                        outputs = self._outputs(frame)
                    outputs.add(frame, ids, show())
                    if self.done == limit or self.is_stopped():
                        break
        finally:
            self._seconds = time.perf_counter() - began
            self._source.close()
            if outputs is not None:
                outputs.close()
        if outputs is None and not self.is_stopped():
            raise InputError(f"{self.place.shown}: no frame of it can be decoded")

    def summary(self) -> str:
        """One sentence on what was done."""
        if not self.done:
            return f"{self.place.shown}: no frame"
        rate = f"{self.done / self._seconds:.1f} a second, latency {1000 * median(self.latencies):.0f} ms"
        said = [f"{self.place.shown}: {self.done} frames in {self._seconds:.1f} s ({rate})"]
        if self._source.dropped:
            said.append(f"{self._source.dropped} dropped")
        if self._source.broken:
            said.append(f"{len(self._source.broken)} broken and left out (frame {named(self._source.broken)})")
        if self._source.missing:
            said.append(f"its end is {self._source.missing} frames earlier than it promises")
        return ", ".join(said) + "".join(f" -> {path}" for path in self.paths.given()[:1])

    def _frames(self) -> Iterator[Frame]:
        """The frames, with the time that each is waited for."""
        frames = iter(self._source)
        while True:
            with self.stages("wait" if self._is_live else "decode"):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def _outputs(self, first: Frame) -> Outputs:
        return Outputs(self.paths, self.window, self.decoder.fps, self.segmenter.id2label, first, self.stages)

    @contextmanager
    def _progress(self, limit: int | None) -> Iterator[Callable[[], str]]:
        """Gives what is to be called after every frame, which shows the rate in a terminal, and returns it."""
        from rich.console import Console  # a tenth of a second, which an error need not wait for
        from rich.progress import BarColumn, Progress, TextColumn

        recent = deque([time.perf_counter()], maxlen=RECENT)
        total = min(limit or self.decoder.count, self.decoder.count) if self.decoder.count else limit
        columns = (TextColumn("{task.description}"), BarColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("segmenting", total=total)

            def show() -> str:
                recent.append(time.perf_counter())
                rate = (len(recent) - 1) / (recent[-1] - recent[0])
                note = f"{self.done} frames, {rate:.1f} a second, latency {1000 * self.latencies[-1]:.0f} ms"
                progress.update(task, advance=1, description=note)
                return note

            yield show


__all__ = ["VideoRun", "segment_videos"]
