"""Backbone weights from files: everything is loaded, or an error says what is not."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_model import TINY_BACKBONE, tiny_model

from lclipseg.console.errors import InputError
from lclipseg.networks.backbones import load_backbone_weights


def random_state(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    network = timm.create_model(name)
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    return {key: torch.rand_like(value) if value.is_floating_point() else value for key, value in state.items()}


def written(folder, state: dict[str, torch.Tensor]) -> str:
    save_file(state, folder / "weights.safetensors")
    return str(folder / "weights.safetensors")


@pytest.mark.parametrize(
    "backbone_config",
    [TINY_BACKBONE, {"model_type": "timm_backbone", "backbone": "test_convnext", "out_indices": [0, 1, 2, 3]}],
    ids=["same names", "flattened names"],
)
def test_every_tensor_of_a_timm_file_arrives(tmp_path, backbone_config):
    state = random_state(backbone_config["backbone"])
    model = tiny_model(backbone_config=backbone_config)
    load_backbone_weights(model, written(tmp_path, state))
    expected = {key.replace(".", "_"): value for key, value in state.items()}
    for key, value in model.backbone._backbone.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, expected[key.replace(".", "_")])


def test_half_precision_file_is_loaded_in_float32(tmp_path):
    state = {key: value.half() for key, value in random_state(TINY_BACKBONE["backbone"]).items()}
    model = tiny_model()
    load_backbone_weights(model, written(tmp_path, state))
    assert model.backbone._backbone.conv_stem.weight.dtype == torch.float32


def test_missing_tensor_is_an_error(tmp_path):
    state = random_state(TINY_BACKBONE["backbone"])
    del state["blocks.1.0.conv_dw.weight"]
    with pytest.raises(InputError, match=r"blocks\.1\.0\.conv_dw\.weight"):
        load_backbone_weights(tiny_model(), written(tmp_path, state))


def test_weights_of_another_width_are_an_error(tmp_path):
    with pytest.raises(InputError, match="another network"):
        load_backbone_weights(tiny_model(), written(tmp_path, random_state("mobilenetv3_small_075")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.safetensors", None, "does not exist"),
        ("broken.safetensors", b"not a tensor", "not a whole safetensors file"),
        ("weights.pth", b"", "pickle"),
    ],
)
def test_unusable_file_is_an_error(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_backbone_weights(tiny_model(), str(path))


def test_unreachable_hub_name_says_what_else_is_possible():
    with pytest.raises(InputError, match="safetensors"):
        load_backbone_weights(tiny_model(), "timm/mobilenetv3_small_050.no_such_tag")


def test_real_weights_recognise_real_images(real_data):
    """The shared ImageNet weights, whole network, on 50 labelled images: 36 of 50 when they are really loaded."""
    import tarfile

    from PIL import Image
    from safetensors.torch import load_file
    from torchvision.transforms.v2 import functional

    folder = real_data / "backbones"
    network = timm.create_model("tf_mobilenetv3_small_100").eval()
    network.load_state_dict(
        {key: value.float() for key, value in load_file(folder / "tf_mobilenetv3_small_100.safetensors").items()},
        strict=False,
    )
    model = tiny_model(
        backbone_config={**TINY_BACKBONE, "backbone": "tf_mobilenetv3_small_100"}, id2label={0: "a", 1: "b", 2: "c"}
    )
    load_backbone_weights(model, str(folder / "tf_mobilenetv3_small_100.safetensors"))
    # The features that our loader filled, under the network's own classifier.
    network.load_state_dict(model.backbone._backbone.state_dict(), strict=False)
    right = 0
    with tarfile.open(folder / "imagenet_samples50.tar") as archive, torch.inference_mode():
        for member in archive.getmembers():
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".jpg"):
                pixels = functional.pil_to_tensor(Image.open(file).convert("RGB"))[None] / 127.5 - 1
                right += int(network(pixels).argmax()) == int(member.name.split("/")[-1].removesuffix(".jpg"))
    assert right == 36
