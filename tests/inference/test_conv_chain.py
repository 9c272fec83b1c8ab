"""Chains of convolutions against the sequences that they replace."""

import copy

import pytest
import torch
from torch import nn

from dl_lib.inference.conv_chain import ConvChain, can_be_chained
from dl_lib.layers import conv2d
from dl_lib.modeling.costs.counters import MaddsObserver, measure_madds

# (kernel size, stride, padding, dilation, groups, ReLU) of each convolution
SEPARABLE_TWICE = [(3, 1, 1, 1, 8, False), (1, 1, 0, 1, 1, True), (3, 1, 1, 1, 8, False), (1, 1, 0, 1, 1, False)]
STEM = [(3, 2, 0, 1, 1, True), (3, 1, 1, 1, 8, False), (1, 1, 0, 1, 1, True), (3, 2, 1, 1, 1, True)]
LARGE = [(5, 1, 2, 1, 1, True), (3, 1, 2, 2, 8, True), (3, 3, 1, 1, 1, False)]
UNPADDED = [(3, 1, 0, 1, 1, True), (1, 2, 0, 1, 1, False), (3, 2, 2, 1, 1, True)]


def parts_of(geometry, dtype):
    torch.manual_seed(0)
    parts = []
    for size, stride, padding, dilation, groups, relu in geometry:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        parts.append(conv2d(8, 8, size, **options, bias=True))
        nn.init.uniform_(parts[-1].bias, -1, 1)
        if relu:
            parts.append(nn.ReLU())
    return nn.Sequential(*parts).to(dtype).to(memory_format=torch.channels_last)


def chain_of(sequence):
    convs = [part for part in sequence if isinstance(part, nn.Conv2d)]
    followers = [*sequence[1:], None]
    relus = [isinstance(f, nn.ReLU) for part, f in zip(sequence, followers, strict=True) if isinstance(part, nn.Conv2d)]
    return ConvChain(convs, relus, replaced=sequence).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "geometry", [SEPARABLE_TWICE, STEM, LARGE, UNPADDED], ids=["separable", "stem", "large", "unpadded"]
)
@pytest.mark.parametrize("height", [21, 32])
def test_output_is_that_of_the_sequence(geometry, dtype, height):
    sequence = parts_of(geometry, dtype)
    x = torch.randn(2, 8, height, 19, dtype=dtype).to(memory_format=torch.channels_last)
    kept = x.clone()
    with torch.no_grad():
        expected, y = sequence(x), chain_of(sequence)(x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert x.equal(kept)


def test_costs_are_those_of_the_replaced_module():
    sequence = parts_of(STEM, torch.float32)
    x = torch.randn(3, 8, 32, 19).to(memory_format=torch.channels_last)
    expected = measure_madds(sequence, x[:1])
    with torch.no_grad(), MaddsObserver(3) as observer:
        chain_of(sequence)(x)
    assert observer.madds == [expected] * 3


@pytest.mark.parametrize(
    ("conv", "expected"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), True),
        (conv2d(4, 4, 3, dilation=2), True),
        (nn.Conv2d(4, 4, 3, padding="same"), False),
        (nn.Conv2d(4, 4, 1, padding=1), True),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.ConvTranspose2d(4, 4, 3), False),
        (nn.ReLU(), False),
    ],
)
def test_convolutions_that_can_be_chained(conv, expected):
    assert can_be_chained(conv) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_input_is_added_before_relu(dtype):
    sequence = parts_of(SEPARABLE_TWICE, dtype)
    chain = chain_of(sequence)
    chain.adds_input = chain.links[-1].relu = True
    x = torch.randn(2, 8, 32, 19, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected, y = torch.relu(sequence(x) + x), chain(x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


def test_gradients_are_refused():
    chain = chain_of(parts_of(STEM, torch.float32))
    with pytest.raises(RuntimeError, match="computes no gradients"):
        chain(torch.randn(1, 8, 32, 19, requires_grad=True))


def test_weights_are_packed_once_for_inputs_of_one_size():
    (link,) = (chain := chain_of(parts_of([(3, 1, 1, 1, 1, False)], torch.float32))).links
    packed = []
    for side in (16, 16, 24):
        chain(torch.randn(1, 8, side, side).to(memory_format=torch.channels_last))
        packed.append(link._packed)
    assert packed[0] is packed[1]
    assert packed[2] is not packed[1], "the fastest order depends on the size"


def test_changed_weights_are_used():
    sequence = parts_of(STEM, torch.float32)
    x = torch.randn(1, 8, 32, 19).to(memory_format=torch.channels_last)
    chain = chain_of(sequence)
    with torch.no_grad():
        chain(x)
        chain.load_state_dict({name: 2 * value for name, value in chain.state_dict().items()})
        torch.testing.assert_close(chain(x), sequence(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(copy.deepcopy(chain).double()(x.double()).float(), chain(x), rtol=1e-4, atol=1e-4)
