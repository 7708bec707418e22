"""scripts/load.py: a short one of a tiny model, up to SIGTERM, and that it would notice what is wrong."""

import base64
import json
from io import BytesIO

import pytest
from PIL import Image
from tiny_model import save_checkpoint, tiny_model

from lclipseg.lab.load import load as load_test
from lclipseg.lab.load.load import LoadArguments
from lclipseg.lab.load.requests import Sent, check_answer

SENT = Sent("an image", 200, b"", size=(6, 4))
REFUSED = Sent("no image", 400, b"")


def test_every_request_is_answered_until_sigterm_and_the_server_ends_in_peace(tmp_path, monkeypatch):
    monkeypatch.setattr(load_test, "largest_requests", lambda *_: [])
    model = tiny_model(text_model_name_or_path="some/tower")
    checkpoint = str(save_checkpoint(tmp_path / "checkpoint", model, shortest_edge=64))
    # Thirty at a time for two places: some are refused, however slow the client is.
    limits = {"concurrency": 2, "overload_requests": 60, "overload_concurrency": 30, "queue_limit": 2}
    arguments = LoadArguments(out=str(tmp_path / "out"), width=96, requests=60, bad_share=0.5, **limits)
    assert load_test.main(checkpoint, arguments) == 0
    record = json.loads((tmp_path / "out" / "load.json").read_text())
    assert record["exit_status"] == 0 and record["accepted"] == record["answers_arrived"]
    steady, overload = record["phases"]["steady"], record["phases"]["overload"]
    assert set(steady["statuses"]) == {"200", "400", "404", "405", "413"}
    assert "503" in overload["statuses"] and overload["wrong"] == overload["unanswered"] == 0


def segments(size: tuple[int, int] = (6, 4), **fields) -> bytes:
    file = BytesIO()
    Image.new("L", size, 255).save(file, "PNG")
    segment = {"label": "sky", "score": 0.5, "mask": base64.b64encode(file.getvalue()).decode()}
    return json.dumps([{**segment, **fields}]).encode()


def test_right_answers_pass():
    assert check_answer(SENT, 200, segments()) is None
    assert check_answer(REFUSED, 400, b'{"error": "no"}') is None
    assert check_answer(SENT, 503, b'{"error": "busy"}', allowed=(503,)) is None


@pytest.mark.parametrize(
    ("sent", "status", "content", "problem"),
    [
        (SENT, 503, b'{"error": "busy"}', "status 503 instead of 200"),
        (REFUSED, 200, segments(), "status 200 instead of 400"),
        (REFUSED, 400, b"no", "no JSON"),
        (REFUSED, 400, b"[]", "without a message"),
        (SENT, 200, segments((4, 6)), "another size"),
        (SENT, 200, segments(score=1.5), "not well formed"),
        (SENT, 200, segments(more=0), "not well formed"),
    ],
)
def test_wrong_answers_are_named(sent, status, content, problem):
    assert problem in str(check_answer(sent, status, content))
