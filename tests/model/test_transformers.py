"""What a model of transformers must do and its common tests (`make test-hf`) miss, or only ask of some heads."""

from collections import Counter

import pytest
import torch
from accelerate.utils.fsdp_utils import get_module_class_from_name
from compiled import Graphs
from safetensors.torch import load_file, save_file
from tiny_model import RESNET, assert_equal_logits, tiny_model
from transformers import AttentionInterface, AutoModelForSemanticSegmentation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_layers import GradientCheckpointingLayer

from modeling_lclipseg import LClipSegSemanticSegmenterOutput
from modeling_lclipseg.heads_lclipseg import HEADS

pytestmark = pytest.mark.usefixtures("tiny_denseclip")
LAYERS, CELLS = 2, 4 * 6  # of an image of 64 x 96 pixels


@pytest.fixture
def fusion_model():
    return tiny_model(num_fusion_layers=LAYERS)


# ----------------------------------------------------------------------------------------------------------- attention


@pytest.fixture
def counting_attention():
    """The name of an attention function registered with transformers, and the modules that called it."""
    callers = []

    def attention(module, *args, **kwargs):
        callers.append(type(module).__name__)
        return sdpa_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("counting", attention)
    yield "counting", callers
    AttentionInterface._global_mapping.pop("counting")


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        ("fusion", LAYERS * ["LClipSegTokenAttention"]),
        ("denseclip", ["LClipSegAttentionPool", *(2 * 2 * ["LClipSegContextAttention"])]),
    ],
)
def test_registered_attention_function_is_reached(counting_attention, guidance, expected, pixel_values):
    name, callers = counting_attention
    model = tiny_model(guidance=guidance, num_fusion_layers=LAYERS)
    before = model(pixel_values).logits
    model.set_attn_implementation(name)
    assert_equal_logits(model(pixel_values).logits, before)
    assert callers == expected


@pytest.mark.parametrize("guidance", ["fusion", "denseclip"])
def test_eager_attention_equals_sdpa(tmp_path, guidance, pixel_values):
    tiny_model(guidance=guidance).save_pretrained(tmp_path)
    eager, sdpa = (
        AutoModelForSemanticSegmentation.from_pretrained(tmp_path, attn_implementation=name)
        for name in ("eager", "sdpa")
    )
    assert_equal_logits(sdpa(pixel_values).logits, eager(pixel_values).logits)


# ---------------------------------------------------------------------------------------------------- recorded outputs


