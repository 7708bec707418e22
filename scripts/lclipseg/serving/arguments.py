"""What `lclipseg serve` can be told."""

from dataclasses import dataclass, field

from lclipseg.console.errors import InputError


@dataclass
class ServeArguments:
    host: str = field(
        default="127.0.0.1",
        metadata={"help": "Address to listen at; 0.0.0.0 lets other machines in, which there is no password for."},
    )
    port: int = field(default=8080, metadata={"help": "Port to listen at; 0 takes a free one."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a model on the Hub."})
    bank: str | None = field(
        default=None,
        metadata={
            "help": "Word bank for candidate_labels: FILE.safetensors or FILE#KEY. Default: the words that ship here, "
            "for a model of their text tower."
        },
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
