"""Fine-tuning by transformers' own Trainer, whole or by PEFT's adapters, as docs/training.md shows it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import RESNET, save_checkpoint, tiny_model
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "checkpoints" / "lclipseg-mbv3s-everyday"
NAMES = {0: "sky", 1: "meadow"}  # one that the checkpoint knows, and one that it does not
# Projections and attention of the fusion, where image and text meet; depthwise kernels have nothing of low rank.
LORA_TARGETS = r"head\.fusion\..*(query_key_value|output|value|feed_forward\.[02]|projection|embedding)"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), tiny_model(backbone_config=RESNET))


@pytest.fixture
def model(checkpoint):
    return AutoModelForSemanticSegmentation.from_pretrained(checkpoint, id2label=NAMES)


def examples(count: int = 4) -> list[dict]:
    """Bright above, dark below, with a few pixels without a label."""
    made = []
    for row in range(16, 16 + 8 * count, 8):
        labels = np.zeros((64, 64), dtype=np.int64)
        labels[row:], labels[0] = 1, 255
        made.append(
            {"pixel_values": np.repeat(1 - 2.0 * (labels == 1)[None], 3, 0).astype("float32"), "labels": labels}
        )
    return made


def compute_metrics(prediction) -> dict[str, float]:
    logits = torch.from_numpy(prediction.predictions)  # (N, K, h / 4, w / 4)
    size = prediction.label_ids.shape[-2:]
    ids = torch.nn.functional.interpolate(logits, size=size, mode="bilinear").argmax(1).numpy()
    labelled = prediction.label_ids != 255
    return {"accuracy": float((ids == prediction.label_ids)[labelled].mean()), "classes": logits.shape[1]}


def trainer(model, folder, **options) -> Trainer:
    defaults = {
        "output_dir": str(folder), "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "max_steps": 4,
        "learning_rate": 1e-2, "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 0,
    }  # fmt: skip
    return Trainer(
        model=model,
        args=TrainingArguments(**{**defaults, **options}),
        train_dataset=examples(),
        eval_dataset=examples(3),
        data_collator=default_data_collator,
        compute_metrics=compute_metrics,
    )


def test_loss_falls_and_metrics_are_of_all_images(model, tmp_path):
    run = trainer(model, tmp_path / "run", max_steps=30)
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert after["eval_loss"] < before["eval_loss"]
    assert after["eval_classes"] == 2 and after["eval_accuracy"] > 0.8


def test_known_vectors_stay_and_unknown_ones_are_learned(model, tmp_path):
    before = torch.nn.functional.normalize(model.class_embeddings.detach().clone())
    trainer(model, tmp_path / "run", weight_decay=0.1).train()
    after = torch.nn.functional.normalize(model.class_embeddings.detach())
    torch.testing.assert_close(after[0], before[0])  # decay changes the length, which nothing depends on
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_accumulated_batches_train_what_one_large_batch_does(checkpoint, tmp_path):
    """A step's loss is a mean that the model takes itself, so the trainer must not count entries for it."""
    losses = []
    for size, accumulated in ((2, 1), (1, 2)):
        model = AutoModelForSemanticSegmentation.from_pretrained(checkpoint, id2label=NAMES)
        model.samples_loss = False
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "max_steps": 1}
        model.train = lambda mode=True, model=model: model.__class__.train(model, False)  # no batch statistics
        losses.append(trainer(model, tmp_path / f"run{size}", logging_steps=1, **options).train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_checkpoint_of_the_trainer_is_loaded_by_its_own_classes(model, tmp_path):
    run = trainer(model, tmp_path / "run")
    run.train()
    run.save_model(tmp_path / "saved")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved")
    assert loaded.config.id2label == NAMES
    pixel_values = torch.from_numpy(examples(1)[0]["pixel_values"])[None]
    torch.testing.assert_close(loaded(pixel_values).logits, run.model.eval()(pixel_values).logits)


def test_trainer_resumes_from_its_checkpoint(model, tmp_path):
    trainer(model, tmp_path / "run", save_steps=2, max_steps=2).train()
    run = trainer(model, tmp_path / "run", max_steps=3)
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == 3


def test_code_of_the_documentation_runs(tmp_path, monkeypatch):
    section = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").split("## With Transformers' Trainer")[1]
    code = section.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(ROOT)
    names = {"train_dataset": examples(), "eval_dataset": examples(2)}
    exec(code.replace("runs/trainer", str(tmp_path)).replace("max_steps=10", "max_steps=1, use_cpu=True"), names)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert loaded.trained_classes()[0] == loaded.config.class_names == ["sky", "road", "left mirror"]
    assert "pixel_accuracy" in str(names["trainer"].evaluate())


def test_adapter_is_trained_saved_and_loaded(checkpoint, tmp_path):
    peft = pytest.importorskip("peft")
    base = AutoModelForSemanticSegmentation.from_pretrained(checkpoint)
    kept = {name: weight.clone() for name, weight in base.named_parameters()}
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=LORA_TARGETS))
    trainer(adapted, tmp_path / "run", max_steps=2, label_names=["labels"], learning_rate=0.1).train()
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.eval()

    fresh = AutoModelForSemanticSegmentation.from_pretrained(checkpoint)
    assert all(torch.equal(weight, kept[name]) for name, weight in fresh.named_parameters())
    loaded = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").eval()
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, dict(adapted.named_parameters())[name]), name
    changed = [name for name, weight in loaded.named_parameters() if "lora_B" in name and weight.any()]
    assert changed and all(".head.fusion." in name for name in changed)
    assert sum(file.stat().st_size for file in (tmp_path / "adapter").glob("*.safetensors")) < 100_000


# ------------------------------------------------------------------------------------- transformers' example scripts


@pytest.mark.parametrize("of_trainer", [True, False])
def test_what_the_example_scripts_do_works_on_a_shipped_checkpoint(of_trainer):
    """`run_semantic_segmentation.py`, which gives ids as text, and `..._no_trainer.py`, call by call."""
    id2label = {0: "sky", 1: "road", 2: "grass"}
    where = {"cache_dir": None, "revision": "main", "token": None, "trust_remote_code": False} if of_trainer else {}
    label2id = {name: str(index) if of_trainer else index for index, name in id2label.items()}
    number = {} if of_trainer else {"num_labels": 3}
    options = {"from_tf": False} if of_trainer else {}
    config = AutoConfig.from_pretrained(SHIPPED, label2id=label2id, id2label=id2label, **number, **where)
    model = AutoModelForSemanticSegmentation.from_pretrained(SHIPPED, config=config, **options, **where)
    processor = AutoImageProcessor.from_pretrained(SHIPPED, do_reduce_labels=False, **where)
    assert "shortest_edge" in processor.size and processor.size["shortest_edge"] > 0
    assert len(processor.image_mean) == len(processor.image_std) == 3 and processor.do_reduce_labels is False

    stored = AutoModelForSemanticSegmentation.from_pretrained(SHIPPED)
    rows = [stored.config.label2id[name] for name in id2label.values()]
    assert torch.equal(model.class_embeddings, stored.class_embeddings[rows])
    batch = default_data_collator(examples(2))
    optimizer = torch.optim.AdamW(list(model.parameters()), lr=1e-3)
    loss = model.train()(**batch).loss
    loss.backward()
    optimizer.step()
    logits = model.eval()(**batch).logits
    upsampled = torch.nn.functional.interpolate(logits, size=batch["labels"].shape[-2:], mode="bilinear")
    assert upsampled.argmax(dim=1).shape == batch["labels"].shape and logits.isfinite().all()
