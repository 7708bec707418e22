"""The frame of every command: one way to report a user's mistake, and a library that is missing."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lclipseg.console.errors import InputError, printable
from lclipseg.console.extras import missing_library

logger = logging.getLogger("lclipseg")


def run_command(main: Callable[[], object]) -> None:
    """
    Run a command's `main`. An [`InputError`], or a library of an extra that is not installed, ends it with a message
    on stderr and exit status 2, without a traceback; a reader of its output that goes away (`| head`) ends it with 1
    and no message; any other exception is a defect of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    _hide_progress_of_libraries()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends
        sys.exit(1)
    except InputError as error:
        _end(_own_message(error))
    except ModuleNotFoundError as error:
        message = missing_library(f"`{os.path.basename(sys.argv[0])}`", error.name)
        if message is None:
            raise
        _end(message)


def _end(message: str) -> None:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def _hide_progress_of_libraries() -> None:
    """Without bars of reading and writing a few megabytes in the middle of ours. Importing transformers takes most of
    a second, which help and wrong arguments need not wait for: it reads the variable when it is imported."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if transformers := sys.modules.get("transformers"):
        transformers.logging.disable_progress_bar()


@contextmanager
def without_bars_of_libraries() -> Iterator[None]:
    """The same for a while, for a program of somebody else's; imports transformers."""
    from transformers.utils import logging as library

    was_enabled = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            library.enable_progress_bar()


def _own_message(error: InputError) -> str:
    """What was raised, without the traceback that torch puts before it if that was in a worker process."""
    text = str(error)
    return text.rpartition(f".{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text
