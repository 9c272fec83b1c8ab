"""Costs of conditional convolutions, against reference values of public implementations and of whole cells."""

import json
import threading

import pytest
import torch
from torch import nn

from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, ExpertRouting, KernelAttention, SAConv2d, SPConv2d
from dl_lib.modeling.costs.counters import MaddsObserver, count_madds
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS
from tests.helpers.layer_references import OPS, cases, geometry_of

CELLS = json.loads((OPS / "cell_ops_1024x2048.json").read_text())
SCALES = range(4)


def observed(module, *shape):
    """Return the multiply-adds per image after checking that they are equal for all images."""
    with MaddsObserver(shape[0]) as observer:
        module.to("meta").eval()(torch.empty(shape, device="meta"))
    assert len(set(observer.madds)) == 1
    return observer.madds[0]


@pytest.mark.parametrize("case", cases("condconv").values(), ids=cases("condconv"))
def test_cond_conv(case):
    layer = CondConv2d(*geometry_of(case), bias=case["bias"], num_experts=case["num_experts"])
    assert observed(layer, *case["input"]) == sum(case["macs_per_sample"].values())


@pytest.mark.parametrize("case", cases("dynconv").values(), ids=cases("dynconv"))
def test_dynamic_conv(case):
    layer = DynamicConv2d(*geometry_of(case), bias=case["bias"], num_kernels=case["K"])
    layer.attention = KernelAttention(case["in_planes"], case["K"], hidden_channels=case["hidden"])
    assert observed(layer, *case["input"]) == sum(case["macs_per_sample"].values())


@pytest.mark.parametrize("case", cases("sac").values(), ids=cases("sac"))
def test_switchable_conv(case):
    """As in the reference, except that the switch projects to one channel before averaging."""
    macs, (_, channels, height, width) = case["macs_per_sample"], case["input"]
    outputs = case["out"][2] * case["out"][3]
    parts = ["conv_small", "conv_large", "pre_context", "post_context", "offsets"]
    expected = sum(macs[part] for part in parts)
    expected += channels * height * width + 25 * outputs  # the switch
    expected += channels * height * width + case["out"][1] * outputs  # global means of the contexts
    if case["use_deform"]:
        expected += macs["avgpool5x5_adds"]  # local mean of all channels, for the offsets
    layer = SAConv2d(*geometry_of(case), use_deform=case["use_deform"])
    assert observed(layer, *case["input"]) == expected


def test_external_routing_is_not_counted():
    x, routing = torch.zeros(2, 8, 5, 6), torch.zeros(2, 4)
    layer = CondConv2d(8, 12, 3, bias=False)
    with MaddsObserver(2) as observer:
        layer(x, routing)
    assert observer.madds == [12 * 3 * 4 * 8 * 9 + 4 * 12 * 8 * 9] * 2
    with MaddsObserver(2) as observer:
        ExpertRouting(8, 4)(x)
    assert observer.madds == [8 * 5 * 6 + 8 * 4] * 2


def test_standardization_is_free_and_linear_layers_cost_their_weights():
    assert observed(ConvAWS2d(8, 12, 3, groups=2), 3, 8, 7, 6) == observed(nn.Conv2d(8, 12, 3, groups=2), 3, 8, 7, 6)
    assert count_madds(nn.Linear(5, 3), torch.zeros(2, 5), torch.zeros(2, 3)) == 2 * 5 * 3


