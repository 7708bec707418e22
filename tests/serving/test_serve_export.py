"""A server with an exported graph: the answers of a checkpoint, without torch."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from written_export import write_bank, write_export

from lclipseg.console.errors import InputError
from lclipseg.serving.requests import BadRequest, open_requests


def image(colour: str = "red", size: tuple[int, int] = (64, 96)) -> str:
    file = BytesIO()
    picture = Image.new("RGB", size, colour)
    picture.paste("blue", (0, 0, size[0] // 2, size[1]))
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def answers(requests, *bodies: dict) -> list[dict[str, dict]]:
    """The segments of some requests by their labels, all from one pass."""
    prepared = [requests.prepare(body) for body in bodies]
    logits = requests.forward([one.job for one in prepared])
    found = [json.loads(requests.answer(*one)) for one in zip(prepared, logits, strict=True)]
    return [{segment["label"]: segment for segment in segments} for segments in found]


def test_answer_has_labels_scores_and_masks(tmp_path):
    (segments,) = answers(open_requests(str(write_export(tmp_path))), {"inputs": image()})
    assert set(segments) == {"red", "blue"}
    assert segments["red"]["score"] == pytest.approx(np.e / (np.e + 2), abs=0.02)  # softmax of 1, 0, 0
    mask = np.asarray(Image.open(BytesIO(base64.b64decode(segments["red"]["mask"]))))
    assert mask.shape == (96, 64) and (mask[:, 40:] == 255).all() and (mask[:, :24] == 0).all()


def test_answer_depends_on_no_other_image_of_its_pass(tmp_path):
    requests = open_requests(str(write_export(tmp_path)))
    bodies = [{"inputs": image("red")}, {"inputs": image("green")}]
    assert answers(requests, *bodies) == [answers(requests, body)[0] for body in bodies]


def test_labels_of_a_request_come_from_the_bank(tmp_path):
    requests = open_requests(str(write_export(tmp_path / "export")), bank=write_bank(tmp_path))
    wanted = {"inputs": image("yellow"), "parameters": {"candidate_labels": [" yellow", "blue"]}}
    assert set(answers(requests, wanted)[0]) == {"yellow", "blue"}
    with pytest.raises(BadRequest, match="has no vector for 'pink'"):
        requests.prepare({"inputs": image(), "parameters": {"candidate_labels": ["pink"]}})


def test_baked_classes_are_the_only_ones(tmp_path):
    requests = open_requests(str(write_export(tmp_path, "baked")))
    assert set(answers(requests, {"inputs": image()})[0]) == {"red", "blue"}
    with pytest.raises(BadRequest, match="leave `candidate_labels` out"):
        requests.prepare({"inputs": image(), "parameters": {"candidate_labels": ["red"]}})


@pytest.mark.parametrize(
    ("options", "record", "said"),
    [
        ({"text_tower": True}, {}, "is an export, which has none"),
        ({"bank": "gone.safetensors"}, {}, "--bank .* does not exist"),
        ({"bank": "gone.safetensors"}, {"vocabulary": "baked"}, "takes no others; leave --bank out"),
        ({}, {"label_map": True}, "without --label_map"),
    ],
)
def test_what_an_export_cannot_do_is_told_at_the_start(tmp_path, options, record, said):
    folder = write_export(tmp_path)
    content = json.loads((folder / "export.json").read_text()) | record
    (folder / "export.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        open_requests(str(folder), **options)
