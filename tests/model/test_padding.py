"""TensorFlow's padding in a form that can be traced, against timm's."""

from unittest import mock

import pytest
import timm
import torch
from compiled import Graphs
from timm.layers import Conv2dSame
from tiny_model import TINY_BACKBONE, tiny_model
from torch import nn

from modeling_lclipseg.padding_lclipseg import LClipSegConv2dSame, make_padding_traceable

SHIPPED = {**TINY_BACKBONE, "backbone": "tf_mobilenetv3_small_100"}


def traced():
    """Inside, a convolution takes the way that it takes while it is traced."""
    return mock.patch("torch.compiler.is_compiling", lambda: True)


@pytest.mark.parametrize(("height", "width"), [(5, 6), (7, 9), (8, 12), (32, 33), (1, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (4, 2), (2, 2), (3, 1), (5, 3), ((3, 5), (2, 1))])
def test_what_is_traced_computes_what_timm_does(kernel, stride, dilation, height, width):
    convolution = Conv2dSame(2, 3, kernel, stride, dilation=dilation).double()
    maps = torch.randn(2, 2, height, width).double()
    expected = convolution(maps)
    make_padding_traceable(convolution)
    assert torch.equal(convolution(maps), expected)
    with traced():
        torch.testing.assert_close(convolution(maps), expected)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (2, 2), (7, 9), (8, 9)])
@pytest.mark.parametrize("kernel", [3, 5, (3, 5)])
@torch.no_grad()
def test_depthwise_convolution_predicts_what_timm_does_without_padding_a_copy(kernel, height, width):
    convolution = Conv2dSame(3, 3, kernel, 2, groups=3).double()
    maps = torch.randn(2, 3, height, width).double()
    expected = convolution(maps)
    make_padding_traceable(convolution)
    torch.testing.assert_close(convolution(maps), expected)


def test_convolution_that_may_have_nothing_to_pad_is_left_alone():
    convolution = Conv2dSame(2, 3, 1, 2)
    make_padding_traceable(convolution)
    assert type(convolution) is Conv2dSame


def test_network_keeps_its_names_and_its_results_bit_for_bit():
    network, images = (
        timm.create_model("tf_mobilenetv3_small_100", features_only=True).eval(),
        torch.randn(1, 3, 65, 98),
    )
    expected, names = network(images), list(network.state_dict())
    make_padding_traceable(network)
    assert any(isinstance(module, LClipSegConv2dSame) for module in network.modules())
    assert list(network.state_dict()) == names
    assert all(torch.equal(one, other) for one, other in zip(network(images), expected, strict=True))


class Strided(nn.Module):
    """Two convolutions in a row, and a way back to the size of the first one's map."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Conv2dSame(3, 3, 3, 2), Conv2dSame(3, 3, 5, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = self.first(images)
        return first + nn.functional.interpolate(self.second(first), size=first.shape[-2:], mode="bilinear")


def test_one_graph_takes_any_size():
    network, graphs = Strided().eval(), Graphs()
    make_padding_traceable(network)
    compiled = graphs.compile(network, dynamic=True)
    for height, width in [(64, 96), (33, 70), (97, 131)]:
        images = torch.randn(2, 3, height, width)
        torch.testing.assert_close(compiled(images), network(images))
    assert len(graphs) == 1


def test_sides_behind_several_convolutions_are_one_quotient():
    """As behind any other convolution; else each layer nests them deeper."""
    network, graphs = Strided().eval(), Graphs()
    make_padding_traceable(network)
    graphs.compile(network, dynamic=True)(torch.randn(2, 3, 64, 96))
    maps = [node.meta["example_value"] for node in graphs[0].graph.nodes if node.target is torch.conv2d]
    assert [[str(side).count("//") for side in found.shape[-2:]] for found in maps] == [[1, 1], [1, 1]]


@pytest.mark.slow
def test_network_that_ships_exports_for_any_size(pixel_values):
    model, dynamic = tiny_model(backbone_config=SHIPPED), torch.export.Dim.DYNAMIC
    shapes = {"pixel_values": {0: dynamic, 2: dynamic, 3: dynamic}}
    exported = torch.export.export(model, (), {"pixel_values": pixel_values}, dynamic_shapes=shapes).module()
    for images in (pixel_values, torch.randn(1, 3, 33, 101)):
        expected = model(images).logits
        torch.testing.assert_close(
            exported(pixel_values=images).logits, expected, atol=1e-4 * expected.abs().max().item(), rtol=0
        )


def test_export_takes_any_size():
    network, dynamic = Strided().eval(), torch.export.Dim.DYNAMIC
    make_padding_traceable(network)
    images = torch.randn(2, 3, 64, 96)
    exported = torch.export.export(network, (images,), dynamic_shapes=({2: dynamic, 3: dynamic},)).module()
    for given in (images, torch.randn(2, 3, 33, 70), torch.randn(2, 3, 97, 131)):
        torch.testing.assert_close(exported(given), network(given))


def test_network_that_ships_is_folded_to_the_same_logits(pixel_values):
    model = tiny_model(backbone_config=SHIPPED)
    expected = model(pixel_values).logits
    torch.testing.assert_close(
        model.fold()(pixel_values).logits, expected, atol=1e-3 * expected.abs().max().item(), rtol=0
    )


@pytest.mark.slow
def test_network_that_ships_compiles_and_trains_at_more_than_one_size():
    model = tiny_model(backbone_config=SHIPPED)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for height, width in [(64, 96), (96, 160), (65, 101)]:
        images = torch.randn(2, 3, height, width)
        labels = torch.randint(0, 3, (2, height, width))
        expected, found = model(images, labels=labels), compiled(images, labels=labels)
        torch.testing.assert_close(found.loss, expected.loss, atol=1e-4, rtol=1e-4)
        found.loss.backward()
    model.train()
    compiled(images, labels=labels).loss.backward()
    assert model.head.decoder.output.weight.grad.any()
