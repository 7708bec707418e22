"""What networks cost: counts against the networks themselves."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lclipseg.lab.timing.forward import time_forward
from lclipseg.networks.costs import build, count, flop_counter
from lclipseg.networks.presets import load_preset
from modeling_lclipseg import LClipSegForSemanticSegmentation

PRESET = "lclipseg-mbv3s"


@pytest.mark.parametrize("guidance", ["none", "lseg", "denseclip", "fusion"])
def test_parameters_are_those_of_the_network(guidance):
    config = load_preset(PRESET).build_config(guidance=guidance, id2label={0: "sky", 1: "road", 2: "car"})
    with torch.device("meta"):
        model = LClipSegForSemanticSegmentation(config)
    counted = count(PRESET, {"guidance": guidance}, 64, num_classes=3)
    assert counted.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_classifier_counts_by_pixel_and_class():
    few, many = (count(PRESET, {"guidance": "none"}, 64, num_classes=k).macs for k in (10, 110))
    assert many - few == 100 * 96 * 16 * 16  # classes x decoder width x pixels at stride 4


def test_the_similarity_is_counted_though_it_is_added_in_place():
    model = build(PRESET, {"guidance": "fusion"}, 50)
    counts = []
    for counter in (FlopCounterMode(display=False), flop_counter()):
        with counter, torch.no_grad():
            model(torch.zeros(1, 3, 64, 64))
        counts.append(counter.get_total_flops())
    assert counts[1] - counts[0] == 2 * 50 * 96 * 16 * 16  # classes x decoder width x pixels at stride 4


def test_every_network_is_timed_in_every_round():
    networks = [(PRESET, {"guidance": guidance}, 3) for guidance in ("none", "fusion")]
    times = time_forward(networks, size=64, rounds=4, device=torch.device("cpu"))
    assert [len(measured) for measured in times] == [4, 4]
    assert min(map(min, times)) > 0
