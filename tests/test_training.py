"""train.py end to end on a tiny folder: a run, its files, exact resume, recipes, and what it refuses."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from modeling_lclipseg import WordBank
from scripts import train
from scripts.toolkit import arguments
from scripts.toolkit.cli import InputError
from scripts.toolkit.training import Schedule

PRESET = """
backbone_weights: none
licence: apache-2.0
config:
  backbone_config: {model_type: timm_backbone, backbone: mobilenetv3_small_050, out_indices: [1, 2, 3, 4]}
  hidden_size: 16
  num_attention_heads: 2
  decoder_hidden_size: 16
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A data folder, a preset and a word bank."""
    root = tmp_path_factory.mktemp("workspace")
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for kind in ("images", "masks"):
            (root / "data" / split / kind).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((48, 64), dtype=np.uint8)
            mask[random.integers(10, 38) :] = 1
            pixels = np.stack([60 + 120 * mask, 90 + 0 * mask, 200 - 150 * mask], -1) + random.integers(
                0, 20, (48, 64, 3)
            )
            Image.fromarray(pixels.astype(np.uint8)).save(root / "data" / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / "data" / split / "masks" / f"{index}.png")
    (root / "data" / "classes.json").write_text('["sky", "road"]')
    (root / "tiny.yaml").write_text(PRESET)
    words = ("sky", "road", "tree", "car")
    WordBank(words, torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), "some/tower").save(
        root / "bank.safetensors"
    )
    return root


def run(workspace: Path, output: Path, *options: str) -> dict:
    """Run train.py; the last line of its metrics."""
    fixed = {
        "model": workspace / "tiny.yaml", "data": workspace / "data", "bank": workspace / "bank.safetensors",
        "output_dir": output, "crop_size": "32 32", "batch_size": 2, "epochs": 2, "eval_every": 1,
        "warmup_steps": 2, "trackers": "none", "shortest_edge": 48,
    }  # fmt: skip
    argv = [token for name, value in fixed.items() for token in (f"--{name}", *str(value).split())]
    train.main(
        *arguments.parse("", train.ModelArguments, train.DataArguments, train.RunArguments, argv=[*argv, *options])
    )
    return json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])


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
    run(workspace, tmp_path / "run", "--epochs", "1", "--ablation", "text_to_image")
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
    classes = SimpleNamespace(names=["sky", "Road"], prompts=["sky", "road"])
    others = train._other_words(train.ModelArguments(bank=str(workspace / "bank.safetensors")), classes)
    torch.testing.assert_close(others, WordBank.load(workspace / "bank.safetensors").lookup(["tree", "car"]))


def test_competing_words_need_a_bank():
    with pytest.raises(InputError, match="need --bank"):
        train._other_words(train.ModelArguments(negative_words=2), SimpleNamespace(names=[], prompts=[]))


def test_run_with_noise_and_competing_words_trains(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "0.4", "--vector_noise", "0.5", "--negative_words", "2")
    assert (tmp_path / "run" / "last" / "model.safetensors").is_file()


def test_resumed_run_equals_an_uninterrupted_one(workspace, tmp_path, monkeypatch):
    options = ("--accumulation_steps", "2", "--epochs", "4", "--eval_every", "2")  # stops in the middle of a pass
    whole = run(workspace, tmp_path / "whole", *options)
    original, saved = train.core.RunFolder.save, []

    def stop_after_first_checkpoint(self, name, *args, **kwargs):
        original(self, name, *args, **kwargs)
        saved.append(name)
        if "last" in saved:
            raise KeyboardInterrupt

    monkeypatch.setattr(train.core.RunFolder, "save", stop_after_first_checkpoint)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, tmp_path / "halves", *options)
    monkeypatch.setattr(train.core.RunFolder, "save", original)
    halves = run(workspace, tmp_path / "halves", *options, "--resume", "true")
    assert halves == whole
    for checkpoint in ("last", "best"):
        one, other = (load_file(tmp_path / name / checkpoint / "model.safetensors") for name in ("whole", "halves"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    one, other = ((tmp_path / name / "last" / "progress.json").read_text() for name in ("whole", "halves"))
    assert one == other


def test_workers_do_not_change_the_result(workspace, tmp_path):
    alone = run(workspace, tmp_path / "alone")
    assert run(workspace, tmp_path / "workers", "--num_workers", "2") == alone


def test_pictures_kept_on_the_device_do_not_change_the_result(workspace, tmp_path):
    alone = run(workspace, tmp_path / "alone")
    assert run(workspace, tmp_path / "kept", "--cache_on_device", "true") == alone


@pytest.mark.parametrize(
    ("option", "value"), [("--guidance", "none"), ("--epochs", "3"), ("--seed", "1"), ("--crop_size", "48 48")]
)
def test_run_is_not_resumed_as_another_one(workspace, tmp_path, option, value):
    run(workspace, tmp_path / "run", "--epochs", "1")
    with pytest.raises(InputError, match=option.removeprefix("--")):
        run(workspace, tmp_path / "run", "--epochs", "1", option, *value.split(), "--resume", "true")


def test_stop_between_two_renames_leaves_a_checkpoint_to_resume(workspace, tmp_path):
    options = ("--epochs", "1", "--eval_every", "0.34")
    run(workspace, tmp_path / "run", *options)
    (tmp_path / "run" / "last").rename(tmp_path / "run" / "last.old")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "last.old" / "progress.json").write_text('{"step": 2}')
    assert run(workspace, tmp_path / "run", *options, "--resume", "true")["step"] == 3


def test_existing_run_is_not_overwritten(workspace, tmp_path):
    run(workspace, tmp_path / "run", "--epochs", "0.4")
    with pytest.raises(InputError, match="--resume true"):
        run(workspace, tmp_path / "run")


def test_finished_run_says_so_and_changes_nothing(workspace, tmp_path, caplog):
    run(workspace, tmp_path / "run")
    before = (tmp_path / "run" / "last" / "progress.json").stat().st_mtime_ns
    with caplog.at_level("INFO", logger="lclipseg"):
        run(workspace, tmp_path / "run", "--resume", "true")
    assert "finished: 6 steps" in caplog.text
    assert (tmp_path / "run" / "last" / "progress.json").stat().st_mtime_ns == before


def test_run_that_stopped_before_its_first_checkpoint_can_begin_again(workspace, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(train.core.RunFolder, "save", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(workspace, tmp_path / "run", "--epochs", "0.4")
    assert run(workspace, tmp_path / "run", "--epochs", "0.4")["step"] == 1


class Quadratic(torch.nn.Module):
    """A "model" whose loss is the mean over the batch of (w - pixel)^2 / 2, so that every step can be worked out."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor):
        return SimpleNamespace(loss=((self.weight - pixel_values) ** 2).mean() / 2)


