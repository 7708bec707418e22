"""The Hub, where it cannot be reached: its libraries try again for a minute, file by file, before they say so."""

import logging
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

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
