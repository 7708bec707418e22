"""The frame of every command: one way to report a user's mistake."""

import logging
import sys
from collections.abc import Callable

import transformers

from lclipseg.console.errors import InputError, printable

logger = logging.getLogger("lclipseg")


def run_command(main: Callable[[], object]) -> None:
    """Run a command's `main`. An [`InputError`] ends it with its message on stderr and exit status 2, without a
    traceback; any other exception is a defect of ours and keeps its traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    transformers.logging.disable_progress_bar()  # of reading and writing a few megabytes, in the middle of ours
    try:
        main()
    except InputError as error:
        print(f"error: {printable(_own_message(error))}", file=sys.stderr)
        sys.exit(2)


def _own_message(error: InputError) -> str:
    """What was raised, without the traceback that torch puts before it if that was in a worker process."""
    text = str(error)
    return text.rpartition(f".{type(error).__name__}: ")[2].strip() if "Original Traceback" in text else text
