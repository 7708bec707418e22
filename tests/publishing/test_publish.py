"""publish.py: what it builds, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from finished_run import REPO
from huggingface_hub import ModelCard, parse_eval_result_entries
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_model import tiny_model

from lclipseg.commands.publish import parse
from lclipseg.console.errors import InputError
from lclipseg.networks.checkpoints import load_model, weights_sha256
from lclipseg.publishing.arguments import PublishArguments
from lclipseg.publishing.card import without_folders
from lclipseg.publishing.publish import publish
from lclipseg.publishing.repository import AUTO_CLASSES, _save_with_code, files_below
from modeling_lclipseg import LClipSegConfig, LClipSegForSemanticSegmentation, LClipSegImageProcessor
from modeling_lclipseg.heads_lclipseg import HEADS

ROOT = Path(__file__).resolve().parents[2]


def dry_run(run: Path, repo: str = REPO, **options) -> Path:
    publish(str(run), PublishArguments(repo=repo, dry_run=True, **options))
    return Path(options.get("out") or run / "published")


def change(path: Path, **values) -> None:
    """Overwrite fields of a JSON file; None takes a field away."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


# ------------------------------------------------------------------------------------------------------ what it builds


def test_repository_has_every_file_that_loading_needs(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "processor_config.json"} <= names
    assert {"README.md", "LICENSE", "NOTICE", "handler.py", "requirements.txt"} <= names
    assert {"run.json", "evaluation.json", "pipeline_lclipseg.py", "modeling_lclipseg.py"} <= names
    assert not names & {"__init__.py", "progress.json", "training_state", "tokenizer_config.json"}
    assert "denseclip_lclipseg.py" not in names  # the code of a head that is not used


def test_code_is_complete_and_the_package_s_own(folder):
    from transformers.dynamic_module_utils import get_relative_imports

    for path in folder.glob("*_lclipseg.py"):
        assert path.read_bytes() == (ROOT / "modeling_lclipseg" / path.name).read_bytes()
        assert all((folder / f"{name}.py").is_file() for name in get_relative_imports(path))


def test_denseclip_is_published_with_the_code_of_its_head(tmp_path, monkeypatch):
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    model, out = tiny_model(guidance="denseclip"), tmp_path / "published"
    model.save_pretrained(out)
    _save_with_code(model, LClipSegImageProcessor(), None, out)
    config, found = (
        dynamic_module_utils.get_class_from_dynamic_module(model.config.auto_map[auto_class], str(out))
        for auto_class in ("AutoConfig", "AutoModelForSemanticSegmentation")
    )
    loaded = found.from_pretrained(out, config=config.from_pretrained(out)).eval()
    assert found.__module__.startswith("transformers_modules")
    pixel_values = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_code_without_a_head_says_which_it_has(monkeypatch):
    monkeypatch.delitem(HEADS, "denseclip")
    with pytest.raises(ValueError, match="no head for guidance='denseclip', only fusion, lseg, none"):
        tiny_model(guidance="denseclip")


def test_weights_are_those_that_were_scored_byte_for_byte(made, folder):
    scored = json.loads((made / "evaluation.json").read_text())["weights_sha256"]
    assert weights_sha256(folder) == scored


def test_config_names_a_class_of_the_repository_for_every_auto_class(folder):
    config = json.loads((folder / "config.json").read_text())
    model = "modeling_lclipseg.LClipSegForSemanticSegmentation"
    assert config["auto_map"] == {
        "AutoConfig": "configuration_lclipseg.LClipSegConfig",
        "AutoModel": model,
        "AutoModelForSemanticSegmentation": model,
    }
    assert config["custom_pipelines"]["image-segmentation"]["impl"] == "pipeline_lclipseg.LClipSegPipeline"
    auto_map = json.loads((folder / "preprocessor_config.json").read_text())["auto_map"]
    assert auto_map["AutoImageProcessor"] == "image_processing_lclipseg.LClipSegImageProcessor"
    auto_map = json.loads((folder / "processor_config.json").read_text())["auto_map"]
    assert auto_map["AutoProcessor"] == "processing_lclipseg.LClipSegProcessor"


