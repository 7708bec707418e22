"""The Hub, where it cannot be reached: its libraries try again for a minute, file by file, before they say so."""

import logging
import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from lclipseg.console.errors import InputError
from lclipseg.console.nearest import nearest

logger = logging.getLogger("lclipseg")

SECONDS = 3.0  # for a connection
PORTS = {"http": 80, "https": 443}


def reach_hub(name: str) -> None:
    """
    See whether the Hub answers before something is asked of it. Where it does not, its libraries are told, as by
    HF_HUB_OFFLINE=1, to take what is in their cache and else to fail at once.

    Args:
        name (`str`): what is asked for; a file or folder needs no Hub.
    """
    from huggingface_hub import constants

    address = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or Path(name).expanduser().exists() or address.scheme in getproxies():
        return
    host = address.hostname or ""
    try:
        socket.create_connection((host, address.port or PORTS[address.scheme]), timeout=SECONDS).close()
    except OSError as error:
        constants.HF_HUB_OFFLINE = True
        if datasets := sys.modules.get("datasets"):
            datasets.config.HF_HUB_OFFLINE = True
        logger.warning(
            f"{host} cannot be reached ({error.strerror or error}), so {name} is looked for in the cache of the Hub "
            "alone; HF_HUB_OFFLINE=1 does so without asking"
        )


def check_cached(name: str, file: str, revision: str | None = None) -> None:
    """
    See whether a repository can be loaded before torch is imported for it, which takes seconds.

    Args:
        name (`str`): the repository.
        file (`str`): one that every repository of its kind has.
        revision (`str`, *optional*): branch, tag or commit.

    Raises:
        InputError: the Hub is not asked, or cannot be, and its cache lacks the file; or no repository is called so.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    reach_hub(name)
    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except ValueError as error:
        raise InputError(f"{name} is neither a folder nor the name of a repository on the Hub: {error}") from error
    if constants.HF_HUB_OFFLINE and not isinstance(found, str):
        raise InputError(
            f"{name} is no folder, and not in the cache of the Hub ({constants.HF_HUB_CACHE}), which alone is looked "
            "into offline; give a folder, or load it once while the Hub can be reached (and HF_HUB_OFFLINE is not set)"
        )


def check_data_cached(name: str) -> None:
    """The same for a data set, of which `datasets` keeps what it has made besides."""
    from huggingface_hub import constants

    reach_hub(name)
    made = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets")).expanduser()
    kept = Path(constants.HF_HUB_CACHE).expanduser() / f"datasets--{name.replace('/', '--')}"
    if constants.HF_HUB_OFFLINE and not kept.is_dir() and not (made / name.replace("/", "___")).is_dir():
        near = nearest(Path(name).name, (path.name for path in Path().iterdir()), cutoff=0.75)
        hint = f" (did you mean {near}?)" if near else ""
        raise InputError(
            f"there is no data source {name}: no such folder or file{hint}, and as a data set on the Hub it is not in "
            f"the caches {constants.HF_HUB_CACHE} and {made}, which alone are looked into offline"
        )
