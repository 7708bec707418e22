"""A pickle can run code when it is read: one that would leave a file behind is planted wherever weights are loaded."""

from pathlib import Path

import pytest
import torch
from tiny_model import tiny_model
from transformers import AutoModelForSemanticSegmentation, CLIPTextConfig

from lclipseg.networks.backbones import load_backbone_weights
from lclipseg.networks.checkpoints import load_runnable
from lclipseg.publishing.run import check_weights
from modeling_lclipseg import WordBank
from modeling_lclipseg.class_embeddings_lclipseg import load_text_tower


class LeavesFile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def plant(tmp_path):
    """Write the pickle to a path below `tmp_path`. Afterwards it must not have run."""
    trace = tmp_path / "it ran"

    def write(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": LeavesFile(trace)}, path)
        return path

    yield write
    assert not trace.exists()


LOADERS = [load_runnable, AutoModelForSemanticSegmentation.from_pretrained]


def test_planted_pickle_would_run(tmp_path):
    torch.save({"weight": LeavesFile(tmp_path / "it ran")}, tmp_path / "weights.pt")
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert (tmp_path / "it ran").exists()


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pkl"])
def test_checkpoint_that_has_nothing_but_a_pickle_is_refused(plant, checkpoint, load, name):
    (checkpoint / "model.safetensors").unlink()
    plant(f"checkpoint/{name}")
    with pytest.raises((OSError, ValueError), match=r"model\.safetensors"):
        load(checkpoint)


@pytest.mark.parametrize("load", [*LOADERS, check_weights])
def test_pickle_under_the_name_of_safetensors_is_refused(plant, checkpoint, load):
    plant("checkpoint/model.safetensors")
    with pytest.raises(Exception, match="header"):
        load(checkpoint)


@pytest.mark.parametrize("load", LOADERS)
def test_pickles_beside_safetensors_are_left_alone(plant, checkpoint, load):
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "scheduler.pkl"):
        plant(f"checkpoint/{name}")
    load(checkpoint)


@pytest.mark.parametrize("setting", [False, None])
def test_pickles_cannot_be_asked_for(checkpoint, setting):
    with pytest.raises(ValueError, match="no pickles"):
        AutoModelForSemanticSegmentation.from_pretrained(checkpoint, use_safetensors=setting)


NOT_WEIGHTS = ["w.bin", "w.pt", "w.pth", "w.pth.tar", "w.pkl", "w.ckpt", "w.PTH", "weights", "w.npz"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *((name, "only safetensors files are read") for name in NOT_WEIGHTS),
        ("w.safetensors", r"w\.safetensors is not a whole safetensors file"),
    ],
)
def test_backbone_weights_are_no_pickle(plant, name, said):
    with pytest.raises(ValueError, match=said):
        load_backbone_weights(tiny_model(), str(plant(name)))


@pytest.mark.parametrize(
    ("name", "message"), [("bank.pt", r"ends in \.safetensors"), ("bank.safetensors", "cannot be read as safetensors")]
)
def test_word_bank_is_no_pickle(plant, tmp_path, name, message):
    (tmp_path / "bank_names.json").write_text('{"names": {"words": ["sky"]}}')
    with pytest.raises(ValueError, match=message):
        WordBank.load(plant(name))


def test_text_tower_is_no_pickle(plant, tmp_path):
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPTextConfig(**size).save_pretrained(tmp_path / "tower")
    plant("tower/pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be loaded: .*model\.safetensors"):
        load_text_tower(str(tmp_path / "tower"))
