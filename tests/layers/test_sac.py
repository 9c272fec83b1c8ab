"""SAC against mmcv's reference values, its definition, and the plain convolution of its initialization."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dl_lib.layers import ConvAWS2d, SAConv2d
from tests.helpers.layer_references import cases, check, figures, fill, fill_layer, geometry_of, input_of, run

CASES = cases("sac")


def layer_of(case):
    return SAConv2d(*geometry_of(case), bias=False, use_deform=case["use_deform"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["base", "depthwise", "groups2", "map3", "stride2_even"])
def test_reference_values(name, dtype):
    layer = layer_of(CASES[name])
    fill_layer(layer, f"sac.{name}.")
    computed = run(layer, input_of(f"sac.{name}", CASES[name]["input"]), dtype=dtype)
    computed["aws_weight"] = layer.standardized_weight().detach()
    check(computed, figures("sac", name), dtype=dtype)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_names_and_shapes_of_reference_layers(case):
    layer = layer_of(case)
    assert {key: list(value.shape) for key, value in layer.state_dict().items()} == case["keys"]
    assert sum(p.numel() for p in layer.parameters()) == case["params"]
    assert list(layer(torch.zeros(case["input"])).shape) == case["out"]


def test_plain_weights_give_the_reference_output():
    layer, expected = SAConv2d(8, 12, 3, padding=1, bias=False).double(), figures("sac", "load_plain_conv")
    layer.load_state_dict({"weight": fill("sac.load.weight", (12, 8, 3, 3)).double()}, strict=False)
    computed = {**layer.state_dict(), "out": layer(input_of("sac.base", (3, 8, 11, 9)).double()).detach()}
    check(computed, expected, dtype=torch.float64)


def deform_by_hand(x, offset, weight, *, stride, padding, dilation, groups):
    """Deformable convolution by one `grid_sample` per tap; offsets are (dy, dx), taps in row-major order."""
    rows, columns = weight.shape[2:]
    top, left = torch.meshgrid(
        torch.arange(offset.shape[2]) * stride - padding,
        torch.arange(offset.shape[3]) * stride - padding,
        indexing="ij",
    )
    taps = []
    for tap in range(rows * columns):
        y = top + tap // columns * dilation + offset[:, 2 * tap]
        x_ = left + tap % columns * dilation + offset[:, 2 * tap + 1]
        height, width = x.shape[2:]
        grid = torch.stack([2 * x_ / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
        taps.append(F.grid_sample(x, grid, align_corners=True))
    sampled = torch.stack(taps, dim=2)  # images, channels, taps, rows, columns
    parts = zip(sampled.chunk(groups, dim=1), weight.flatten(2).chunk(groups), strict=True)
    return torch.cat([torch.einsum("bctyx,oct->boyx", values, kernel) for values, kernel in parts], dim=1)


def test_deform_by_hand_against_reference_values():
    case = cases("dcn")["base"]
    x = input_of("dcn.base.x", case["input"]).double().requires_grad_()
    offset = (1.5 * input_of("dcn.base.offset", (2, 18, 9, 8)).double()).requires_grad_()
    weight = fill("dcn.base.weight", (6, 4, 3, 3)).double().requires_grad_()
    out = deform_by_hand(x, offset, weight, stride=1, padding=1, dilation=1, groups=1)
    (out * input_of("grad_out", out.shape).double()).sum().backward()
    computed = {"out": out.detach(), "grad_x": x.grad, "grad_offset": offset.grad, "grad_weight": weight.grad}
    check(computed, figures("dcn", "base"), dtype=torch.float64)


def padded(x, width, *, mode):
    """Pad with NumPy, which reflects and wraps repeatedly."""
    names = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (width, width), (width, width)], mode=names[mode]))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (4, 3), (8, 9)])
def test_padding_modes_on_small_inputs(size, mode):
    layer = SAConv2d(2, 3, 3, padding=1, padding_mode=mode).double().requires_grad_(False)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    kernels = {1: layer.standardized_weight(), 3: layer.standardized_weight() + layer.weight_diff}

    def conv(x, rate):
        return F.conv2d(padded(x, rate, mode=mode), kernels[rate], dilation=rate)

    expected = by_definition(layer, x, stride=1, padding=None, dilation=None, groups=1, conv=conv)
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)


def by_definition(layer, x, *, stride, padding, dilation, groups, conv=None):
    """Compute the layer as in the paper, where the switch is computed from the local mean of all channels."""
    x = x + F.conv2d(x.mean(dim=(2, 3), keepdim=True), layer.pre_context.weight, layer.pre_context.bias)
    mode = "reflect" if min(x.shape[2:]) >= 3 else "replicate"
    means = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode=mode), 5, stride=1)
    switch = F.conv2d(means, layer.switch.weight, layer.switch.bias, stride=stride)
    weight = layer.standardized_weight()
    common = {"stride": stride, "groups": groups}
    if conv is not None:
        small, large = conv(x, 1), conv(x, 3)
    elif layer.offset_s is None:
        small = F.conv2d(x, weight, padding=padding, dilation=dilation, **common)
        large = F.conv2d(x, weight + layer.weight_diff, padding=3 * padding, dilation=3 * dilation, **common)
    else:
        offsets = [
            F.conv2d(means, o.weight, o.bias, stride=stride, padding=1) for o in (layer.offset_s, layer.offset_l)
        ]
        small = deform_by_hand(x, offsets[0], weight, padding=padding, dilation=dilation, **common)
        large = deform_by_hand(
            x, offsets[1], weight + layer.weight_diff, padding=3 * padding, dilation=3 * dilation, **common
        )
    y = switch * small + (1 - switch) * large
    if layer.bias is not None:
        y = y + layer.bias[:, None, None]
    return y + F.conv2d(y.mean(dim=(2, 3), keepdim=True), layer.post_context.weight, layer.post_context.bias)


@pytest.mark.parametrize("use_deform", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((9, 8), 3, {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}),
        ((9, 8), 3, {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}),
        ((12, 7), 3, {"stride": 1, "padding": 2, "dilation": 2, "groups": 4}),
        ((7, 7), 5, {"stride": 3, "padding": 2, "dilation": 1, "groups": 1}),
        ((2, 2), 3, {"stride": 1, "padding": 1, "dilation": 1, "groups": 1}),
        ((2, 9), 1, {"stride": 2, "padding": 0, "dilation": 1, "groups": 1}),
    ],
)
def test_definition(size, kernel, options, use_deform):
    torch.manual_seed(0)
    layer = SAConv2d(4, 8, kernel, **options, use_deform=use_deform).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_definition(layer, x, **options), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("use_deform", [False, True])
@pytest.mark.parametrize("groups", [1, 8])
def test_initialization_is_the_standardized_convolution(groups, use_deform):
    options = {"padding": 1, "groups": groups}
    layer = SAConv2d(8, 8, 3, **options, use_deform=use_deform)
    standardized = ConvAWS2d(8, 8, 3, **options)
    standardized.load_state_dict({key: layer.state_dict()[key] for key in standardized.state_dict()})
    x = torch.randn(2, 8, 7, 6)
    if use_deform:  # another torch kernel, with another order of summation
        torch.testing.assert_close(layer(x), standardized(x))
    else:
        assert torch.equal(layer(x), standardized(x))


def test_gradients_at_initialization():
    layer = SAConv2d(4, 4, 3, padding=1)
    layer(torch.randn(2, 4, 6, 6)).square().sum().backward()
    assert not layer.weight_diff.grad.any()
    assert layer.switch.weight.grad.any()


@pytest.mark.parametrize(
    ("kernel", "options"), [(3, {}), (3, {"padding": "valid"}), (4, {"padding": 1}), ((3, 1), {"padding": 1})]
)
def test_padding_that_does_not_preserve_the_size_is_rejected(kernel, options):
    with pytest.raises(
        ValueError, match=r"2 \* padding = dilation \* \(kernel_size - 1\).*Received: 4, 4, kernel_size"
    ):
        SAConv2d(4, 4, kernel, **options)


SIZE_PRESERVING = [((3, 1), {"padding": (1, 0)}), (2, {"padding": 1, "dilation": 2}), (3, {"padding": "same"})]


@pytest.mark.parametrize(("kernel", "options"), SIZE_PRESERVING)
def test_size_preserving_padding(kernel, options):
    assert SAConv2d(4, 6, kernel, **options)(torch.zeros(1, 4, 5, 7)).shape == (1, 6, 5, 7)
