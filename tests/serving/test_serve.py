"""serve.py: a server with a tiny model, on a real port, asked by real clients."""

import base64
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from huggingface_hub import InferenceClient
from photos import png
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import NAMES, save_checkpoint, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.serving import app as serving
from lclipseg.serving.app import Limits, Service, build_app
from lclipseg.serving.arguments import ServeArguments
from lclipseg.serving.batcher import Batcher, Job
from lclipseg.serving.checkpoint_requests import TorchPass
from lclipseg.serving.counters import Metrics
from lclipseg.serving.requests import open_requests
from lclipseg.serving.server import build_server, listening_socket, serve
from modeling_lclipseg import WordBank

PATIENCE = 30  # seconds; for what would otherwise hang
SIZE = (96, 64)


IMAGE = png(SIZE)
TEXT = base64.b64encode(IMAGE).decode()


class Gate:
    """The network behind a gate: a pass begins, and ends when the gate is open."""

    def __init__(self, forward):
        self.forward = forward
        self.begun, self.open = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, jobs):
        self.sizes.append(len(jobs))
        self.begun.set()
        assert self.open.wait(PATIENCE)
        return self.forward(jobs)


class RunningServer:
    """A server in a thread; `gate`, once it is put in, holds up its network."""

    def __init__(self, checkpoint: str, limits: Limits, bank: str | None = None):
        self.service = Service(open_requests(checkpoint, bank=bank), limits, Metrics())
        self.app = build_app(self.service, "tiny")
        self.server = build_server(self.app, limits.timeout)
        self.listener = listening_socket("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        wait_until(lambda: self.server.started)

    def put_gate(self) -> Gate:
        gate = Gate(self.service.segmenter.forward)
        self.service.batcher.forward = gate
        return gate

    def ask(self, body=IMAGE, content_type="image/png", method="POST", path="/"):
        """Status, headers and content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": content_type})
        return read(connection)

    def measures(self) -> dict[str, float]:
        text = self.ask(method="GET", path="/metrics")[2].decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {" ".join([sample.name, *map(str, sample.labels.values())]): sample.value for sample in samples}


def read(connection: http.client.HTTPConnection) -> tuple[int, dict, bytes]:
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), content


def wait_until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def running(checkpoint: str, bank: str | None = None, **limits) -> Iterator[RunningServer]:
    given = {"max_batch": 4, "queue_limit": 32, "timeout": PATIENCE, "workers": 2, **limits}
    server = RunningServer(checkpoint, Limits(**given), bank)
    try:
        yield server
    finally:
        if isinstance(server.service.batcher.forward, Gate):
            server.service.batcher.forward.open.set()
        server.server.should_exit = True
        server.thread.join()
        server.listener.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    model = tiny_model(text_model_name_or_path="some/tower")
    return str(save_checkpoint(tmp_path_factory.mktemp("serve"), model, shortest_edge=64))


@pytest.fixture(scope="module")
def bank(checkpoint, tmp_path_factory) -> str:
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("bank") / "words.safetensors"
    WordBank(("kerb", "lane"), vectors, "some/tower").save(path)
    return str(path)


@pytest.fixture(scope="module")
def server(checkpoint, bank) -> Iterator[RunningServer]:
    with running(checkpoint, bank) as server:
        yield server


# ------------------------------------------------------------------------------------------------------- what it says


def test_client_gets_labels_scores_and_masks(server, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    (tmp_path / "street.png").write_bytes(IMAGE)
    segments = InferenceClient(model=server.url).image_segmentation(tmp_path / "street.png")
    assert segments and {segment.label for segment in segments} <= set(NAMES)
    assert all(0 <= segment.score <= 1 for segment in segments)
    assert np.sum([np.asarray(segment.mask) for segment in segments], axis=0).tolist() == [[255] * 96] * 64


def test_bytes_and_json_give_the_same(server):
    as_image = server.ask()
    assert as_image[0] == 200
    assert server.ask(content_type="application/octet-stream")[2] == as_image[2]
    assert server.ask({"inputs": TEXT}, "application/json; charset=utf-8")[2] == as_image[2]


def test_candidate_labels_come_from_the_bank_and_the_checkpoint(server):
    request = {"inputs": TEXT, "parameters": {"candidate_labels": ["kerb", "Sky"]}}
    status, _, content = server.ask(request, "application/json")
    assert status == 200 and {segment["label"] for segment in json.loads(content)} <= {"kerb", "Sky"}


def test_threshold_leaves_segments_out(server):
    request = {"inputs": TEXT, "parameters": {"threshold": 1}}
    assert server.ask(request, "application/json")[::2] == (200, b"[]")


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"no image", "image/png", "inputs: not an image"),
        (b"", "image/png", "nothing came"),
        (IMAGE.replace(b"\r", b"").replace(b"\n", b""), "application/x-www-form-urlencoded", "without its line ends"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + IMAGE, "multipart/form-data", "a form came"),
        (json.dumps({"inputs": TEXT}).encode(), "text/plain", "JSON came without its header"),
        (b"<!doctype html><p>404", "image/png", "a page or an SVG"),
        (b"street.jpg", "text/plain", "name or address"),
        (TEXT.encode(), "text/plain", "base64 text came"),
        (b"/9j/" + TEXT.encode(), "text/plain", "base64 text came"),  # as JPEG files begin
        (base64.urlsafe_b64encode(IMAGE), "text/plain", "base64 text came"),
        (b"image=" + TEXT.encode(), "application/x-www-form-urlencoded", "a form came"),
        (b"data:image/png;base64," + TEXT.encode(), "text/plain", 'a "data:" address came'),
        (gzip.compress(IMAGE), "image/png", "a body packed by gzip came"),
        (b"%PDF-1.4 ...", "application/pdf", "a PDF came"),
        (IMAGE[:-100], "image/png", "inputs: damaged or cut short"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "image/x-eps", "inputs: not an image"),
        (b'{"inputs": ', "application/json", "the body is not JSON"),
        (b"[" * 100_000, "application/json", "the body is not JSON"),
        (b'{"inputs": "\xff"}', "application/json", "the body is not JSON"),
        ({}, "application/json", "`inputs` is missing"),
        ({"inputs": TEXT, "parameters": {"word_bank": "x"}}, "application/json", "no parameters word_bank"),
        ({"inputs": TEXT, "parameters": {"threshold": float("nan")}}, "application/json", "`threshold` is nan"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": ["\ud800"]}}, "application/json", "control characters"),
        (
            {"inputs": TEXT, "parameters": {"candidate_labels": ["bench"]}},
            "application/json",
            "no vector for 'bench'; it",
        ),
        ({"inputs": TEXT, "parameters": {"candidate_labels": ["sky", "sky"]}}, "application/json", "Duplicate"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": ["x" * 101]}}, "application/json", "of 101 letters"),
    ],
)
def test_bad_request_is_answered_by_a_message(server, body, content_type, message):
    status, _, content = server.ask(body, content_type)
    assert status == 400 and message in json.loads(content)["error"]


def test_query_parameter_is_refused(server):
    status, _, content = server.ask(IMAGE, "image/png", path="/?threshold=0.5")
    assert status == 400 and "no query parameters (threshold)" in json.loads(content)["error"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/predict", 404), ("PUT", "/", 405)])
def test_wrong_address_is_answered_by_the_right_ones(server, method, path, status):
    answer = server.ask(method=method, path=path)
    assert answer[0] == status and "POST / (an image)" in json.loads(answer[2])["error"]


def test_declared_size_is_checked(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()
    assert read(connection)[0] == 413


def test_undeclared_size_is_checked_while_reading(server, monkeypatch):
    monkeypatch.setattr(serving, "MAX_BODY", 100_000)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("POST", "/", iter([bytes(60_000)] * 3), encode_chunked=True)
    assert read(connection)[0] == 413


def test_health_names_model_and_classes(server):
    status, _, content = server.ask(method="GET", path="/health")
    assert (status, json.loads(content)) == (200, {"status": "ready", "model": "tiny", "classes": NAMES})


def test_metrics_count_answers_and_images(server):
    before = server.measures()
    server.ask()
    server.ask(b"no image")
    after = server.measures()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["lclipseg_requests_total / 200"] == grown["lclipseg_requests_total / 400"] == 1
    assert grown["lclipseg_request_seconds_count"] == 2
    assert grown["lclipseg_batch_size_count"] == grown["lclipseg_batch_size_sum"] == 1
    assert after["lclipseg_queue_depth"] == after["lclipseg_in_progress"] == 0


def test_failure_is_logged_and_not_told(checkpoint, caplog):
    with running(checkpoint) as server:
        server.service.batcher.forward = None
        status, _, content = server.ask()
        assert status == 500 and "NoneType" not in content.decode()
        assert "NoneType" in caplog.text
        server.service.batcher.forward = server.service.segmenter.forward
        assert server.ask()[0] == 200


# ------------------------------------------------------------------------------------------------------------ batches


def segments_of(content: bytes) -> dict[str, tuple[float, str]]:
    return {segment["label"]: (segment["score"], segment["mask"]) for segment in json.loads(content)}


def test_answers_from_a_batch_are_those_given_alone(checkpoint):
    images = [png(SIZE, seed) for seed in range(4)] + [png((64, 96), 9)]
    with running(checkpoint) as server, ThreadPoolExecutor(6) as pool:
        alone = [segments_of(server.ask(image)[2]) for image in images]
        gate = server.put_gate()
        first = pool.submit(server.ask)
        assert gate.begun.wait(PATIENCE)
        answers = [pool.submit(server.ask, image) for image in images]
        wait_until(lambda: server.service.batcher.depth == len(images))
        gate.open.set()
        together = [segments_of(answer.result()[2]) for answer in answers]
        assert first.result()[0] == 200
        assert sorted(gate.sizes) == [1, 1, 4]  # the first, the one of another size, the others
    for one, other in zip(together, alone, strict=True):
        assert {label: mask for label, (_, mask) in one.items()} == {label: mask for label, (_, mask) in other.items()}
        assert [score for score, _ in one.values()] == pytest.approx([score for score, _ in other.values()], abs=1e-5)


def job(side: int = 32, labels: tuple[str, ...] | None = None) -> Job:
    return Job(torch.zeros(1, 3, side, side), labels)


def test_only_equal_sizes_and_classes_share_a_pass(model):
    gate = Gate(TorchPass(model))
    batcher = Batcher(gate, max_batch=8)
    first = batcher.submit(job())
    assert gate.begun.wait(PATIENCE)
    jobs = [job(), job(64), job(labels=("sky",)), job(), job(64)]
    futures = [batcher.submit(one) for one in jobs]
    gate.open.set()
    batcher.close()
    assert gate.sizes == [1, 2, 2, 1]
    assert [future.result().shape[-1] for future in (first, *futures)] == [8, 8, 16, 8, 8, 16]


def test_cancelled_job_takes_no_part(model):
    gate = Gate(TorchPass(model))
    batcher = Batcher(gate, max_batch=8)
    batcher.submit(job())
    assert gate.begun.wait(PATIENCE)
    dropped, kept = batcher.submit(job()), batcher.submit(job())
    assert dropped.cancel()
    gate.open.set()
    batcher.close()
    assert gate.sizes == [1, 1] and kept.result() is not None
    with pytest.raises(CancelledError):
        dropped.result()


# ----------------------------------------------------------------------------------------------------- under pressure


def test_more_than_the_queue_limit_are_told_to_come_back(checkpoint):
    with running(checkpoint, queue_limit=2) as server, ThreadPoolExecutor(2) as pool:
        gate = server.put_gate()
        accepted = [pool.submit(server.ask) for _ in range(2)]
        wait_until(lambda: server.service.in_progress == 2)
        status, headers, content = server.ask()
        assert status == 503 and int(headers["retry-after"]) > 0 and "busy" in json.loads(content)["error"]
        gate.open.set()
        assert [answer.result()[0] for answer in accepted] == [200, 200]
        assert server.ask()[0] == 200


def test_request_that_waited_too_long_is_dropped(checkpoint):
    with running(checkpoint, timeout=0.5) as server, ThreadPoolExecutor(2) as pool:
        gate = server.put_gate()
        first = pool.submit(server.ask)
        assert gate.begun.wait(PATIENCE)
        status, headers, content = server.ask()
        assert status == 503 and "retry-after" in headers and "waited too long" in json.loads(content)["error"]
        gate.open.set()
        assert first.result()[0] == 200  # its pass had begun
    assert gate.sizes == [1]


def test_slow_body_is_not_waited_for(checkpoint):
    with running(checkpoint, timeout=0.2) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.putrequest("POST", "/")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"a few bytes")
        assert read(connection)[0] == 408


def test_client_that_goes_away_is_dropped_and_its_neighbours_are_answered(checkpoint):
    with running(checkpoint) as server, ThreadPoolExecutor(2) as pool:
        gate = server.put_gate()
        first = pool.submit(server.ask)
        assert gate.begun.wait(PATIENCE)
        leaver = socket.create_connection(("127.0.0.1", server.port))
        leaver.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE)
        neighbour = pool.submit(server.ask)
        wait_until(lambda: server.service.batcher.depth == 2)
        leaver.close()
        wait_until(lambda: server.service.in_progress == 2)
        gate.open.set()
        assert (first.result()[0], neighbour.result()[0]) == (200, 200)
    assert gate.sizes == [1, 1]


def test_accepted_requests_are_answered_before_the_end(checkpoint):
    with running(checkpoint) as server, ThreadPoolExecutor(3) as pool:
        gate = server.put_gate()
        answers = [pool.submit(server.ask) for _ in range(3)]
        wait_until(lambda: server.service.in_progress == 3)
        server.server.should_exit = True
        wait_until(lambda: not server.server.servers[0].is_serving())
        gate.open.set()
        assert [answer.result()[0] for answer in answers] == [200, 200, 200]
        server.thread.join(PATIENCE)
        assert not server.thread.is_alive() and not server.service.batcher.alive


# ----------------------------------------------------------------------------------------------------- how it is begun


def test_taken_port_is_named_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"--port {port}: Address already in use"):
            serve("no such model", ServeArguments(port=port))


@pytest.mark.parametrize("option", [{"max_batch": 0}, {"queue_limit": -1}, {"timeout": float("nan")}, {"port": 70000}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(InputError, match=f"--{next(iter(option))}"):
        ServeArguments(**option)


def test_bank_that_does_not_fit_is_refused(checkpoint, tmp_path):
    WordBank(("kerb",), torch.randn(1, 16), "other/tower").save(tmp_path / "words.safetensors")
    with pytest.raises(InputError, match=r"--bank .*words\.safetensors: .*16 wide"):
        open_requests(checkpoint, bank=str(tmp_path / "words.safetensors"))


def test_tower_that_cannot_be_loaded_is_named_at_the_start(checkpoint):
    with pytest.raises(InputError, match="--text_tower true"):
        open_requests(checkpoint, text_tower=True)
