"""The process that serves a checkpoint, from the free port to the last answer."""

import logging
import signal
import socket

import uvicorn

from lclipseg.console.errors import InputError
from lclipseg.serving.app import Limits, Service, build_app
from lclipseg.serving.arguments import ServeArguments
from lclipseg.serving.counters import Metrics
from lclipseg.serving.requests import open_requests

logger = logging.getLogger("lclipseg")

BACKLOG = 1024
LONGEST_WORK = 60  # seconds after its waiting time that a request may take, when the server stops


def serve(model: str, args: ServeArguments) -> None:
    """
    Serve until a signal comes.

    Args:
        model (`str`): Folder of a checkpoint or an export, or OWNER/NAME on the Hub.
        args ([`ServeArguments`]): the options.

    Raises:
        [`InputError`]: a port that is taken, or a model or bank that cannot be used.
    """
    with listening_socket(args.host, args.port) as listener:
        segmenter = open_requests(model, args.revision, args.bank, args.text_tower)
        limits = Limits(args.max_batch, args.queue_limit, args.timeout, args.workers)
        app = build_app(Service(segmenter, limits, Metrics()), model)
        server = build_server(app, args.timeout)
        for number in (signal.SIGINT, signal.SIGTERM):
            # The server has its own handlers while it runs, and hands the signal on afterwards: to these, which let
            # the process end in peace.
            signal.signal(number, server.handle_exit)
        listener.listen(BACKLOG)
        host, port = listener.getsockname()[:2]
        logger.info("serving %s on http://%s:%d", model, f"[{host}]" if ":" in host else host, port)
        server.run(sockets=[listener])
        logger.info("stopped: %d requests were accepted, %d answered", app.accepted, app.answered)


def build_server(app: object, timeout: float) -> uvicorn.Server:
    """The HTTP server of an application; `timeout` as in [`ServeArguments`]."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(timeout) + LONGEST_WORK,
    )
    return uvicorn.Server(config)


def listening_socket(host: str, port: int) -> socket.socket:
    """
    A socket bound to an address, before anything is loaded.

    Raises:
        [`InputError`]: the port is taken or not allowed, or the host is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: {error.strerror}; give another port (--port 0 takes a free one), or an "
            "address of this machine"
        ) from error
    return listener
