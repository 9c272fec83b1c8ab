"""SPConv against reference values of its public implementation, and its extensions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dl_lib.layers import SPConv2d
from tests.helpers.layer_references import cases, check, figures, fill_layer, input_of, run

CASES = cases("spconv")


def layer_of(case):
    return SPConv2d(case["inplanes"], case["outplanes"], 3, case["stride"], 1, bias=True, alpha=case["ratio"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["half", "half_stride2"])
def test_reference_values(name, dtype):
    layer = layer_of(CASES[name])
    assert {key: list(value.shape) for key, value in layer.state_dict().items()} == CASES[name]["keys"]
    assert sum(p.numel() for p in layer.parameters()) == CASES[name]["params"]
    fill_layer(layer, f"spconv.{name}.")
    x = input_of(f"spconv.{name}", CASES[name]["input"])
    out_eval = layer.to(dtype).eval()(x.to(dtype)).detach()
    computed = run(layer.train(), x, dtype=dtype)
    computed = {key.replace("grad_", "grad_train_"): value for key, value in computed.items()}
    computed |= {"out_eval": out_eval, "out_train": computed["out"], "grad_x_train": computed["grad_train_x"]}
    check(computed, figures("spconv", name), dtype=dtype)


def block_means(x, *, stride):
    down, right = (stride, stride) if isinstance(stride, int) else stride
    rows = [
        torch.stack([block.mean(dim=(2, 3)) for block in row.split(right, dim=3)], dim=-1)
        for row in x.split(down, dim=2)
    ]
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("stride", [1, 2, 3, (2, 1)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 4), (7, 9), (6, 12)])
@pytest.mark.parametrize("mode", ["zeros", "replicate", "circular"])
def test_definition_with_sizes_not_divisible_by_the_stride(size, stride, mode):
    layer = SPConv2d(4, 6, 3, stride, 1, padding_mode=mode).double().eval()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    pooled = block_means(x, stride=stride)
    padded = F.pad(x[:, :2], (1, 1, 1, 1), mode={"zeros": "constant"}.get(mode, mode))
    a = F.conv2d(padded, layer.gwc.weight, stride=stride, groups=2)
    a = (a + F.conv2d(pooled[:, :2], layer.pwc.weight)) / (1 + 1e-5) ** 0.5  # newly initialized batch norm
    b = F.conv2d(pooled[:, 2:], layer.conv1x1.weight) / (1 + 1e-5) ** 0.5
    weights = torch.stack([a.mean(dim=(2, 3)), b.mean(dim=(2, 3))]).softmax(dim=0)[..., None, None]
    torch.testing.assert_close(layer(x), weights[0] * a + weights[1] * b)


REPRESENTATIVE = [(16, 0.5, 2, 8), (16, 0.25, 2, 4), (6, 0.5, 2, 2), (10, 0.5, 2, 4), (16, 0.01, 2, 2), (16, 0.7, 4, 8)]


@pytest.mark.parametrize(("channels", "alpha", "groups", "representative"), [*REPRESENTATIVE, (3, 0.5, 1, 1)])
def test_number_of_representative_channels(channels, alpha, groups, representative):
    layer = SPConv2d(channels, 4, 3, padding=1, groups=groups, alpha=alpha)
    assert layer.gwc.in_channels == layer.pwc.in_channels == representative
    assert layer.conv1x1.in_channels == channels - representative
    assert layer(torch.randn(2, channels, 4, 4)).shape == (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("channels", "alpha", "groups"), [(2, 0.5, 2), (1, 0.5, 2), (8, 1.0, 2), (8, 0.0, 2), (8, -1.0, 2), (8, 0.5, 0)]
)
def test_both_branches_need_channels(channels, alpha, groups):
    with pytest.raises(ValueError, match=rf"Received: alpha={alpha}, in_channels={channels}, groups={groups}"):
        SPConv2d(channels, 4, 3, padding=1, alpha=alpha, groups=groups)


def test_padding_must_preserve_the_size():
    with pytest.raises(ValueError, match=r"2 \* padding = dilation \* \(kernel_size - 1\)"):
        SPConv2d(8, 8, 3)


def test_norms():
    layer = SPConv2d(8, 64, 3, padding=1, norm="GN")
    assert isinstance(layer.bn1, nn.GroupNorm)
    assert layer.conv1x1.bias is None
    with pytest.raises(KeyError, match="available: BN"):
        SPConv2d(8, 8, 3, padding=1, norm="bm")
