"""What a saved folder says about code: it names what lies beside it, and nothing else."""

import json

import pytest

from modeling_lclipseg import LClipSegConfig

PIPELINES = {"image-segmentation": {"impl": "pipeline.Pipeline", "pt": [], "type": "image"}}


@pytest.mark.parametrize(
    ("there", "auto_map", "kept"),
    [
        ("model.py", "model.Model", "model.Model"),
        ("code/model.py", "code/model.Model", "code/model.Model"),
        ("model.py", "code/model.Model", "model.Model"),  # transformers copies into the folder itself
        ("other.py", "model.Model", None),
        ("other.py", "org/name--model.Model", "org/name--model.Model"),
    ],
)
def test_reference_is_kept_where_its_file_is_beside_it(tmp_path, there, auto_map, kept):
    (tmp_path / "code").mkdir()
    (tmp_path / there).touch()
    config = LClipSegConfig(auto_map={"AutoModel": auto_map}, custom_pipelines=PIPELINES)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.get("auto_map") == (kept and {"AutoModel": kept})
    assert "custom_pipelines" not in written
    assert config.auto_map == {"AutoModel": auto_map} and config.custom_pipelines == PIPELINES


def test_pipeline_is_kept_where_its_file_is_beside_it(tmp_path):
    (tmp_path / "pipeline.py").touch()
    LClipSegConfig(custom_pipelines=PIPELINES).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["custom_pipelines"] == PIPELINES
