"""Serve a checkpoint over HTTP, in the request format of the Hub's image segmentation.

    python scripts/serve.py checkpoints/lclipseg-mbv3s-camvid --port 8080
    curl --data-binary @street.jpg -H "Content-Type: image/jpeg" http://127.0.0.1:8080

`POST /` takes the bytes of an image, or JSON {"inputs": base64, "parameters": {"candidate_labels": [...],
"threshold": 0.5}}, and answers with a list of {"label", "score", "mask"}, as scripts/endpoint/handler.py does: so
`InferenceClient(model="http://127.0.0.1:8080").image_segmentation("street.jpg")` works. `GET /health` says whether it
is ready, `GET /metrics` what it has done, for Prometheus. Errors are {"error": message}: 400 a request that cannot be
met, 408 a body that does not arrive, 413 one that is too large, 503 with Retry-After when there is too much to do, 500
a defect, which the log has. SIGTERM and SIGINT (Ctrl-C) stop it once all that was accepted is answered.
"""

import logging
import signal
import socket
import sys
from dataclasses import dataclass, field

from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.console.frame import run_command

try:
    import uvicorn

    from lclipseg.serving.app import Limits, Service, build_app
except ModuleNotFoundError as error:
    sys.exit(f"error: serving needs {error.name}; install it with: pip install -e '.[serve]'")

from lclipseg.serving.counters import Metrics
from lclipseg.serving.requests import RequestSegmenter

logger = logging.getLogger("lclipseg")

BACKLOG = 1024
LONGEST_WORK = 60  # seconds after its waiting time that a request may take, when the server stops


@dataclass
class ServeArguments:
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "Address to listen at; 0.0.0.0 lets other machines in, which there is no password for."},
    )
    port: int = field(default=8080, metadata={"help": "Port to listen at; 0 takes a free one."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    bank: str | None = field(
        default=None, metadata={"help": "Word bank for candidate_labels: FILE.safetensors or FILE#KEY."}
    )
    text_tower: bool = field(
        default=False,
        metadata={"help": "Load the checkpoint's text tower, for candidate_labels that have no vector otherwise."},
    )
    max_batch: int = field(default=4, metadata={"help": "The most images of one forward pass."})
    queue_limit: int = field(
        default=32, metadata={"help": "The most requests in progress; each may hold a body of 27 MB. More get a 503."}
    )
    timeout: float = field(
        default=30.0, metadata={"help": "Seconds that a request may take to arrive and to wait for the network."}
    )
    workers: int = field(default=2, metadata={"help": "Threads that decode images and encode masks."})

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue_limit", "workers", "timeout"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"--{name} {value}: give a number above 0")
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port {self.port}: ports are numbered from 0 to 65535")

    @property
    def limits(self) -> Limits:
        return Limits(self.max_batch, self.queue_limit, self.timeout, self.workers)


def main(model: str, args: ServeArguments) -> None:
    """
    Serve until a signal comes.

    Args:
        model (`str`): Folder of a checkpoint, or OWNER/NAME on the Hub.
        args ([`ServeArguments`]): the options.

    Raises:
        [`InputError`]: a port that is taken, or a model or bank that cannot be used.
    """
    with listening_socket(args.host, args.port) as listener:
        segmenter = RequestSegmenter(model, args.revision, args.bank, args.text_tower)
        app = build_app(Service(segmenter, args.limits, Metrics()), model)
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


def parse(argv: list[str] | None = None) -> tuple[str, ServeArguments]:
    description = "Folder of a checkpoint, or OWNER/NAME on the Hub."
    return arguments.parse_subject(__doc__, ServeArguments, "model", description, argv=argv)


def command() -> None:
    run_command(lambda: main(*parse()))


if __name__ == "__main__":
    command()
