"""What a launcher started, against what was asked for."""

from lclipseg.console.errors import InputError


def check_processes(expected: int | None, running: int) -> None:
    """Launchers may silently start fewer processes than they were told to. Raises [`InputError`] if so."""
    if expected not in (None, running):
        raise InputError(
            f"{expected} processes were asked for but {running} run; see configuration/accelerate/ for launch "
            "settings that start several."
        )
