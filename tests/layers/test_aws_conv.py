"""ConvAWS against mmcv's reference values, its formula, and the plain convolution whose weights it loads."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn

from dl_lib.layers import ConvAWS2d, SAConv2d
from tests.helpers.layer_references import check, figures, fill_layer, input_of

LAYERS = [ConvAWS2d, SAConv2d]


def standardized_by_hand(filter_, gamma, beta):
    numbers = filter_.flatten().tolist()
    mean = sum(numbers) / len(numbers)
    variance = sum((w - mean) ** 2 for w in numbers) / (len(numbers) - 1)
    return gamma * (filter_ - mean) / math.sqrt(variance + 1e-5) + beta


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reference_values(dtype):
    layer = ConvAWS2d(8, 12, 3, padding=1)
    assert list(layer.state_dict()) == ["weight", "bias", "weight_gamma", "weight_beta"]
    fill_layer(layer, "aws.")
    out = layer.to(dtype)(input_of("sac.base", (3, 8, 11, 9)).to(dtype)).detach()
    check({"out": out, "w": layer.standardized_weight().detach()}, figures("sac", "aws_bias"), dtype=dtype)


def test_formula():
    layer = ConvAWS2d(6, 4, (3, 2), groups=2).double()
    for tensor in (layer.weight, layer.weight_gamma, layer.weight_beta):
        nn.init.normal_(tensor)
    by_hand = map(standardized_by_hand, layer.weight, layer.weight_gamma, layer.weight_beta)
    torch.testing.assert_close(layer.standardized_weight(), torch.stack(list(by_hand)), rtol=1e-10, atol=1e-10)


def test_standardized_weight_is_invariant_to_scale_and_shift():
    layer = ConvAWS2d(8, 4, 3).double()
    nn.init.normal_(layer.weight)
    before = layer.standardized_weight()
    with torch.no_grad():
        layer.weight.mul_(7).add_(3)
    torch.testing.assert_close(layer.standardized_weight(), before, rtol=1e-4, atol=1e-4)  # up to the epsilon of 1e-5


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_initialization_is_a_plain_convolution(groups):
    layer = ConvAWS2d(8, 16, 3, padding=1, groups=groups).double()
    layer.reset_parameters()  # recompute gamma and beta in float64
    torch.testing.assert_close(layer.standardized_weight(), layer.weight, rtol=1e-13, atol=1e-13)
    bound = 1 / math.sqrt(8 // groups * 9)
    assert 0.9 * bound < layer.weight.abs().max().item() <= bound
    assert layer.bias.abs().max().item() <= bound


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("make", LAYERS)
def test_plain_weights_load_exactly(make, assign):
    plain = nn.Conv2d(8, 12, 3, padding=1).double()
    nn.init.normal_(plain.weight, mean=0.3, std=2.0)
    layer = make(8, 12, 3, padding=1).double()
    state = plain.state_dict()
    missing, unexpected = layer.load_state_dict(state, strict=make is ConvAWS2d, assign=assign)
    assert list(state) == ["weight", "bias"], "the caller's dict is not modified"
    assert unexpected == []
    assert not {"weight", "bias", "weight_gamma", "weight_beta"}.intersection(missing)
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", LAYERS)
def test_partial_loading_leaves_other_layers_unchanged(make):
    model = nn.Sequential(OrderedDict(first=make(4, 4, 3, padding=1), second=make(4, 4, 3, padding=1)))
    for layer in model:
        nn.init.normal_(layer.weight_gamma)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict({"first.weight": torch.randn(4, 4, 3, 3)}, strict=False)
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert changed == {"first.weight", "first.weight_gamma", "first.weight_beta"}


@pytest.mark.parametrize("kept", [["weight_gamma"], ["weight_beta"], ["weight_gamma", "weight_beta"]])
def test_own_state_dict_keeps_gamma_and_beta(kept):
    layer = ConvAWS2d(4, 4, 3)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    state = {"weight": torch.randn(4, 4, 3, 3), **{name: torch.full((4, 1, 1, 1), 5.0) for name in kept}}
    layer.load_state_dict(state, strict=False)
    for name in ("weight_gamma", "weight_beta"):
        assert getattr(layer, name).equal(state.get(name, before[name]))


def test_half_precision_weights_load_exactly():
    plain = nn.Conv2d(8, 4, 3).bfloat16()
    layer = ConvAWS2d(8, 4, 3)
    layer.load_state_dict(plain.state_dict())
    torch.testing.assert_close(layer.standardized_weight(), plain.weight.float(), rtol=1e-6, atol=1e-6)


def test_kernel_of_another_shape_is_a_size_mismatch():
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        ConvAWS2d(8, 4, 3).load_state_dict({"weight": torch.zeros(4, 8)}, strict=False)


@pytest.mark.parametrize("make", LAYERS)
def test_filters_with_a_single_weight_are_rejected(make):
    with pytest.raises(ValueError, match=r"at least two weights.*Received: 4, 4, kernel_size=\(1, 1\)"):
        make(4, 4, 1, groups=4)
