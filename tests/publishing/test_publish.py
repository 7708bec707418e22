"""publish.py: what it refuses, what it builds, and that a stranger's process can load it from a Hub and a folder."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import finished_run
import pytest
import torch
import yaml
from finished_run import REPO
from huggingface_hub import ModelCard, parse_eval_result_entries
from loopback_hub import LoopbackHub, running_hub
from PIL import Image
from safetensors.torch import load_file, save_file
from stranger import load_elsewhere
from tiny_model import NAMES, tiny_model
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

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
IMAGE = Image.new("RGB", (96, 64), "green")  # as in clean_process.py


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.getbasetemp() / "finished"


@pytest.fixture(scope="module")
def made(base) -> Path:
    return finished_run.finished_run(base)


@pytest.fixture(scope="module")
def folder(base) -> Path:
    """What a dry run builds."""
    return finished_run.published_folder(base)


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A run that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "run"))


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


def test_code_is_complete_and_the_package_s_own(folder):
    from transformers.dynamic_module_utils import get_relative_imports

    for path in folder.glob("*_lclipseg.py"):
        assert path.read_bytes() == (ROOT / "modeling_lclipseg" / path.name).read_bytes()
        assert all((folder / f"{name}.py").is_file() for name in get_relative_imports(path))


def test_code_of_a_head_that_is_not_used_stays_at_home(folder):
    assert not (folder / "denseclip_lclipseg.py").exists()


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


def test_weights_on_the_hub_have_no_hash_here():
    assert weights_sha256("some-org/some-model") is None


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


def test_our_own_commands_load_it_without_its_code(folder, made):
    model, image_processor = load_model(folder)
    assert type(model) is LClipSegForSemanticSegmentation
    with torch.no_grad():
        logits = model(**image_processor(IMAGE, return_tensors="pt")).logits
    torch.testing.assert_close(logits, original_logits(made))


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


def test_requirements_are_the_package_s_own_bounds():
    setup = (ROOT / "setup.cfg").read_text().split("install_requires =")[1].split("[options")[0].split()
    wanted = (ROOT / "scripts" / "lclipseg" / "endpoint" / "requirements.txt").read_text().split()
    assert set(wanted) <= set(setup)
    assert set(setup) - set(wanted) <= {"pyyaml>=6", "rich>=13"}  # of the commands


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


def test_exported_model_is_taken_over(run, tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.onnx").write_bytes(b"onnx")
    out = dry_run(run, onnx=str(tmp_path / "export"))
    assert (out / "onnx" / "model.onnx").read_bytes() == b"onnx"


def test_record_of_an_exported_model_loses_the_folders_of_the_machine(run, tmp_path):
    for folder in (tmp_path / "export", tmp_path / "export" / "int8"):
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"onnx")
        (folder / "export.json").write_text('{"model": "/srv/runs/street", "opset": 18}')
    out = dry_run(run, onnx=str(tmp_path / "export"))
    for folder in (out / "onnx", out / "onnx" / "int8"):
        assert json.loads((folder / "export.json").read_text()) == {"model": "street", "opset": 18}


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


@pytest.mark.parametrize("repo", ["no-owner", "a/b/c", "org/na me", "org/--x", "org/../x", "org/x.git"])
def test_bad_repository_name_is_refused(run, repo):
    with pytest.raises(InputError, match="--repo"):
        dry_run(run, repo=repo)


@pytest.mark.parametrize("revision", ["", "two words", "-x", "refs/pr/1"])
def test_bad_branch_name_is_refused(run, revision):
    with pytest.raises(InputError, match="--revision"):
        dry_run(run, revision=revision)


def test_folder_that_is_no_run_is_refused_with_the_run_nearby(run):
    with pytest.raises(InputError, match=f"did you mean {run}"):
        dry_run(run / "best")


def test_run_without_results_is_refused_with_the_command(run):
    (run / "evaluation.json").unlink()
    with pytest.raises(InputError, match=rf"lclipseg evaluate {run / 'best'} .*--out {run}"):
        dry_run(run)


def test_results_that_do_not_name_their_weights_are_refused(run):
    change(run / "evaluation.json", weights_sha256=None)
    with pytest.raises(InputError, match=r"which weights they are of .*lclipseg evaluate"):
        dry_run(run)


def test_results_of_other_weights_are_refused(run):
    change(run / "evaluation.json", weights_sha256="0" * 64)
    with pytest.raises(InputError, match=r"other weights: .*000000000000\.\.\."):
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


@pytest.mark.parametrize(("field", "value"), [("limit", 2), ("classes_from", "data")])
def test_results_that_are_not_of_the_whole_are_refused(run, field, value):
    change(run / "evaluation.json", **{field: value})
    with pytest.raises(InputError, match=r"limit|classes_from"):
        dry_run(run)


def test_something_else_than_results_is_refused(run):
    (run / "evaluation.json").write_text('{"mean_iou": 0.99}')
    with pytest.raises(InputError, match=r"no record of `lclipseg evaluate`: it lacks .*scores"):
        dry_run(run)


def test_unfinished_run_is_refused(run):
    change(run / "last" / "progress.json", step=3)
    with pytest.raises(InputError, match="step 3 of 5"):
        dry_run(run)


def test_run_of_changed_code_is_refused(run):
    change(run / "run.json", commit="0123456789+")
    with pytest.raises(InputError, match="differed from commit 0123456789"):
        dry_run(run)


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


def test_folder_without_an_exported_model_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="--onnx"):
        dry_run(run, onnx=str(tmp_path / "nothing"))


# ----------------------------------------------------------------------------------------------- from a Hub, elsewhere


@contextmanager
def connected_to(hub: LoopbackHub):
    """This very process takes the server for the Hub."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            patch.setattr(f"huggingface_hub.constants.{name}", value)
        patch.setenv("HF_TOKEN", "hf_loopback")
        yield


