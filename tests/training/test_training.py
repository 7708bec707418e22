"""train.py end to end on a tiny folder: a run, its files, exact resume, recipes, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tiny_run import run
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from lclipseg.commands import train
from lclipseg.console import arguments
from lclipseg.console.errors import InputError
from lclipseg.training.arguments import ModelArguments
from lclipseg.training.start import other_words
from modeling_lclipseg import WordBank


def test_run_leaves_a_loadable_model_with_its_classes_and_vectors(workspace, tmp_path):
    run(workspace, tmp_path / "run")
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "best")
    bank = WordBank.load(workspace / "bank.safetensors")
    assert model.config.id2label == {0: "sky", 1: "road"}
    assert model.config.text_model_name_or_path == "some/tower"
    torch.testing.assert_close(model.class_embeddings, bank.lookup(["sky", "road"]))
    torch.testing.assert_close(model.class_center, bank.center)
    assert AutoImageProcessor.from_pretrained(tmp_path / "run" / "best").size.shortest_edge == 48


def test_bank_tells_the_checkpoint_its_tower_and_templates(workspace, tmp_path):
    words = WordBank.load(workspace / "bank.safetensors")
    WordBank(words.names, words.embeddings, None, ("{} outdoors",)).save(tmp_path / "other.safetensors")
    bank = ("--bank", str(tmp_path / "other.safetensors"), "--epochs", "0.4")
    for name, options, tower in (("a", (), None), ("b", ("--text_model", "own/tower"), "own/tower")):
        run(workspace, tmp_path / name, *bank, *options)
        config = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / name / "last").config
        assert config.text_model_name_or_path == tower
        assert config.prompt_templates == ["{} outdoors"]


@pytest.mark.parametrize("center", ["classes", "none"])
def test_centre_of_the_vectors_can_be_chosen(workspace, tmp_path, center):
    run(workspace, tmp_path / "run", "--center", center, "--epochs", "0.4")
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    expected = model.class_embeddings.mean(0) if center == "classes" else torch.zeros(32)
    torch.testing.assert_close(model.class_center, expected)


def test_run_describes_itself(workspace, tmp_path):
    run(workspace, tmp_path / "run")
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["arguments"]["seed"] == 0
    assert description["arguments"]["batch_size"] == 2
    assert torch.__version__.startswith(description["versions"]["torch"])
    assert description["steps"] == 6


def test_run_without_a_terminal_tells_a_line_now_and_then(workspace, tmp_path, capsys):
    run(workspace, tmp_path / "run", "--epochs", "4")
    said = re.findall(
        r"(?m)^step (\d+/\d+)  loss \d\.\d{3}  rate \d\.\de[+-]\d\d  \d+ images/s  data \d+%  \d+ min left$",
        capsys.readouterr().out,
    )
    assert said == ["10/12", "12/12"]


@pytest.mark.parametrize("guidance", ["fusion", "lseg", "denseclip", "none"])
def test_training_learns_two_colours(workspace, tmp_path, guidance):
    scores = run(
        workspace, tmp_path / "run", "--guidance", guidance, "--epochs", "40", "--eval_every", "40",
        "--batch_size", "6", "--crop_size", "64", "64", "--scale", "1", "1", "--learning_rate", "0.01",
        "--backbone_lr_scale", "1",
    )  # fmt: skip
    assert scores["mean_iou"] > 0.8


def test_held_out_class_is_neither_learned_nor_validated(workspace, tmp_path):
    (tmp_path / "held_out.yaml").write_text("classes: [road]")
    scores = run(workspace, tmp_path / "run", "--epochs", "0.4", "--held_out", str(tmp_path / "held_out.yaml"))
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    assert model.config.id2label == {0: "sky"}
    assert list(scores["per_class"]) == ["sky"]


def test_config_fields_win_over_the_preset(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "0.4", "--config", "hidden_size=32", "auxiliary_loss_weight=0.0")
    config = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last").config
    assert (config.hidden_size, config.auxiliary_loss_weight) == (32, 0)


def test_unknown_config_field_suggests_the_nearest(workspace, tmp_path):
    with pytest.raises(InputError, match=r"hiden_size=32: write FIELD=VALUE .*'hidden_size'"):
        run(workspace, tmp_path / "run", "--config", "hiden_size=32")


def test_ablated_part_is_still_away_at_the_end(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "1", "--config", "num_fusion_layers=1", "--ablation", "text_to_image")
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    assert not model.head.fusion.layers[0].text_to_image.value.weight.any()


def test_learned_vectors_leave_their_start(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "2", "--vectors", "learned")
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    assert not torch.allclose(model.class_embeddings.norm(dim=1), torch.ones(2), atol=1e-6)


def test_control_vectors_need_a_guidance_with_text(workspace, tmp_path):
    with pytest.raises(InputError, match="--vectors random needs a guidance with text"):
        run(workspace, tmp_path / "run", "--guidance", "none", "--vectors", "random")


def test_competing_words_are_none_of_the_classes(workspace):
    others = other_words(ModelArguments(bank=str(workspace / "bank.safetensors")), {"sky", "road"})
    torch.testing.assert_close(others, WordBank.load(workspace / "bank.safetensors").lookup(["tree", "car"]))


def test_competing_words_need_a_bank():
    with pytest.raises(InputError, match="need --bank"):
        train.main(*parse("--negative_words", "2", "--data", "data", "--output_dir", "run"))


def test_run_with_noise_and_competing_words_trains(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "0.4", "--vector_noise", "0.5", "--negative_words", "2")
    assert (tmp_path / "run" / "last" / "model.safetensors").is_file()


def test_workers_do_not_change_the_result(workspace, tmp_path):
    alone = run(workspace, tmp_path / "alone")
    assert run(workspace, tmp_path / "workers", "--num_workers", "2") == alone


def test_images_kept_on_the_device_do_not_change_the_result(workspace, tmp_path):
    alone = run(workspace, tmp_path / "alone")
    assert run(workspace, tmp_path / "kept", "--cache_on_device", "true") == alone


def test_existing_run_is_not_overwritten(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "0.4")
    with pytest.raises(InputError, match="--resume true"):
        run(workspace, tmp_path / "run")


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


def test_class_without_a_vector_is_named_and_learned(workspace, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(workspace / "data", data)
    (data / "classes.json").write_text('["sky", "zebra"]')
    run(workspace, tmp_path / "run", "--data", str(data))
    assert "no vector is known for 'zebra'" in caplog.text
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "last")
    bank = WordBank.load(workspace / "bank.safetensors")
    torch.testing.assert_close(model.class_embeddings[0], bank.lookup(["sky"])[0])  # a word's vector stays


def test_text_tower_that_cannot_be_had_is_named(workspace, tmp_path):
    with pytest.raises(InputError, match=r"(?s)some-org/no-such-tower.*--bank"):
        argv = ["--model", str(workspace / "tiny.yaml"), "--data", str(workspace / "data"), "--text_model",
                "some-org/no-such-tower", "--output_dir", str(tmp_path / "run"), "--trackers", "none"]  # fmt: skip
        train.main(*parse(*argv))
