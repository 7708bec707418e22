"""What a server says about itself, in Prometheus' text format."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, Summary, generate_latest

ROUTES = ("/", "/health", "/metrics")
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The measures of one server; two servers in a process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "lclipseg_requests", "Requests that were answered.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "lclipseg_request_seconds",
            "From the head of a request for a segmentation to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = Summary("lclipseg_batch_size", "Images of a forward pass.", registry=self.registry)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """Report a value that is asked for whenever somebody looks."""
        Gauge(name, meaning, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class AnswerCounter:
    """
    ASGI middleware that counts what comes in and what is answered, whoever answers it.

    Args:
        app (ASGI application): What answers.
        metrics ([`Metrics`]): Where answers are counted by route and status.
    """

    def __init__(self, app: Any, metrics: Metrics):
        self.app = app
        self.metrics = metrics
        self.accepted = 0
        self.answered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in ROUTES else "other"
        self.accepted += 1

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.answered += 1
                self.metrics.requests.labels(route, str(message["status"])).inc()
            await send(message)

        await self.app(scope, receive, counted)
