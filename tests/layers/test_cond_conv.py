"""CondConv against reference values of timm, timm itself, and its definition."""

import math

import pytest
import torch
from timm.layers import CondConv2d as TimmCondConv2d
from torch import nn

from dl_lib.layers import CondConv2d, ExpertRouting
from tests.helpers.layer_references import cases, check, figures, fill_layer, geometry_of, input_of, run

CASES = cases("condconv")
ROUTING = {"_routing_fn.fc.weight": "routing.weight", "_routing_fn.fc.bias": "routing.bias"}


def layer_of(case):
    return CondConv2d(*geometry_of(case), bias=case["bias"], num_experts=case["num_experts"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["base", "depthwise", "groups2", "nobias", "stride2"])
def test_reference_values(name, dtype):
    layer = layer_of(CASES[name])
    fill_layer(layer, f"condconv.{name}.", names=ROUTING)
    x = input_of(f"condconv.{name}", CASES[name]["input"])
    computed = run(layer, x, dtype=dtype)
    computed["routing"] = layer._routing_fn(x.to(dtype)).detach()
    computed |= {f"grad_{reference.replace('.', '_')}": computed[f"grad_{own}"] for own, reference in ROUTING.items()}
    check(computed, figures("condconv", name), dtype=dtype)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shapes_of_reference_layers(case):
    layer = layer_of(case)
    assert sum(p.numel() for p in layer.parameters()) == case["params"]
    assert list(layer(torch.zeros(case["input"])).shape) == case["out"]


@pytest.mark.parametrize("padding", [1, "same", "valid"])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_timm_weights_load_and_outputs_match(padding, groups):
    reference = TimmCondConv2d(
        8, 16, 3, padding=padding if padding != "valid" else 0, groups=groups, bias=True
    ).double()
    assert reference.weight.ndim == 2
    own = CondConv2d(8, 16, 3, padding=padding, groups=groups, own_routing=False).double()
    own.load_state_dict(reference.state_dict())
    x, routing = torch.randn(3, 8, 7, 9, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    torch.testing.assert_close(own(x, routing), reference(x, routing), rtol=1e-12, atol=1e-12)


def test_definition():
    layer = CondConv2d(6, 4, 3, padding=1, num_experts=3).double()
    nn.init.normal_(layer._routing_fn.fc.bias)
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    for image, result in zip(x, layer(x), strict=True):
        logits = layer._routing_fn.fc.weight @ image.mean(dim=(1, 2)) + layer._routing_fn.fc.bias
        routing = 1 / (1 + torch.exp(-logits))
        kernel = sum(r * w for r, w in zip(routing, layer.weight, strict=True))
        bias = sum(r * b for r, b in zip(routing, layer.bias, strict=True))
        torch.testing.assert_close(result, nn.functional.conv2d(image, kernel, bias, padding=1))


def test_layers_can_share_routing_weights():
    x = torch.randn(2, 8, 5, 6)
    routing = ExpertRouting(8, 4)(x)
    one, other = CondConv2d(8, 8, 3, padding=1), CondConv2d(8, 4, 1, own_routing=False)
    nn.init.zeros_(one._routing_fn.fc.weight)  # so that its own routing would differ
    assert not torch.allclose(one(x, routing), one(x))
    assert other(one(x, routing), routing).shape == (2, 4, 5, 6)
    assert [name for name, _ in other.named_parameters()] == ["weight", "bias"]


def test_missing_routing_weights_are_rejected():
    with pytest.raises(ValueError, match=r"does not compute its mixing weights.*Received: coefficients=None"):
        CondConv2d(4, 4, 1, own_routing=False)(torch.zeros(2, 4, 3, 3))


def test_each_expert_is_initialized_like_conv2d():
    torch.manual_seed(0)
    layer = CondConv2d(64, 128, 3, groups=2, num_experts=8)
    plain = nn.Conv2d(64, 128, 3, groups=2)
    bound = 1 / math.sqrt(32 * 9)
    for kernel, bias in zip(layer.weight, layer.bias, strict=True):
        assert kernel.std().item() == pytest.approx(plain.weight.std().item(), rel=0.02)
        assert kernel.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert bias.abs().max().item() <= bound
    assert not layer.weight[0].equal(layer.weight[1])
    routing = layer._routing_fn.fc
    assert routing.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 8)), rel=0.02)
    assert not routing.bias.any()


def test_repr():
    text = repr(CondConv2d(4, 8, (3, 5), stride=2, padding=(1, 2), dilation=(1, 1), groups=2, num_experts=3))
    assert "4, 8, kernel_size=(3, 5), stride=(2, 2), padding=(2, 2, 1, 1), groups=2, num_kernels=3, bias=True" in text


def test_invalid_arguments():
    with pytest.raises(KeyError, match=r"nearest: grouped. Received: implementation='group'"):
        CondConv2d(4, 4, 3, implementation="group")
    with pytest.raises(ValueError, match=r"Received: num_kernels=0"):
        CondConv2d(4, 4, 3, num_experts=0)