@pytest.mark.parametrize("stride", [1, 2])
def test_split_conv(stride):
    layer = SPConv2d(16, 24, 3, stride, 1, alpha=0.25)
    outputs = (-(-11 // stride)) * (-(-9 // stride))
    convolutions = 24 * (2 * 9 + 4 + 12)
    pooling = 16 * stride**2 if stride > 1 else 0
    norms_and_means = 24 * (2 * 2 + 2)
    assert observed(layer, 3, 16, 11, 9) == outputs * (convolutions + pooling + norms_and_means)


def shape_of(cell):
    return (1, cell["C"], cell["h"], cell["w"])


@pytest.mark.parametrize("scale", SCALES)
def test_cells_of_mixed_kernels(scale):
    cell = CELLS["cond_conv_3x3"][scale]
    channels = cell["C"]
    with_norm = nn.Sequential(CondConv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    assert observed(with_norm, *shape_of(cell)) == cell["conv_macs"] + cell["other"]
    cell = CELLS["dyn_conv_3x3"][scale]
    with_norm = nn.Sequential(DynamicConv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    biases = 4  # of the attention, which the reference counts
    assert observed(with_norm, *shape_of(cell)) == cell["conv_macs"] + cell["other"] - biases
    assert sum(p.numel() for p in with_norm.parameters()) == cell["params"]


@pytest.mark.parametrize("scale", SCALES)
def test_cell_of_split_convolution(scale):
    cell = CELLS["spconv_3x3"][scale]
    channels = cell["C"]
    elements = channels * cell["h"] * cell["w"]
    additions_and_blending = 4 * elements  # counted by the reference only: gwc + pwc, w_a * a, w_b * b, and their sum
    layer = SPConv2d(channels, channels, 3, padding=1)
    assert observed(layer, *shape_of(cell)) == cell["conv_macs"] + cell["other"] - additions_and_blending
    assert sum(p.numel() for p in layer.parameters()) == cell["params"]


@pytest.mark.parametrize("scale", SCALES)
def test_cell_of_switchable_convolution(scale):
    cell = CELLS["sac_3x3"][scale]
    channels, pixels = cell["C"], cell["h"] * cell["w"]
    convolutions = 2 * 9 * channels**2 * pixels
    switch = channels * pixels + 25 * pixels  # one channel is averaged; the reference averages all
    contexts = 2 * channels * pixels + 2 * channels**2
    norm = 2 * channels * pixels
    layer = nn.Sequential(SAConv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
    assert observed(layer, *shape_of(cell)) == convolutions + switch + contexts + norm
    assert sum(p.numel() for p in layer.parameters()) == cell["params"]
    additions_and_blending = 5 * channels * pixels  # counted by the reference only, like biases
    averaged = 25 * channels * pixels
    assert cell["other"] == norm + averaged + contexts + additions_and_blending + 2 * channels
    assert cell["conv_macs"] == convolutions + channels * pixels + pixels


# Differences from the reference: biases, additions and multiplications of feature maps are free; SAC averages one
# channel instead of all; norm and activations on 1×1 feature maps inside squeeze-and-excitation are counted.
OTHER_CELLS = {
    "cond_sep_conv_3x3": lambda c, pixels: 0,
    "dyn_sep_conv_3x3": lambda c, pixels: -4,
    "sac_sep_3x3": lambda c, pixels: -(5 + 25) * c * pixels - 2 * c + 24 * pixels,
    "rex_block_3x3": lambda c, pixels: -7 * c * pixels + 3 * (c // 2) + 6 * c,
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", OTHER_CELLS)
def test_other_cell_operations(name, scale):
    cell = CELLS[name][scale]
    channels, pixels = cell["C"], cell["h"] * cell["w"]
    with torch.device("meta"):
        operation = CELL_OPERATIONS.get(name)(channels, norm="BN")
    assert sum(p.numel() for p in operation.parameters()) == cell["params"]
    difference = OTHER_CELLS[name](channels, pixels)
    assert observed(operation, *shape_of(cell)) == cell["conv_macs"] + cell["other"] + difference


def test_calls_of_other_threads_are_not_counted():
    layer, x = nn.ReLU(), torch.zeros(1, 2, 3, 4)
    with MaddsObserver(1) as observer:
        thread = threading.Thread(target=layer, args=(x,))
        thread.start()
        thread.join()
        layer(x)
    assert observer.madds == [x.numel()]