def test_our_own_commands_load_it_without_its_code(folder, original_logits):
    model, image_processor = load_model(folder)
    assert type(model) is LClipSegForSemanticSegmentation
    with torch.no_grad():
        logits = model(**image_processor(Image.new("RGB", (96, 64), "green"), return_tensors="pt")).logits
    torch.testing.assert_close(logits, original_logits)


def test_models_saved_afterwards_are_plain(folder, model, tmp_path):
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert not hasattr(LClipSegConfig(), "auto_map")
    assert all(cls._auto_class is None for cls, _ in AUTO_CLASSES)


def test_card_has_valid_metadata_and_the_score(made, folder):
    card = ModelCard.load(folder / "README.md")
    scores = json.loads((made / "evaluation.json").read_text())["scores"]
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "image-segmentation")
    assert card.data.model_name == "tiny-street"
    by_metric = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert by_metric["mean_iou"] == pytest.approx(scores["mean_iou"], abs=1e-4)
    assert f"**mIoU {100 * scores['mean_iou']:.2f}**" in card.text
    assert f'"{REPO}"' in card.text and '"revision": "main"' in card.text


def test_records_name_no_folder_of_the_machine(made, folder, base):
    for name in ("run.json", "evaluation.json", "README.md"):
        assert str(base) not in (folder / name).read_text()
    assert json.loads((folder / "run.json").read_text())["arguments"]["seed"] == 0
    assert without_folders({"a": ["/x/y.z", "~/y", r"C:\x\y", "x/y", 1]}) == {"a": ["y.z", "y", "y", "x/y", 1]}


def test_second_dry_run_takes_the_place_of_the_first(run):
    out = dry_run(run)
    (out / "README.md").write_text("old")
    assert (dry_run(run) / "README.md").read_text().startswith("---")


def test_folder_with_other_files_is_not_published(run):
    (run / "published").mkdir()
    (run / "published" / "secret.txt").write_text("mine")
    with pytest.raises(InputError, match=r"secret\.txt"):
        dry_run(run)


def test_nothing_else_of_a_run_is_published(run, folder):
    for name in ("optimizer.pt", "training_state/random_states_0.pkl", "notes.txt", "extra.py"):
        for path in (run / name, run / "best" / name):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"not for others")
    assert files_below(dry_run(run)) == files_below(folder)


@pytest.mark.parametrize("name", ["optimizer.pt", "int8/notes.txt", "extra.py"])
def test_other_files_beside_an_exported_model_are_refused(run, tmp_path, name):
    for path in (tmp_path / "export" / "model.onnx", tmp_path / "export" / name):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"content")
    with pytest.raises(InputError, match=f"no part of an export \\({name}\\)"):
        dry_run(run, onnx=str(tmp_path / "export"))


def test_exported_model_is_taken_over_but_for_the_folders_of_the_machine_in_its_record(run, tmp_path):
    for folder in (tmp_path / "export", tmp_path / "export" / "int8"):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"onnx")
        (folder / "export.json").write_text('{"model": "/srv/runs/street", "opset": 18}')
    out = dry_run(run, onnx=str(tmp_path / "export"))
    for folder in (out / "onnx", out / "onnx" / "int8"):
        assert json.loads((folder / "export.json").read_text()) == {"model": "street", "opset": 18}
        assert (folder / "model.onnx").read_bytes() == b"onnx"


