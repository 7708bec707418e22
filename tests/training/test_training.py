"""train.py end to end on a tiny folder: a run, its files, recipes, and what it refuses."""

import json
import re
from pathlib import Path

import pytest
import torch
from tiny_run import run
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from lclipseg.commands import train
from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.training.arguments import DataArguments, ModelArguments, RunArguments, check_together
from lclipseg.training.start import other_words
from modeling_lclipseg import WordBank


def trained(workspace: Path, folder: Path, *options: str):
    """The network at the end of a run of one step, or of what the options say."""
    run(workspace, folder, "--epochs", "0.4", *options)
    return AutoModelForSemanticSegmentation.from_pretrained(folder / "last")


@pytest.fixture(scope="module")
def bank(workspace) -> WordBank:
    return WordBank.load(workspace / "bank.safetensors")


def test_run_leaves_a_loadable_model_with_its_classes_and_vectors(whole_runs, bank):
    best = whole_runs["alone"] / "best"
    model = AutoModelForSemanticSegmentation.from_pretrained(best)
    assert model.config.id2label == {0: "sky", 1: "road"}
    assert model.config.text_model_name_or_path == "some/tower"
    torch.testing.assert_close(model.class_embeddings, bank.lookup(["sky", "road"]))
    torch.testing.assert_close(model.class_center, bank.center)
    assert AutoImageProcessor.from_pretrained(best).size.shortest_edge == 48


@pytest.mark.parametrize(("options", "tower"), [((), None), (("--text_model", "own/tower"), "own/tower")])
def test_bank_tells_the_checkpoint_its_tower_and_templates(workspace, tmp_path, bank, options, tower):
    WordBank(bank.names, bank.embeddings, None, ("{} outdoors",)).save(tmp_path / "other.safetensors")
    config = trained(workspace, tmp_path / "run", "--bank", str(tmp_path / "other.safetensors"), *options).config
    assert config.text_model_name_or_path == tower
    assert config.prompt_templates == ["{} outdoors"]


@pytest.mark.parametrize("center", ["classes", "none"])
def test_centre_of_the_vectors_can_be_chosen(workspace, tmp_path, center):
    model = trained(workspace, tmp_path, "--center", center)
    expected = model.class_embeddings.mean(0) if center == "classes" else torch.zeros(32)
    torch.testing.assert_close(model.class_center, expected)


def test_run_describes_itself(whole_runs):
    description = json.loads((whole_runs["alone"] / "run.json").read_text())
    assert description["arguments"]["seed"] == 0
    assert description["arguments"]["batch_size"] == 2
    assert torch.__version__.startswith(description["versions"]["torch"])
    assert description["steps"] == 12


def test_run_without_a_terminal_tells_a_line_now_and_then(workspace, tmp_path, capsys):
    run(workspace, tmp_path, "--epochs", "4", "--eval_every", "4")
    said = re.findall(
        r"(?m)^step (\d+/\d+)  loss \d\.\d{3}  rate \d\.\de[+-]\d\d  \d+ images/s  data \d+%  \d+ min left$",
        capsys.readouterr().out,
    )
    assert said == ["10/12", "12/12"]


@pytest.mark.parametrize("guidance", ["fusion", "lseg", "denseclip", "none"])
def test_training_learns_two_colours(workspace, tmp_path, guidance):
    scores = run(
        workspace, tmp_path, "--guidance", guidance, "--epochs", "40", "--eval_every", "40",
        "--batch_size", "6", "--crop_size", "64", "64", "--scale", "1", "1", "--learning_rate", "0.01",
        "--backbone_lr_scale", "1",
    )  # fmt: skip
    assert scores["mean_iou"] > 0.8


def test_held_out_class_is_neither_learned_nor_validated(workspace, tmp_path):
    (tmp_path / "held_out.yaml").write_text("classes: [road]")
    model = trained(workspace, tmp_path / "run", "--held_out", str(tmp_path / "held_out.yaml"))
    assert model.config.id2label == {0: "sky"}
    assert list(json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["per_class"]) == ["sky"]


def test_config_fields_win_over_the_preset(workspace, tmp_path):
    config = trained(workspace, tmp_path, "--config", "hidden_size=32", "auxiliary_loss_weight=0.0").config
    assert (config.hidden_size, config.auxiliary_loss_weight) == (32, 0)


def test_ablated_part_is_still_away_at_the_end(workspace, tmp_path):
    options = ("--epochs", "1", "--config", "num_fusion_layers=1", "--ablation", "text_to_image")
    model = trained(workspace, tmp_path, *options)
    assert not model.head.fusion.layers[0].text_to_image.value.weight.any()


def test_learned_vectors_leave_their_start(workspace, tmp_path):
    vectors = trained(workspace, tmp_path, "--epochs", "2", "--vectors", "learned").class_embeddings
    assert not torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-6)


def test_competing_words_are_none_of_the_classes(workspace, bank):
    others = other_words(ModelArguments(bank=str(workspace / "bank.safetensors")), {"sky", "road"})
    torch.testing.assert_close(others, bank.lookup(["tree", "car"]))


def test_competing_words_need_a_bank():
    with pytest.raises(InputError, match="need --bank"):
        train.main(*parse("--negative_words", "2", "--data", "data", "--output_dir", "run"))


