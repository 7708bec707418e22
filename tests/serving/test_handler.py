"""handler.py of a published repository, in a process without this project, behind a server as an Endpoint has one."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import finished_run
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from photos import png
from tiny_model import NAMES

SIZE = (96, 64)  # as many pixels as endpoint_server.py allows


IMAGE = png(SIZE)
TEXT = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
def url(shared, tmp_path_factory):
    folder = finished_run.published_folder(shared / "finished")
    script = Path(__file__).parents[1] / "support" / "endpoint_server.py"
    cache = tmp_path_factory.mktemp("endpoint")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment = {**inherited, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", str(script), str(folder)]
    server = subprocess.Popen(command, env=environment, cwd=cache, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait()
    server.stdout.close()


@pytest.fixture
def client(url, monkeypatch) -> InferenceClient:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return InferenceClient(model=url)


def ask(url: str, request: object, content_type: str = "application/json") -> tuple[int, list | dict]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": content_type})) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_client_gets_labels_scores_and_masks_for_a_file(client, tmp_path):
    (tmp_path / "street.png").write_bytes(IMAGE)
    segments = client.image_segmentation(tmp_path / "street.png")
    assert segments and {segment.label for segment in segments} <= set(NAMES)
    assert all(0 <= segment.score <= 1 for segment in segments)
    assert {segment.mask.size for segment in segments} == {SIZE}


def test_masks_share_every_pixel_out_once(client):
    masks = [np.asarray(segment.mask) for segment in client.image_segmentation(IMAGE)]
    assert np.sum(masks, axis=0, dtype=int).tolist() == np.full(SIZE[::-1], 255).tolist()


def test_client_s_threshold_arrives(client):
    assert client.image_segmentation(IMAGE, threshold=1.0) == []


def test_image_bytes_and_text_give_the_same(url):
    as_image = ask(url, IMAGE, "image/png")
    assert as_image[0] == 200
    assert ask(url, IMAGE, "application/octet-stream") == as_image
    assert ask(url, {"inputs": TEXT}) == as_image
    assert ask(url, {"inputs": f"data:image/png;base64,{TEXT}"}) == as_image


@pytest.mark.parametrize("encode", [base64.encodebytes, base64.urlsafe_b64encode])
def test_base64_text_may_have_line_ends_or_the_letters_of_addresses(url, encode):
    assert ask(url, {"inputs": encode(IMAGE).decode()}) == ask(url, {"inputs": TEXT})


def test_candidate_labels_replace_the_classes(url):
    status, segments = ask(url, {"inputs": TEXT, "parameters": {"candidate_labels": ["car"]}})
    assert (status, [segment["label"] for segment in segments]) == (200, ["car"])


def test_unknown_word_is_named(url):
    status, answer = ask(url, {"inputs": TEXT, "parameters": {"candidate_labels": ["kerb"]}})
    assert status == 400 and "kerb" in answer["error"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "`inputs` is missing"),
        ([], "`inputs` is missing"),
        ({"inputs": 5}, "not int"),
        ({"inputs": TEXT, "candidate_labels": ["car"]}, "no keys candidate_labels"),
        ({"inputs": "/etc/hostname"}, "a path or an address is not read"),
        ({"inputs": "http://127.0.0.1/a.png"}, "a path or an address is not read"),
        ({"inputs": base64.b64encode(b"no image").decode()}, "inputs: not an image"),
        ({"inputs": base64.b64encode(IMAGE[:2000]).decode()}, "inputs: damaged or cut short"),
        ({"inputs": base64.b64encode(png((97, 64))).decode()}, "97 x 64 pixels are more than"),
        ({"inputs": "A" * 200_000}, "150,000 bytes are more than"),
        ({"inputs": TEXT, "parameters": "x"}, "`parameters` must be an object"),
        ({"inputs": TEXT, "parameters": {"word_bank": "/etc/x.safetensors"}}, "no parameters word_bank"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": "car"}}, "list of texts"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": []}}, "0 entries"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": ["car"] * 200}}, "200 entries"),
        ({"inputs": TEXT, "parameters": {"candidate_labels": ["car", "x" * 101]}}, "one of 101 letters"),
        (
            {"inputs": TEXT, "parameters": {"candidate_labels": ["a", "b", "c", "d", "e"]}},
            "for 5 classes: 96 x 64 pixels",
        ),
        ({"inputs": TEXT, "parameters": {"threshold": "high"}}, "`threshold` is 'high'"),
        ({"inputs": TEXT, "parameters": {"threshold": 2}}, "`threshold` is 2"),
    ],
)
def test_bad_request_is_answered_by_a_message(url, request_, message):
    status, answer = ask(url, request_)
    assert (status, answer["type"]) == (400, "ValueError")
    assert message in answer["error"]


@pytest.mark.parametrize(
    ("content", "content_type", "message"),
    [
        (png((97, 64)), "image/png", "97 x 64 pixels are more than"),
        (png((97, 64)), "application/octet-stream", "97 x 64 pixels are more than"),
        (b"\x89PNG" + bytes(200_000), "application/octet-stream", "200,004 bytes are more than"),
    ],
)
def test_large_image_is_refused(url, content, content_type, message):
    status, answer = ask(url, content, content_type)
    assert (status, answer["type"]) == (400, "ValueError")
    assert message in answer["error"]
