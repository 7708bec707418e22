"""A folder that is watched: each image that is put into it is segmented as `lclipseg segment` does it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lclipseg.console import errors as cli
from lclipseg.console.errors import InputError
from lclipseg.console.stop import StopRequest
from lclipseg.console.torch_free import to_rgb_image
from lclipseg.data.files import LeftOut
from lclipseg.prediction.files import make_folder, open_results, print_failures
from lclipseg.prediction.inputs import FileJob, JobNames, check_out_is_elsewhere, images_below
from lclipseg.prediction.open import open_segmenter
from lclipseg.video.arguments import VideoArguments

GLANCE = 0.5  # seconds between two looks at the folder


class Watched:
    """
    A folder as it was at the last look.

    Args:
        folder (`Path`): It; images in its sub-folders count.
        out (`Path`): Where the results go; images below it are none of these.
    """

    def __init__(self, folder: Path, out: Path):
        self._folder, self._out = folder, out
        self._names = JobNames()
        self._jobs: dict[Path, FileJob] = {}
        self._before: dict[Path, tuple[int, int]] = {}  # size and time of change
        self._done: dict[Path, tuple[int, int]] = {}

    def look(self) -> list[FileJob]:
        """The images that are new or were written anew, and have not changed since the look before, as a file has not
        that is complete. An image that is written anew keeps its name."""
        now = {path: mark for path in images_below(self._folder, self._out, LeftOut(self._folder))
               if (mark := _mark(path)) is not None}  # fmt: skip
        ready = [path for path, mark in now.items() if self._before.get(path) == mark != self._done.get(path)]
        self._before = now
        self._done |= {path: now[path] for path in ready}
        for path in ready:
            if path not in self._jobs:
                self._jobs[path] = self._names.job(path, self._folder)
        return [self._jobs[path] for path in ready]


def watch_folder(inputs: Sequence[str], args: VideoArguments) -> int:
    """
    Segment what lies in a folder and what comes, until Ctrl-C.

    Args:
        inputs (sequence of `str`): The folder, alone.
        args ([`VideoArguments`]): The options.

    Returns:
        `int`: the exit status: 0, or 1 if any image could not be segmented.

    Raises:
        InputError: no folder, several, or a model, a class or a word bank that cannot be used.
    """
    if len(inputs) != 1 or not Path(inputs[0]).expanduser().is_dir():
        raise InputError(f"--watch watches one folder, and {', '.join(inputs)} is none; give a folder of images")
    args.check_for_images()
    for name in ("annotations", "split", "share"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name} is for images that are there at the start; leave it or --watch out")
    folder, out = Path(inputs[0]).expanduser(), Path(args.out).expanduser()
    check_out_is_elsewhere(out, folder)
    names = None if args.classes is None else args.classes.split(",")
    given = f"--classes {args.classes!r}"
    segmenter = open_segmenter(args.model, args.revision, names, args.bank, given, args.least_score)
    make_folder(out)
    watched, results, done, failed = Watched(folder, out), open_results(args, inputs, out, segmenter.id2label), 0, 0
    with StopRequest("this image") as stop:
        for job in _jobs(watched, lambda: stop.signal is not None):
            try:
                image = to_rgb_image(job.open(args.max_pixels))
                line = results.write(job, image, segmenter.segment(image, args.mode))
            except (ValueError, OSError) as error:
                failed += 1
                print_failures([cli.naming(job.source, error)])
                continue
            done += 1
            print(cli.printable(f"{job.source}: {line}"), flush=True)
    results.close()
    print(f"{done} of {done + failed} images segmented, results in {out}")
    return 1 if failed else 0


def _jobs(watched: Watched, is_stopped: Callable[[], bool]):
    while not is_stopped():
        for job in watched.look():
            if is_stopped():
                return
            yield job
        time.sleep(GLANCE)


def _mark(path: Path) -> tuple[int, int] | None:
    """What tells whether a file has changed; `None` for one that is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


__all__ = ["Watched", "watch_folder"]