@pytest.mark.parametrize("in_config", [False, True])
def test_maps_and_both_directions_of_the_bridge_are_recorded(fusion_model, in_config, pixel_values):
    fusion_model.set_attn_implementation("eager")
    fusion_model.config.output_attentions = in_config
    fusion_model.config.output_hidden_states = in_config
    asked = {} if in_config else {"output_attentions": True, "output_hidden_states": True}
    outputs = fusion_model(pixel_values, **asked)
    assert [tuple(state.shape) for state in outputs.hidden_states] == (1 + LAYERS) * [(2, 16, 4, 6)]
    assert [tuple(weights.shape) for weights in outputs.attentions] == LAYERS * [(2, 1, 3, CELLS)]
    assert [tuple(weights.shape) for weights in outputs.text_to_image_attentions] == LAYERS * [(2, 1, CELLS, 3)]
    for weights in (*outputs.attentions, *outputs.text_to_image_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_recorded_weights_are_those_of_each_layer(fusion_model, pixel_values):
    given = []
    for layer in fusion_model.head.fusion.layers:
        layer.text_to_image.register_forward_hook(lambda module, inputs, output: given.append(output[1]))
    recorded = fusion_model(pixel_values, output_attentions=True).text_to_image_attentions
    assert all(torch.equal(one, other) for one, other in zip(recorded, given, strict=True))


def test_argument_wins_over_the_config(fusion_model, pixel_values):
    fusion_model.set_attn_implementation("eager")
    fusion_model.config.output_attentions = True
    assert fusion_model(pixel_values, output_attentions=False).text_to_image_attentions is None


def test_nothing_is_recorded_unasked(fusion_model, pixel_values):
    outputs = fusion_model(pixel_values)
    assert isinstance(outputs, LClipSegSemanticSegmenterOutput)
    assert list(outputs) == ["logits"]


@pytest.mark.parametrize("guidance", HEADS)
def test_head_without_blocks_records_nothing(guidance, pixel_values):
    model = tiny_model(guidance=guidance, num_fusion_layers=0)
    outputs = model(pixel_values, output_hidden_states=True, output_attentions=True)
    assert outputs.hidden_states is outputs.attentions is outputs.text_to_image_attentions is None


@pytest.mark.parametrize("guidance", HEADS)
def test_tuple_has_what_the_output_has(guidance, pixel_values):
    model, asked = tiny_model(guidance=guidance), {"output_hidden_states": True, "output_attentions": True}
    as_tuple = model(pixel_values, **asked, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(model(pixel_values, **asked)) == (4 if guidance == "fusion" else 1)


@pytest.mark.parametrize("guidance", HEADS)
def test_what_must_not_be_split_is_there(guidance):
    model = tiny_model(guidance=guidance, num_fusion_layers=0)
    # accelerate looks the names up so, to wrap these modules for FSDP, and stops at one that is missing.
    kept_whole = [get_module_class_from_name(model, name) for name in model._no_split_modules]
    assert kept_whole == [type(model.head)]


# ------------------------------------------------------------------------------------------------------------ training


def labels_for(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(images[:, 0].numel()).reshape(images[:, 0].shape) % 3


def gradients(model, pixel_values) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(pixel_values, labels=labels_for(pixel_values), loss_phase=0).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("guidance", HEADS)
def test_gradient_checkpointing_runs_layers_again_for_the_same_gradients(guidance, use_reentrant, pixel_values):
    model = tiny_model(guidance=guidance, num_fusion_layers=LAYERS).train()
    if guidance == "denseclip":
        model.head.prompting.eval()  # without dropout, the gradients of two passes can be compared
    checkpointed = [module for module in model.head.modules() if isinstance(module, GradientCheckpointingLayer)]
    runs = Counter()
    for module in checkpointed:
        # Before its first part, not after the layer: one is run again only as far as its backward pass needs.
        next(module.children()).register_forward_pre_hook(lambda part, inputs, layer=module: runs.update([layer]))
    expected = gradients(model, pixel_values)
    assert runs == dict.fromkeys(checkpointed, 1)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    torch.testing.assert_close(gradients(model, pixel_values), expected, atol=1e-5, rtol=1e-3)
    assert runs == {module: 3 if module.training else 2 for module in checkpointed}
    assert any(module.training for module in checkpointed)


def test_fusion_layers_are_checkpointed(fusion_model):
    assert all(isinstance(layer, GradientCheckpointingLayer) for layer in fusion_model.head.fusion.layers)


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("guidance", HEADS)
def test_model_loads_and_runs_in_half_precision(tmp_path, guidance, dtype, pixel_values):
    model = tiny_model(guidance=guidance)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, dtype=dtype)
    assert {tensor.dtype for tensor in loaded.parameters()} == {dtype}
    logits, expected = loaded(pixel_values).logits, model(pixel_values).logits
    assert logits.dtype == dtype
    assert (logits.float() - expected).abs().mean() < 0.05 * expected.abs().max()


@pytest.fixture
def visible_garbage():
    """Memory that nobody has written to holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # fill_uninitialized_memory is on by default
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("guidance", HEADS)
def test_what_a_checkpoint_lacks_is_initialised_as_in_a_new_model(tmp_path, visible_garbage, guidance):
    """A model is built on the meta device, so that `_init_weights` alone makes what the checkpoint does not have."""
    model = tiny_model(guidance=guidance)
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if name.startswith("backbone.")}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    new = type(model)(model.config)
    assert loaded.state_dict().keys() == new.state_dict().keys()
    for name, tensor in new.state_dict().items():
        found = loaded.state_dict()[name].double()
        assert found.isfinite().all(), name
        if name not in kept:
            deviation = tensor.double().std(correction=0)
            torch.testing.assert_close(
                found.mean(), tensor.double().mean(), atol=0.5 * deviation.item() + 1e-6, rtol=0
            )
            torch.testing.assert_close(found.std(correction=0), deviation, atol=1e-6, rtol=0.6)


# -------------------------------------------------------------------------------------------------- compile and export


@pytest.mark.parametrize("guidance", HEADS)
def test_model_compiles_to_one_graph_for_all_sizes(guidance, pixel_values):
    """With its loss and all that can be recorded."""
    model, graphs = tiny_model(guidance=guidance, backbone_config=RESNET), Graphs()
    compiled = graphs.compile(model, dynamic=True)
    for images in (pixel_values, torch.randn(3, 3, 96, 160)):
        arguments = {"labels": labels_for(images), "output_hidden_states": True, "output_attentions": True}
        # Plainly first: transformers cannot install the hooks that record inside a graph.
        expected, found = model(images, **arguments), compiled(images, **arguments)
        assert_equal_logits(found.logits, expected.logits)
        torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=1e-4)
        assert found.keys() == expected.keys()
    assert len(graphs) == 1


def test_exported_model_takes_any_batch_height_and_width(pixel_values):
    """The other heads: test_export.py in tests/export/, whose graphs torch.export traces, too."""
    model, dynamic = tiny_model(backbone_config=RESNET), torch.export.Dim.DYNAMIC
    shapes = {"pixel_values": {0: dynamic, 2: dynamic, 3: dynamic}}
    exported = torch.export.export(model, (), {"pixel_values": pixel_values}, dynamic_shapes=shapes).module()
    for images in (pixel_values, torch.randn(1, 3, 64, 64), torch.randn(3, 3, 70, 101)):
        assert_equal_logits(exported(pixel_values=images).logits, model(images).logits)