def test_tokenizer_of_the_run_is_published(run):
    from transformers import CLIPTokenizer

    vocabulary = {token: index for index, token in enumerate(["a", "a</w>", "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16).save_pretrained(run / "best")
    assert (dry_run(run) / "tokenizer_config.json").is_file()


def test_facts_give_licence_examples_and_benchmark(run, tmp_path):
    facts = {
        "name": "Streets",
        "licence": "mit",
        "benchmark": {"id": "some-org/streets", "task_id": "semantic"},
        "examples": {"docs/demo/street.jpg": "A street"},
    }
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(facts))
    out = dry_run(run, facts=str(tmp_path / "facts.yaml"), revision="v2")
    card = ModelCard.load(out / "README.md")
    assert card.data.license == "mit" and "mit" in (out / "NOTICE").read_text()
    assert (out / "examples" / "street.jpg").is_file() and (out / "examples" / "SOURCES.md").is_file()
    assert card.data.widget[0]["src"].endswith(f"{REPO}/resolve/v2/examples/street.jpg")
    (entry,) = parse_eval_result_entries(yaml.safe_load((out / ".eval_results" / "data.yaml").read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("some-org/streets", "semantic", 11.11)


# ----------------------------------------------------------------------------------------------------- what it refuses


BAD_PLACES = [
    *(("repo", name) for name in ("no-owner", "a/b/c", "org/na me", "org/--x", "org/../x", "org/x.git")),
    *(("revision", name) for name in ("", "two words", "-x", "refs/pr/1")),
    ("onnx", "nothing"),
]


@pytest.mark.parametrize(("option", "value"), BAD_PLACES)
def test_bad_name_of_a_place_is_refused(run, option, value):
    with pytest.raises(InputError, match=f"--{option}"):
        dry_run(run, **{option: value})


def test_folder_that_is_no_run_is_refused_with_the_run_nearby(run):
    with pytest.raises(InputError, match=f"did you mean {run}"):
        dry_run(run / "best")


def test_run_without_results_is_refused_with_the_command(run):
    (run / "evaluation.json").unlink()
    with pytest.raises(InputError, match=rf"lclipseg evaluate {run / 'best'} .*--out {run}"):
        dry_run(run)


@pytest.mark.parametrize(
    ("file", "field", "value", "said"),
    [
        ("evaluation.json", "weights_sha256", None, r"which weights they are of .*lclipseg evaluate"),
        ("evaluation.json", "weights_sha256", "0" * 64, r"other weights: .*000000000000\.\.\."),
        ("evaluation.json", "limit", 2, r"--limit"),
        ("evaluation.json", "classes_from", "data", r"--classes_from"),
        ("evaluation.json", "scores", None, r"no record of `lclipseg evaluate`: it lacks scores"),
        ("last/progress.json", "step", 3, "step 3 of 5"),
        ("run.json", "commit", "0123456789+", "differed from commit 0123456789"),
    ],
)
def test_run_or_results_that_are_not_fit_to_be_published_are_refused(run, file, field, value, said):
    change(run / file, **{field: value})
    with pytest.raises(InputError, match=said):
        dry_run(run)


def test_results_choose_the_checkpoint_that_they_were_measured_on(run):
    shift_weights(run / "last")
    change(run / "evaluation.json", weights_sha256=weights_sha256(run / "last"))
    assert weights_sha256(dry_run(run)) == weights_sha256(run / "last")


def test_results_of_two_checkpoints_are_refused(run, tmp_path):
    shift_weights(run / "last")
    shutil.copy(run / "evaluation.json", tmp_path / "other.json")
    change(tmp_path / "other.json", weights_sha256=weights_sha256(run / "last"))
    with pytest.raises(InputError, match="different weights"):
        dry_run(run, results=[str(run), str(tmp_path / "other.json")])


def shift_weights(checkpoint: Path, value: float | None = None, name: str = "class_center") -> None:
    """Change one tensor; or add one, where there is none of the name."""
    weights = load_file(checkpoint / "model.safetensors")
    weights[name] = weights.get(name, torch.zeros(1)) + (1.0 if value is None else value)
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("class_center", float("nan"), "class_center holds NaN"), ("text_model.a.weight", None, "text tower inside")],
)
def test_weights_that_nobody_should_get_are_refused(run, name, value, message):
    shift_weights(run / "best", value, name)
    change(run / "evaluation.json", weights_sha256=weights_sha256(run / "best"))
    with pytest.raises(InputError, match=message):
        dry_run(run)


def test_hub_that_cannot_be_reached_is_an_error_without_a_traceback(run, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE"):
        publish(str(run), PublishArguments(repo=REPO))


def test_command_line_names_run_and_repository():
    run, options = parse(["runs/mine", "--repo", "a/b", "--dry_run", "true", "--results", "x", "y"])
    assert (run, options.repo, options.dry_run, options.results) == ("runs/mine", "a/b", True, ["x", "y"])


def test_classes_stay_plain_when_publishing_fails(run, monkeypatch):
    monkeypatch.setattr("lclipseg.publishing.repository.custom_object_save", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dry_run(run)
    assert LClipSegForSemanticSegmentation._auto_class is None
