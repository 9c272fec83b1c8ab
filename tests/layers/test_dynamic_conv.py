"""Dynamic convolution against reference values of a public implementation, its definition and its schedule."""

import json

import pytest
import torch
from torch.nn import functional as F

from dl_lib.layers import DynamicConv2d, KernelAttention, annealed_temperature
from tests.helpers.layer_references import OPS, cases, check, figures, fill, geometry_of, input_of, run

CASES = cases("dynconv")
SCHEDULES = json.loads((OPS / "temperature.json").read_text())


def layer_of(case):
    layer = DynamicConv2d(*geometry_of(case), bias=case["bias"], num_kernels=case["K"])
    layer.attention = KernelAttention(case["in_planes"], case["K"], hidden_channels=case["hidden"])
    return layer


def load_published(layer, name):
    layer.load_state_dict({key: fill(f"dynconv.{name}.{key}", shape) for key, shape in CASES[name]["keys"].items()})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["base", "groups2", "stride2"])
def test_reference_values(name, dtype):
    layer, expected = layer_of(CASES[name]), figures("dynconv", name)
    load_published(layer, name)
    assert layer.attention.temperature == 1
    x = input_of(f"dynconv.{name}", CASES[name]["input"])
    computed = run(layer, x, dtype=dtype)
    computed = {key.replace("grad_", "grad_t1_"): value for key, value in computed.items()}
    computed |= {"grad_x_t1": computed.pop("grad_t1_x")}
    del computed["out"]
    for temperature in (31, 4, 1):
        layer.attention.temperature.fill_(temperature)
        computed[f"att_t{temperature}"] = layer.attention(x.to(dtype)).detach()
        computed[f"out_t{temperature}"] = layer(x.to(dtype)).detach()
    check(computed, expected, dtype=dtype)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shapes_of_reference_layers(case):
    layer = layer_of(case)
    assert sum(p.numel() for p in layer.parameters()) == case["params"]
    assert list(layer(torch.zeros(case["input"])).shape) == case["out"]


def test_weights_of_the_other_implementation_load():
    layer = DynamicConv2d(8, 12, 3, padding=1).double()
    layer.attention = KernelAttention(8, 4, hidden_channels=2, hidden_bias=True).double()
    shapes = {
        **{"kernels_weights": (4, 12, 8, 3, 3), "kernels_bias": (4, 12)},
        **{"attention.to_scores.0.weight": (2, 8), "attention.to_scores.0.bias": (2,)},
        **{"attention.to_scores.2.weight": (4, 2), "attention.to_scores.2.bias": (4,)},
    }
    state = {key: fill(f"dynconv_ta.{key}", shape).double() for key, shape in shapes.items()}
    layer.load_state_dict(state)
    assert list(state) == list(shapes), "the caller's dict is not modified"
    x = input_of("dynconv.base", (3, 8, 11, 9)).double()
    hidden = torch.relu(
        F.linear(x.mean(dim=(2, 3)), *(state[f"attention.to_scores.0.{k}"] for k in ("weight", "bias")))
    )
    scores = F.linear(hidden, *(state[f"attention.to_scores.2.{k}"] for k in ("weight", "bias")))
    kernels = [
        F.conv2d(x, w, b, padding=1) for w, b in zip(state["kernels_weights"], state["kernels_bias"], strict=True)
    ]
    expected = torch.einsum("bk,kbchw->bchw", scores.softmax(dim=1), torch.stack(kernels))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("temperature", [1e12, float("inf")])
def test_infinite_temperature_gives_uniform_attention(temperature):
    layer = DynamicConv2d(6, 4, 3, padding=1, temperature=temperature).double()
    x = torch.randn(3, 6, 5, 7, dtype=torch.float64)
    expected = F.conv2d(x, layer.weight.mean(dim=0), layer.bias.mean(dim=0), padding=1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


def test_temperature_schedules_of_paper_and_public_implementation():
    for ratio, temperature in SCHEDULES["paper_linear_per_iteration"]["fraction_of_T"].items():
        assert annealed_temperature(0.05 * float(ratio), anneal_rate=0.05) == pytest.approx(temperature)
    for epoch, temperature in enumerate(SCHEDULES["tardelean_per_epoch"]["values"]):
        assert annealed_temperature(epoch / 100, anneal_rate=0.09) == pytest.approx(temperature)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1])
def test_anneal_rate_must_be_a_fraction(rate):
    with pytest.raises(ValueError, match=f"Received: anneal_rate={rate}"):
        annealed_temperature(0.5, anneal_rate=rate)


def test_state_dict_round_trip_preserves_attention():
    torch.manual_seed(0)
    trained = DynamicConv2d(8, 4, 1, temperature=10.0)
    trained.attention.anneal(0.04, anneal_rate=0.05)
    assert trained.attention.temperature.item() == pytest.approx(1 + 9 * 0.2)
    reloaded = DynamicConv2d(8, 4, 1)
    assert reloaded.attention.temperature == 30
    reloaded.load_state_dict(trained.state_dict())
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(reloaded(x), trained(x))
    reloaded.load_state_dict({"bias": torch.ones(4, 4)}, strict=False)
    assert reloaded.attention.temperature.item() == pytest.approx(2.8), "unchanged by a state dict without attention"


def test_loading_with_assign_sets_the_final_temperature():
    with torch.device("meta"):
        layer = layer_of(CASES["base"])
    state = {key: fill(key, shape) for key, shape in CASES["base"]["keys"].items()}
    layer.load_state_dict(state, assign=True)
    assert layer.attention.temperature.item() == 1


def test_one_kernel_equals_conv2d():
    layer = DynamicConv2d(6, 4, 3, padding=1, num_kernels=1)
    x = torch.randn(3, 6, 5, 7)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[0], layer.bias[0], padding=1))


def test_invalid_arguments():
    with pytest.raises(ValueError, match=r"Received: reduction=0"):
        DynamicConv2d(4, 4, 3, reduction=0)
    with pytest.raises(ValueError, match=r"Received: temperature=0.5"):
        DynamicConv2d(4, 4, 3, temperature=0.5)


def test_external_attention():
    x, attention = torch.randn(2, 8, 5, 6), torch.tensor([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    layer = DynamicConv2d(8, 4, 3, own_attention=False)
    expected = [F.conv2d(x[i : i + 1], layer.weight[k], layer.bias[k]) for i, k in ((0, 0), (1, 2))]
    torch.testing.assert_close(layer(x, attention), torch.cat(expected))
    with pytest.raises(ValueError, match=r"DynamicConv2d does not compute its mixing weights"):
        layer(x)


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(64, 4, 16), (64, 16, 4), (3, 4, 1)])
def test_hidden_channels_of_the_attention(channels, reduction, hidden):
    attention = DynamicConv2d(channels, 8, 1, reduction=reduction).attention
    assert attention.fc1.weight.shape == (hidden, channels)
    assert (attention.fc1.bias is None, attention.fc2.bias.shape) == (True, (4,))


def test_initialization():
    torch.manual_seed(0)
    layer = DynamicConv2d(64, 128, 3, num_kernels=3)
    for kernel in layer.weight:
        assert kernel.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert not layer.bias.any()
    attention = DynamicConv2d(512, 4, 1, reduction=1).attention
    assert attention.fc1.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert attention.fc2.weight.std().item() == pytest.approx((2 / 4) ** 0.5, rel=0.05)
    assert not attention.fc2.bias.any()
