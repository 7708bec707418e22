"""Cards: what they say is what the records say, the Hub can read them, and no name in them is taken for mark-up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hostile_names import HOSTILE, rendered
from huggingface_hub import ModelCard
from tiny_model import NAMES, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.console.markdown import plain
from lclipseg.lab.cards import cards
from lclipseg.lab.cards.cards import CardArguments
from lclipseg.networks.presets import load_preset, preset_names
from lclipseg.publishing.card import Place, trained_card
from lclipseg.publishing.command_line import training_command
from lclipseg.publishing.facts import Facts, load_facts, tower_parameters
from lclipseg.publishing.run import TrainedRun

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "model_cards").glob("*.md"))
SHIPPED = ROOT / "model_cards" / "lclipseg-mbv3s-camvid.md"
CHECKPOINT = ROOT / "checkpoints" / "lclipseg-mbv3s-camvid"


def tiny_run(tmp_path: Path, names: list[str] = NAMES, data: str = "data/street") -> TrainedRun:
    """A run of the smallest model, as train.py and evaluate.py would have recorded it."""
    model = tiny_model(id2label=dict(enumerate(names)))
    model.save_pretrained(tmp_path)
    record = json.loads((CHECKPOINT / "run.json").read_text())
    record["arguments"] |= {"data": data, "model": "lclipseg-mbv3", "start_from": None, "guidance": "fusion"}
    scores = {"mean_iou": 0.5, "pixel_accuracy": 0.75, "mean_accuracy": 0.625}
    result = {
        "data": data, "split": "test", "num_images": 7, "scores": {**scores, "per_class": dict.fromkeys(names, 0.25)},
        "inference": {"mode": "whole", "flip": False, "window": None, "stride": None},
        **{key: record[key] for key in ("versions", "machine", "date")},
    }  # fmt: skip
    return TrainedRun(tmp_path, record, (result,), {"step": 3, "best_step": 3, "best_mean_iou": 0.4})


def card_of(run: TrainedRun, space: str | None = None, preset: str = "lclipseg-mbv3") -> ModelCard:
    """The card as it would be published, without facts."""
    model = tiny_model()
    model.config.id2label = dict(enumerate(run.results[0]["scores"]["per_class"]))
    return trained_card(run, model, load_preset(preset), Facts(), Place("some-org/street", "main", space))


# ------------------------------------------------------------------------------------------- the cards of this project


def test_cards_say_what_the_records_say():
    cards.main(CardArguments(check=True))


def test_card_that_says_something_else_is_found(tmp_path):
    cards.main(CardArguments(out=str(tmp_path)))
    (tmp_path / SHIPPED.name).write_text(SHIPPED.read_text().replace("65.23", "75.23"))
    with pytest.raises(InputError, match=SHIPPED.stem):
        cards.main(CardArguments(out=str(tmp_path), check=True))


def test_every_preset_has_a_card_and_every_card_a_preset():
    runs = {path.parent.name: json.loads(path.read_text()) for path in CHECKPOINT.parent.glob("*/run.json")}
    trained = {run["arguments"]["model"] for run in runs.values()}
    assert {path.stem for path in FILES} == ({*preset_names()} - trained) | {*runs}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_metadata_can_be_read_by_the_hub_client(path):
    data = ModelCard.load(path).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-segmentation")
    assert "custom_code" in data.tags


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in preset_names()], ids=lambda path: path.stem)
def test_card_of_a_preset_without_a_checkpoint_says_so_and_has_no_figures(path):
    card = ModelCard.load(path)
    assert "Not trained yet" in card.text
    assert not {"mIoU", "%", "ms", "MB", "M"} & set(card.text.split())
    assert card.data.eval_results is None


def test_shipped_card_carries_the_measured_scores_as_metadata():
    results = ModelCard.load(SHIPPED).data.eval_results
    found = {result.metric_name: result.metric_value for result in results if result.metric_type == "mean_iou"}
    for name, inference in (("", "whole image"), ("-flip", "whole image, flipped image averaged")):
        record = json.loads((ROOT / "docs" / "results" / f"lclipseg-mbv3s-camvid{name}.json").read_text())
        assert found[f"mean IoU ({inference})"] == pytest.approx(record["scores"]["mean_iou"], abs=1e-4)


@pytest.mark.parametrize("name", ["mbv3s", "mbv3m", "mbv2", "lite0"])
def test_card_of_several_data_sets_has_the_licence_and_the_score_of_each(name):
    card = ModelCard.load(ROOT / "model_cards" / f"lclipseg-{name}-everyday.md")
    run = json.loads((ROOT / "checkpoints" / f"lclipseg-{name}-everyday" / "run.json").read_text())
    assert card.text.count("| training data |") == len(run["arguments"]["data"]) == 8
    assert "the weights are for non-commercial research" in card.text and card.data.license == "other"
    assert "as float16 safetensors" in card.text
    lines = [json.loads(line) for line in (ROOT / "docs" / "results" / "everyday.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["model"] == f"lclipseg-{name}-everyday"]
    assert len(lines) == 9  # the eight, and car_parts
    for line in lines:
        assert f"| {line['num_images']} | whole image | {100 * line['mean_iou']:.2f} |" in card.text


def test_card_of_weights_before_the_last_step_says_so():
    card = ROOT / "model_cards" / "lclipseg-lite0-everyday.md"
    assert "| steps | 2200; these weights are of step 2183 |" in card.read_text()


def test_facts_that_checkpoints_share_hold_where_one_has_no_own(tmp_path):
    (tmp_path / "facts.yaml").write_text("shared: everyday\npurpose: tests\n")
    facts = load_facts("my_folder", tmp_path / "facts.yaml")
    assert facts.purpose == "tests" and facts.licence == "other" and facts.notes


@pytest.mark.parametrize(
    "said",
    [
        "CC BY-NC 4.0", "367 images", "Apache-2.0", "MIT (CLIP)",  # licences
        "configuration/recipes/camvid-street.yaml", "| seed | 0 |", "1376", "lclipseg-mbv3s-everyday",  # recipe
        "1.72 M", "3.5 MB", "65.15 M",  # size, without and with the tower
        "closed-set training is not open vocabulary",
    ],
)  # fmt: skip
def test_shipped_card_says(said):
    assert said in SHIPPED.read_text()


# ----------------------------------------------------------------------------------------------- what goes into a card


@pytest.mark.parametrize("name", HOSTILE)
def test_name_is_shown_letter_by_letter(name):
    page = rendered(f"| a | {plain(name)} |\n|---|---|\n| b | {plain(name)} |")
    assert page.text.count(name) == 2
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_name_makes_no_link_where_addresses_become_links():
    source = plain("https://example.org www.example.org a@example.org")
    assert not any(mark in source for mark in ("://", "www.", "@"))


@pytest.mark.parametrize("name", ["two\nlines", "a\u202eb", "a\u2028b", "a\x00b"])
def test_name_stays_on_its_line(name):
    assert plain(name).isprintable()


def test_hostile_class_and_data_names_change_nothing_in_a_card(tmp_path):
    calm = rendered(card_of(tiny_run(tmp_path, ["a", "b"])).text)
    card = card_of(tiny_run(tmp_path, HOSTILE, data="data/<img src=x>|`x`\n# Title"))
    page = rendered(card.text)
    assert page.tags == calm.tags
    assert all(page.text.count(name) >= 2 for name in HOSTILE)
    assert ModelCard(str(card)).data.eval_results[0].dataset_name == "<img src=x>|`x`\n# Title"


def test_class_that_was_not_in_the_data_has_no_figure(tmp_path):
    run = tiny_run(tmp_path)
    run.results[0]["scores"]["per_class"]["car"] = None
    assert "| car | – |" in card_of(run).text


def test_card_without_facts_claims_no_licence(tmp_path):
    card = card_of(tiny_run(tmp_path))
    assert card.data.license is None
    assert "| training data | street | not recorded |" in card.text


@pytest.mark.parametrize(
    ("guidance", "config", "method"),
    [
        ("fusion", ["num_fusion_layers=1"], "fusion with a block"),
        ("fusion", ["num_fusion_layers=0", "auxiliary_loss_weight=0.0"], "fusion"),  # nothing but what is the default
        ("none", ["num_fusion_layers=1"], "none"),  # nothing that this guidance has
    ],
)
def test_latency_is_that_of_the_same_network(tmp_path, guidance, config, method):
    run = tiny_run(tmp_path, [f"class {index}" for index in range(11)])
    run.record["arguments"] |= {"model": "lclipseg-mbv3s", "guidance": guidance, "config": config}
    rows = json.loads((ROOT / "docs" / "results" / "costs.json").read_text())["rows"]
    (row,) = [r for r in rows if (r["backbone"], r["method"], r["num_classes"]) == ("lclipseg-mbv3s", method, 11)]
    assert f"{row['latency_ms']:.1f} ms" in card_of(run, preset="lclipseg-mbv3s").text


def test_latency_of_another_network_is_not_borrowed(tmp_path):
    run = tiny_run(tmp_path)
    assert "latency" not in card_of(run).text


def test_run_that_starts_from_a_checkpoint_has_its_blocks(tmp_path):
    run = tiny_run(tmp_path, [f"class {index}" for index in range(11)])
    run.record["arguments"] |= {"model": "lclipseg-mbv3s", "start_from": "a-checkpoint", "config": []}
    rows = json.loads((ROOT / "docs" / "results" / "costs.json").read_text())["rows"]
    wanted = ("lclipseg-mbv3s", "fusion with a block", 11)
    (row,) = [row for row in rows if (row["backbone"], row["method"], row["num_classes"]) == wanted]
    assert tiny_model().config.num_fusion_layers == 1
    assert f"{row['latency_ms']:.1f} ms" in card_of(run, preset="lclipseg-mbv3s").text


def test_card_links_to_its_space_or_says_that_there_is_none(tmp_path):
    run = tiny_run(tmp_path)
    assert "https://huggingface.co/spaces/some-org/page" in card_of(run, "some-org/page").text
    text = card_of(run).text
    assert "huggingface.co/spaces" not in text and "app.py --model some-org/street" in text


def test_closed_head_is_not_called_open(tmp_path):
    run, model = tiny_run(tmp_path), tiny_model(guidance="none")
    card = trained_card(run, model, load_preset("lclipseg-mbv3"), Facts(), Place("some-org/street", "main"))
    assert "The classes are fixed" in card.text and "candidate_labels" not in card.text
    assert "class embeddings" not in card.text


def test_base_models_are_those_on_the_hub_only(tmp_path):
    run = tiny_run(tmp_path)
    run.record["arguments"]["backbone_weights"] = "weights/mine.safetensors"
    assert card_of(run).data.base_model is None
    run.record["arguments"]["backbone_weights"] = None
    assert card_of(run).data.base_model == ["timm/mobilenetv3_large_100.ra_in1k"]


def test_vectors_of_a_control_are_not_passed_off_as_the_tower_s(tmp_path):
    run = tiny_run(tmp_path)
    run.record["arguments"]["vectors"] = "random"
    assert "random ones, for a comparison, instead of" in card_of(run).text


def test_step_of_the_weights_is_told(tmp_path):
    run = tiny_run(tmp_path)
    assert "these weights are of step 3, val mIoU 40.00" in card_of(run).text
    assert "val mIoU" not in card_of(replace(run, progress={"step": 5, "best_step": 3, "best_mean_iou": 0.4})).text


def test_parameters_with_the_tower_are_counted_from_its_configuration():
    assert tower_parameters("openai/clip-vit-base-patch16") == 63_428_096
    assert tower_parameters("some/tower") is None and tower_parameters(None) is None


def test_command_repeats_the_run_from_its_recipe():
    arguments = json.loads((CHECKPOINT / "run.json").read_text())["arguments"]
    line, recipe = training_command(arguments, "again")
    assert recipe == "camvid-street.yaml"
    assert line == (
        "accelerate launch -m lclipseg train configuration/recipes/camvid-street.yaml --start_from "
        "checkpoints/lclipseg-mbv3s-everyday --data data/camvid --output_dir runs/again"
    )


def test_command_names_what_no_recipe_says_and_quotes_it():
    arguments = json.loads((CHECKPOINT / "run.json").read_text())["arguments"]
    line, recipe = training_command({**arguments, "epochs": 3, "seed": 5, "data": "my data\n```"}, "again")
    assert recipe is None
    assert "--epochs 3" in line and "--seed 5" in line and "--data 'my data ```'" in line and "\n" not in line


# --------------------------------------------------------------------------------------------------------------- facts


@pytest.mark.parametrize("path", sorted((ROOT / "configuration" / "cards" / "data").glob("*.yaml")), ids=str)
def test_facts_of_every_data_set_can_be_read(path):
    facts = load_facts(path.stem)
    assert facts.training_data and facts.licence
    assert all((ROOT / image).is_file() for image in facts.examples)


def test_facts_of_a_checkpoint_win():
    assert load_facts("camvid").initial_weights is None
    facts = load_facts("camvid", "lclipseg-mbv3s-camvid")
    assert load_facts("camvid").licence == "cc-by-nc-4.0"
    assert facts.initial_weights is not None and facts.licence == "other"


def test_data_nobody_knows_has_no_facts():
    assert load_facts("my_folder") == Facts()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"license": "mit"}, "did you mean 'licence'"),
        ({"limits": "none"}, "limits must be a list"),
        ({"licence": 5}, "licence must be a str"),
        ({"training_data": "photos"}, "must be {what: ..., licence: ...}"),
        ({"benchmark": {"id": "a/b"}}, "must be {id: ..., task_id: ...}"),
        (["mit"], "no `field: value` lines"),
    ],
)
def test_facts_that_cannot_be_used_are_refused(tmp_path, content, message):
    (tmp_path / "facts.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        load_facts("my_folder", tmp_path / "facts.yaml")


def test_missing_file_of_facts_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*nothing\.yaml"):
        load_facts("my_folder", tmp_path / "nothing.yaml")