def test_run_with_noise_and_competing_words_trains(workspace, tmp_path):
    assert trained(workspace, tmp_path, "--vector_noise", "0.5", "--negative_words", "2")


def test_images_kept_on_the_device_do_not_change_the_result(workspace, tmp_path):
    alone = run(workspace, tmp_path / "alone")
    assert run(workspace, tmp_path / "kept", "--cache_on_device", "true") == alone


@pytest.mark.parametrize("name", ["last", "last.old"])  # a stop between two renames leaves the latter
def test_existing_run_is_not_overwritten(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="--resume true"):
        check_together(ModelArguments(), DataArguments(data=["org/name"]), RunArguments(output_dir=str(tmp_path)))


# ----------------------------------------------------------------------------------------------- recipes and bad input


def parse(*argv: str):
    return arguments.parse("", train.ModelArguments, train.DataArguments, train.RunArguments, argv=argv)


def test_command_line_wins_over_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("epochs: 7\nseed: 3\ncrop_size: [64, 96]\ncache: true\n")
    _, data, options = parse(str(tmp_path / "recipe.yaml"), "--epochs", "9")
    assert (options.epochs, options.seed, data.crop_size, data.cache) == (9, 3, [64, 96], True)


@pytest.mark.parametrize("recipe", sorted(Path("configuration/recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_recipes_parse(recipe):
    model, data, _ = parse(str(recipe))
    assert (model.model or "lclipseg-").startswith("lclipseg-") and len(data.crop_size) == 2


def test_unknown_recipe_field_suggests_the_nearest(tmp_path):
    (tmp_path / "recipe.yaml").write_text("epoch: 7\n")
    with pytest.raises(InputError, match="'epochs'"):
        parse(str(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--learning_rat3", "1"), "'learning_rate'"),
        (("--warmup_steps", "6"), "warm-up"),
        (("--text_model", "another/tower"), "some/tower"),
        (("--trackers", "tensorbord"), "tensorbord"),
        (("--max_grad_norm", "0"), "--max_grad_norm"),
        (("--model", "lclipseg-nope"), "no preset"),
        (("--bank", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--crop_size", "32"), "--crop_size"),
        (("--epochs", "0"), "--epochs"),
        (("--batch_size", "1"), "--batch_norm frozen"),
        (("--max_loss", "-1"), "--max_loss"),
        (("--max_unreadable", "5"), "--max_unreadable is 5.0; it must be a share"),
        (("--warmup_steps", "-3"), "--warmup_steps"),
        (("--save_every", "-1"), "--save_every"),
        (("--num_workers", "-1"), "--num_workers"),
        (("--seed", "-1"), "--seed"),
        (("--repeat_rare", "2"), "--repeat_rare is 2.0; it must be a share"),
        (("--streaming", "true", "--repeat_rare", "0.1"), "which --streaming true has not"),
        (("--streaming", "true", "--class_weights", "inverse_sqrt"), "which --streaming true has not"),
        (("--dice", "-1"), "--dice is -1.0; it must be 0 or more"),
        (("--ema", "1"), "--ema is 1.0; it must be 0, or a decay below 1"),
        (("--max_class_share", "0"), "--max_class_share"),
        (("--images_per_epoch", "3"), "--streaming true"),
        (("--streaming", "true", "--cache", "true"), "--streaming true goes with none of"),
        (("--center", "middle"), "--center"),
        (("--resume", "true"), "nothing to resume"),
        (("--expected_processes", "2"), "2 processes"),
        (("--cache_on_device", "true", "--num_workers", "2"), "--num_workers 2"),
        (("--config", "hiden_size=32"), r"hiden_size=32: write FIELD=VALUE .*'hidden_size'"),
        (("--guidance", "none", "--vectors", "random"), "--vectors random needs a guidance with text"),
    ],
)
def test_bad_argument_is_an_input_error(workspace, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(workspace, tmp_path / "run", *options)


@pytest.mark.parametrize(("option", "value"), [("--guidance", "fuson"), ("--mixed_precision", "fp8")])
def test_choice_that_does_not_exist_is_refused_with_those_that_do(workspace, tmp_path, capsys, option, value):
    with pytest.raises(SystemExit):
        run(workspace, tmp_path / "run", option, value)
    assert "choose from" in capsys.readouterr().err


def test_class_without_a_vector_is_named_and_learned(workspace, tmp_path, data, bank, caplog):
    (data / "classes.json").write_text('["sky", "zebra"]')
    vectors = trained(workspace, tmp_path / "run", "--data", str(data), "--epochs", "2").class_embeddings
    assert "no vector is known for 'zebra'" in caplog.text
    torch.testing.assert_close(vectors[0], bank.lookup(["sky"])[0])  # a word's vector stays


def test_text_tower_that_cannot_be_had_is_named(workspace, tmp_path):
    with pytest.raises(InputError, match=r"(?s)some-org/no-such-tower.*--bank"):
        argv = ["--model", str(workspace / "tiny.yaml"), "--data", str(workspace / "data"), "--text_model",
                "some-org/no-such-tower", "--output_dir", str(tmp_path / "run"), "--trackers", "none"]  # fmt: skip
        train.main(*parse(*argv))
