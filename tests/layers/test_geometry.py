"""Convolution hyperparameters against `nn.Conv2d`, over all its arguments."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d
from dl_lib.layers.geometry import make_geometry

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def arguments(draw):
    groups = draw(st.integers(1, 3))
    kernel, dilation = draw(PAIRS), draw(PAIRS)
    padding = draw(st.sampled_from(["same", "valid", "numbers"]))
    return {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": draw(st.sampled_from([kernel, kernel[0]])),
        "stride": 1 if padding == "same" else draw(st.one_of(PAIRS, st.integers(1, 3))),
        "padding": draw(st.one_of(PAIRS, st.integers(0, 3))) if padding == "numbers" else padding,
        "dilation": draw(st.sampled_from([dilation, dilation[0]])),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    }


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # torch warns of a copy
@settings(max_examples=80, deadline=None)
@given(options=arguments(), size=st.tuples(st.integers(1, 9), st.integers(1, 9)), images=st.integers(0, 3))
def test_all_conv2d_arguments(options, size, images):
    x = torch.randn(images, options["in_channels"], *size, dtype=torch.float64)
    plain = nn.Conv2d(**options, dtype=torch.float64)
    try:
        expected = plain(x)
    except RuntimeError:  # the kernel, or reflect padding, exceeds the input
        assume(False)
    geometry = make_geometry(**options)
    assert geometry.kernel_shape == tuple(plain.weight.shape)
    torch.testing.assert_close(geometry.conv(x, plain.weight, plain.bias), expected)
    for make, number in ((CondConv2d, "num_experts"), (DynamicConv2d, "num_kernels")):
        layer = make(**options, **{number: 1}).double()
        layer.load_state_dict({key: value[None] for key, value in plain.state_dict().items()}, strict=False)
        torch.testing.assert_close(layer(x, torch.ones(images, 1).double()), expected)
    if plain.weight[0].numel() > 1:
        layer = ConvAWS2d(**options).double()
        layer.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(layer(x), expected)


@settings(max_examples=60, deadline=None)
@given(options=arguments(), half=PAIRS, size=st.tuples(st.integers(4, 9), st.integers(4, 9)), images=st.integers(0, 2))
def test_all_size_preserving_arguments(options, half, size, images):
    dilation = options["dilation"]
    rates = (dilation, dilation) if isinstance(dilation, int) else dilation
    kernel = tuple(2 * number - 1 for number in half)
    padding = tuple(rate * (number - 1) for rate, number in zip(rates, half, strict=True))
    options |= {"kernel_size": kernel, "padding": padding}
    options["in_channels"] += options["groups"]  # at least two weights per filter, and one redundant channel
    x = torch.randn(images, options["in_channels"], *size).double()
    plain = nn.Conv2d(**options).double()
    try:
        expected = plain(x)
    except RuntimeError:  # reflect padding exceeds the input
        assume(False)
    layer = SAConv2d(**options).double()
    layer.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(layer(x), expected)
    assert SPConv2d(**options).double().eval()(x).shape == expected.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, r"in_channels must be a positive integer. Received: in_channels=0"),
        ({"groups": 0}, r"Received: groups=0"),
        ({"groups": 3}, r"in_channels must be divisible by groups. Received: in_channels=4, groups=3"),
        ({"groups": 4}, r"out_channels must be divisible by groups. Received: out_channels=6, groups=4"),
        ({"kernel_size": 0}, r"kernel_size must be an integer of at least 1, or a pair. Received: kernel_size=0"),
        ({"kernel_size": 3.0}, r"Received: kernel_size=3.0"),
        ({"stride": (1, 2, 1)}, r"Received: stride=\(1, 2, 1\)"),
        ({"dilation": (1, 0)}, r"Received: dilation=\(1, 0\)"),
        ({"padding": -1}, r"padding must be an integer of at least 0, or a pair. Received: padding=-1"),
        ({"padding": "full"}, r"Received: padding='full'"),
        ({"padding": "same", "stride": 2}, r"requires stride 1. Received: stride=\(2, 2\)"),
        ({"padding_mode": "reflected"}, r"nearest: reflect, replicate. Received: padding_mode='reflected'"),
    ],
)
def test_invalid_arguments(options, message):
    valid = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    with pytest.raises(ValueError, match=message):
        ConvAWS2d(**{**valid, **options})