def steps_of_quadratic(batch_size: int, accumulation_steps: int, max_grad_norm: float) -> tuple[float, float]:
    """The first report's loss, and the gradient that reached the optimiser."""
    samples = [{"pixel_values": torch.tensor([float(value)]), "labels": torch.zeros(1)} for value in (1, 2, 3, 6)]

    class Samples(torch.utils.data.Dataset):
        data, device = samples, None

        def __getitem__(self, position: int):
            return samples[position % 4]

    model = Quadratic()
    schedule = Schedule(1, batch_size, accumulation_steps, 1.0, 1.0, 0.0, 0, 1.0, max_grad_norm)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulation_steps)
    training = train.core.Training(accelerator, model, Samples(), schedule, seed=0, num_workers=0)
    seen = []
    training.optimizer.optimizer.register_step_pre_hook(lambda *_: seen.append(model.weight.grad.item()))
    (report,) = training.steps(0)
    return report.loss.item(), seen[-1]


@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(4, 1), (2, 2), (1, 4)])
def test_accumulated_batches_make_the_step_of_one_batch(batch_size, accumulation_steps):
    loss, gradient = steps_of_quadratic(batch_size, accumulation_steps, max_grad_norm=100)
    assert loss == pytest.approx((1 + 4 + 9 + 36) / 8)
    assert gradient == pytest.approx(-3)


def test_gradients_are_clipped():
    assert steps_of_quadratic(4, 1, max_grad_norm=0.5)[1] == pytest.approx(-0.5, rel=1e-4)


def test_schedule_rises_then_falls_to_zero():
    schedule = Schedule(100, 1, 1, 1.0, 1.0, 0.0, warmup_steps=10, power=0.9, max_grad_norm=1.0)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5**0.9)
    assert rates[100] == 0


def test_backbone_learns_slower_and_vectors_do_not_decay(model):
    from scripts.toolkit.training import build_optimizer

    optimizer, _ = build_optimizer(model, Schedule(10, 1, 1, 0.1, 0.25, 0.5, 0, 1.0, 1.0))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            in_backbone = names.pop(id(parameter)).startswith("backbone.")
            assert group["initial_lr"] == pytest.approx(0.025 if in_backbone else 0.1)
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0)
    assert not names  # every parameter is in a group


# ----------------------------------------------------------------------------------------------- recipes and bad input


def parse(*argv: str):
    return arguments.parse("", train.ModelArguments, train.DataArguments, train.RunArguments, argv=argv)


def test_command_line_wins_over_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("epochs: 7\nseed: 3\ncrop_size: [64, 96]\ncache: true\n")
    _, data, options = parse(str(tmp_path / "recipe.yaml"), "--epochs", "9")
    assert (options.epochs, options.seed, data.crop_size, data.cache) == (9, 3, [64, 96], True)


@pytest.mark.parametrize("recipe", sorted(Path("configuration/recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_recipes_parse(recipe):
    assert parse(str(recipe))[0].model.startswith("lclipseg-")


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
        (("--guidance", "fuson"), "guidance"),
        (("--center", "middle"), "--center"),
        (("--mixed_precision", "fp8"), "mixed_precision"),
        (("--resume", "true"), "nothing to resume"),
        (("--expected_processes", "2"), "2 processes"),
        (("--cache_on_device", "true", "--num_workers", "2"), "--num_workers 2"),
    ],
)
def test_bad_argument_is_an_input_error(workspace, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(workspace, tmp_path / "run", *options)


def test_class_without_a_vector_is_named(workspace, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(workspace / "data", data)
    (data / "classes.json").write_text('["sky", "zebra"]')
    with pytest.raises(InputError, match="zebra"):
        run(workspace, tmp_path / "run", "--data", str(data))


def test_text_tower_that_cannot_be_had_is_named(workspace, tmp_path):
    with pytest.raises(InputError, match=r"(?s)some-org/no-such-tower.*--bank"):
        argv = ["--model", str(workspace / "tiny.yaml"), "--data", str(workspace / "data"), "--text_model",
                "some-org/no-such-tower", "--output_dir", str(tmp_path / "run"), "--trackers", "none"]  # fmt: skip
        train.main(*parse(*argv))