@pytest.fixture(scope="module")
def hub(base):
    """A Hub on which the run has been published."""
    with running_hub() as hub:
        with connected_to(hub):
            publish_copy(base, REPO)
        yield hub


@pytest.fixture
def connected(hub) -> Iterator[LoopbackHub]:
    with connected_to(hub):
        yield hub


def publish_copy(base: Path, repo: str, **options) -> None:
    out = base.with_name(f"publishing-{repo.replace('/', '-')}")
    publish(str(finished_run.finished_run(base)), PublishArguments(repo=repo, out=str(out), **options))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stranger")


@pytest.fixture(scope="module")
def found(hub, cache) -> dict:
    """What a stranger gets from the Hub."""
    return load_elsewhere(cache, REPO, **hub.environment(str(cache)))[0]


def original_logits(made: Path) -> torch.Tensor:
    model = AutoModelForSemanticSegmentation.from_pretrained(made / "best")
    inputs = AutoImageProcessor.from_pretrained(made / "best")(IMAGE, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_everything_is_published_in_one_commit(hub, folder):
    assert hub.repositories[REPO].messages == ["initial commit", "mIoU 11.11 on data, test"]
    assert set(hub.files(REPO)) == {".gitattributes", *map(str, files_below(folder))}


def test_card_passes_the_hub_s_validation(connected, folder):
    ModelCard.load(folder / "README.md").validate()
    assert connected.requests[-1] == ("POST", "/api/validate-yaml")


def test_stranger_gets_the_code_from_the_repository(found):
    assert all(name.startswith("transformers_modules.some_hyphen_org.tiny_hyphen_street") for name in found["modules"])
    assert (found["model_type"], found["classes"]) == ("lclipseg", dict(enumerate(NAMES)))


def test_stranger_gets_the_same_logits(found, made):
    torch.testing.assert_close(found["logits"], original_logits(made))


def test_both_auto_classes_give_the_same_weights(found):
    assert found["state"].keys() == found["base_state"].keys()
    assert all(torch.equal(tensor, found["base_state"][name]) for name, tensor in found["state"].items())


def test_processor_prepares_images_as_its_image_processor_does(found):
    torch.testing.assert_close(found["processor_pixel_values"], found["pixel_values"])


def test_pipeline_is_ours_and_takes_classes(found):
    assert found["pipeline"] == "LClipSegPipeline"
    assert set(found["labels"]) <= set(NAMES)
    assert found["chosen"] == ["car"]


def test_what_a_stranger_saves_is_loaded_again(found):
    torch.testing.assert_close(found["saved"]["logits"], found["logits"], atol=1e-4, rtol=1e-3)


def test_code_of_the_card_runs(found):
    assert found["label_map"].shape == (64, 96)
    assert found["masks"] >= 1


def test_cache_and_folder_are_enough_without_a_network(found, hub, cache, folder, made):
    asked = len(hub.requests)
    for again in load_elsewhere(cache, REPO, str(folder), **hub.environment(str(cache)), HF_HUB_OFFLINE="1"):
        torch.testing.assert_close(again["logits"], original_logits(made))
        assert again["pipeline"] == "LClipSegPipeline"
        assert again["base_state"].keys() == again["state"].keys()
    assert len(hub.requests) == asked


def test_publishing_again_removes_what_is_stale_and_leaves_the_rest(connected, base):
    publish_copy(base, "some-org/again")
    repository = connected.repositories["some-org/again"]
    old, own = connected.store(b"old"), connected.store(b"own")
    files = repository.commits[repository.branches["main"]]
    repository.commit("main", {**files, "old_lclipseg.py": old, "onnx/model.onnx": old, "notes.txt": own}, "by hand")
    publish_copy(base, "some-org/again")
    assert set(connected.files("some-org/again")) == set(files) | {"notes.txt"}


def test_branch_is_made_and_main_left_alone(connected, base):
    publish_copy(base, "some-org/branches", revision="v2", private=True)
    assert set(connected.files("some-org/branches", "main")) == {".gitattributes"}
    assert "model.safetensors" in connected.files("some-org/branches", "v2")
    assert connected.repositories["some-org/branches"].private


def test_public_repository_is_not_taken_for_a_private_one(connected, base):
    publish_copy(base, "some-org/public")
    with pytest.raises(InputError, match="exists and is public"):
        publish_copy(base, "some-org/public", private=True)


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
