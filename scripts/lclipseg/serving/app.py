"""The HTTP side of `lclipseg serve`: who is let in, how long they may wait, and what they are told.

A request passes three places. Its image is decoded and brought to the network's size by one of a few threads, waits
for the network (batching.py), and its masks are made and encoded by one of those threads again. The event loop only
reads and writes. However many requests there are, only so many large images are in memory as there are threads.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lclipseg.endpoint.handler import MAX_BYTES
from lclipseg.serving.batcher import Batcher
from lclipseg.serving.counters import AnswerCounter, Metrics
from lclipseg.serving.requests import BadRequest, Requests

logger = logging.getLogger("lclipseg")

JSON = "application/json"
MAX_BODY = MAX_BYTES * 4 // 3 + 200_000  # base64, and parameters beside it
RETRY_AFTER = 2  # seconds
CLIENT_GONE = 499  # no standard has a status for an answer that nobody reads; servers commonly note this one


@dataclass(frozen=True)
class Limits:
    """
    What a server takes on.

    Args:
        max_batch (`int`): The most images of one forward pass.
        queue_limit (`int`): The most requests in progress, each of which may hold a body of `MAX_BODY` bytes.
        timeout (`float`): Seconds that a request may take to arrive and to wait, until the network begins with it.
        workers (`int`): Threads that decode and encode.
    """

    max_batch: int
    queue_limit: int
    timeout: float
    workers: int


class Refusal(Exception):
    """An answer other than a segmentation: its status, what it says, and its headers."""

    def __init__(self, status: int, message: str, **headers: str):
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def response(self) -> Response:
        return Response(json.dumps({"error": self.message}), self.status, self.headers, JSON)


class Service:
    """
    Answers requests for a segmentation.

    Args:
        segmenter ([`Requests`]): The model.
        limits ([`Limits`]): What is taken on.
        metrics ([`Metrics`]): Where it is counted.
    """

    def __init__(self, segmenter: Requests, limits: Limits, metrics: Metrics):
        self.segmenter = segmenter
        self.limits = limits
        self.metrics = metrics
        self.in_progress = 0
        self.batcher = Batcher(segmenter.forward, limits.max_batch, metrics.batch_size.observe)
        self._workers = ThreadPoolExecutor(limits.workers, "worker", segmenter.begin_worker)
        metrics.watch("lclipseg_queue_depth", "Images that wait for the network.", lambda: self.batcher.depth)
        metrics.watch("lclipseg_in_progress", "Requests that were let in.", lambda: self.in_progress)

    async def segment(self, request: Request) -> Response:
        """The answer to `POST /`, whatever happens."""
        began = time.perf_counter()
        try:
            return Response(await self._segment(request, began + self.limits.timeout), media_type=JSON)
        except Refusal as refusal:
            return refusal.response()
        except Exception:
            logger.exception("a request failed")
            return Refusal(500, "the server failed at this request; its log says why").response()
        finally:
            self.metrics.seconds.observe(time.perf_counter() - began)

    def close(self) -> None:
        """Finish what was begun, then stop all threads."""
        self.batcher.close()
        self._workers.shutdown()

    async def _segment(self, request: Request, deadline: float) -> bytes:
        if self.in_progress >= self.limits.queue_limit:
            raise _busy(f"{self.in_progress} requests are in progress already")
        if request.query_params:
            raise Refusal(
                400,
                f"there are no query parameters ({', '.join(request.query_params)[:200]}); JSON has `parameters`: "
                '{"inputs": ..., "parameters": {"threshold": 0.5}}',
            )
        self.in_progress += 1
        gone: asyncio.Task[None] | None = None
        try:
            body = await _read_body(request, deadline)
            gone = asyncio.create_task(_client_gone(request))
            is_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON
            prepare = self._workers.submit(self._prepare, body if is_json else {"inputs": body})
            del body  # the largest thing that a waiting request would hold
            prepared = await _begun_in_time(prepare, deadline, gone)
            logits = await _begun_in_time(self.batcher.submit(prepared.job), deadline, gone)
            return await asyncio.wrap_future(self._workers.submit(self.segmenter.answer, prepared, logits))
        finally:
            self.in_progress -= 1
            if gone is not None:
                gone.cancel()

    def _prepare(self, data: Any) -> Any:
        try:
            return self.segmenter.prepare(data)
        except BadRequest as error:
            raise Refusal(400, str(error)) from None


async def _read_body(request: Request, deadline: float) -> bytes:
    """The body, unless it is too large or too slow. What is said of its size is believed only if that is too large."""
    too_large = Refusal(413, f"the body is larger than the {MAX_BODY:,} bytes allowed; send a smaller image")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(deadline - time.perf_counter()):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, "the body did not arrive in time", Connection="close") from None
    except ClientDisconnect:
        raise Refusal(CLIENT_GONE, "the client went away") from None
    return bytes(body)


async def _client_gone(request: Request) -> None:
    """Returns when the client closes the connection; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _begun_in_time(work: "Future[Any]", deadline: float, gone: "asyncio.Task[None]") -> Any:
    """The result of work that waits for its turn. It is dropped if that comes too late, or nobody asks any more."""
    result = asyncio.wrap_future(work)
    left = max(0.0, deadline - time.perf_counter())
    await asyncio.wait({result, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    if not result.done() and work.cancel():
        if gone.done():
            raise Refusal(CLIENT_GONE, "the client went away")
        raise _busy("this request has waited too long")
    return await result


def _busy(reason: str) -> Refusal:
    return Refusal(503, f"the server is busy: {reason}; try again later", Retry_After=str(RETRY_AFTER))


def build_app(service: Service, model_name: str) -> AnswerCounter:
    """
    The application: `POST /`, `GET /health`, `GET /metrics`.

    Args:
        service ([`Service`]): What answers `POST /`; closed when the server stops.
        model_name (`str`): As `/health` calls the model.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    async def health() -> Response:
        ready = service.batcher.alive
        content = {
            "status": "ready" if ready else "not ready",
            "model": model_name,
            "classes": service.segmenter.classes,
        }
        return Response(json.dumps(content), 200 if ready else 503, media_type=JSON)

    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def unknown(request: Request, error: Any) -> Response:
        message = f"{error.detail}; there are POST / (an image), GET /health and GET /metrics"
        return Response(json.dumps({"error": message}), error.status_code, error.headers, JSON)

    # No pages about itself: they would load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan)
    app.add_api_route("/", service.segment, methods=["POST"], response_model=None)
    app.add_api_route("/health", health, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)
    app.add_exception_handler(HTTPException, unknown)
    return AnswerCounter(app, service.metrics)
