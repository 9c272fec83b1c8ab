"""Fast gradients and channel chunks of depthwise convolutions against torch."""

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from dl_lib.layers import SAConv2d, depthwise
from dl_lib.layers.depthwise import DilatedConv2d, conv2d_fast_depthwise

CHANNELS = 4


@pytest.fixture(autouse=True)
def fast_in_float64(monkeypatch):
    """Enable the fast path in float64, whose precision the comparisons need."""
    monkeypatch.setattr(depthwise, "FAST_DTYPES", {torch.float64, *depthwise.FAST_DTYPES})


def is_fast(y):
    return "_Depthwise" in type(y.grad_fn).__name__


def arguments(images=2, *, size=(6, 7), kernel=(3, 3), bias=True, multiplier=1, channels=CHANNELS, dtype=torch.float64):
    tensors = [
        torch.randn(images, channels, *size, dtype=dtype),
        torch.randn(multiplier * channels, 1, *kernel, dtype=dtype),
        torch.randn(multiplier * channels, dtype=dtype) if bias else None,
    ]
    return [None if tensor is None else tensor.requires_grad_() for tensor in tensors]


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_outputs_and_gradients(images, size, kernel, padding, dilation, bias, channels_last):
    extent = [rate * (side - 1) for rate, side in zip(dilation, kernel, strict=True)]
    if any(side + 2 * p <= r for side, p, r in zip(size, padding, extent, strict=True)):
        return  # the output would be empty
    x, weight, b = arguments(images, size=size, kernel=kernel, bias=bias)
    maps = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    y = conv2d_fast_depthwise(maps, weight, b, stride=(1, 1), padding=padding, dilation=dilation, groups=CHANNELS)
    assert is_fast(y) == (max(dilation) > 1 and all(p <= r for p, r in zip(padding, extent, strict=True)))
    expected = F.conv2d(x, weight, b, 1, padding, dilation, CHANNELS)
    torch.testing.assert_close(y, expected)
    grad_output = torch.randn_like(y)
    inputs = [tensor for tensor in (x, weight, b) if tensor is not None]
    gradients, references = (torch.autograd.grad(out, inputs, grad_output) for out in (y, expected))
    torch.testing.assert_close(gradients, references)


@pytest.mark.parametrize(
    ("channels_last", "dilation", "size", "torch_shape"),
    [
        (False, (5, 3), (3, 4), None),  # one convolution, whatever its stride between rows
        (False, (1, 4), (3, 8), (8, 2, 5, 4)),  # polyphase components
        (False, (1, 5), (3, 2), (2, 2, 3, 2)),  # unchanged: its components would be mostly zeros
        (True, (2, 3), (6, 9), (12, 2, 5, 5)),
        (True, (2, 3), (3, 2), (2, 2, 3, 2)),
    ],
)
def test_methods_of_the_weight_gradient(channels_last, dilation, size, torch_shape):
    def run(x, weight, bias):
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        return conv2d_fast_depthwise(x, weight, bias, stride=(1, 1), padding=dilation, dilation=dilation, groups=2)

    inputs = arguments(size=size, channels=2)
    with mock.patch.object(depthwise, "conv2d_weight", side_effect=conv2d_weight) as torch_weight_gradient:
        run(*inputs).sum().backward()
    assert [call.args[0].shape for call in torch_weight_gradient.call_args_list] == (
        [torch_shape] if torch_shape else []
    )
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def cache_for(monkeypatch, channels, *, x):
    """Set the cache size so that this many channels fit into the caches of all threads."""
    room = channels * x[0, 0].nbytes
    monkeypatch.setattr(depthwise, "BYTES_PER_THREAD", math.ceil(room / torch.get_num_threads()))


@pytest.mark.parametrize(
    ("channels_in_cache", "num_chunks"), [(1, 4), (40, 2), (60, 1)]
)  # chunks are multiples of 16 channels
@pytest.mark.parametrize(("images", "channels"), [(1, 60), (5, 12)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_large_inputs_are_processed_in_chunks(
    monkeypatch, dilation, bias, images, channels, channels_in_cache, num_chunks
):
    x, weight, b = arguments(images, channels=channels, bias=bias)
    cache_for(monkeypatch, channels_in_cache, x=x)
    options = {"stride": (1, 1), "padding": (1, 0), "dilation": dilation, "groups": channels}
    with mock.patch.object(F, "conv2d", side_effect=F.conv2d) as conv:
        y = conv2d_fast_depthwise(x, weight, b, **options)
        assert conv.call_count == num_chunks
    assert y.is_contiguous()
    expected = F.conv2d(x, weight, b, **options)
    torch.testing.assert_close(y, expected)
    inputs = [tensor for tensor in (x, weight, b) if tensor is not None]
    grad_output = torch.randn_like(y)
    gradients, references = (torch.autograd.grad(out, inputs, grad_output) for out in (y, expected))
    torch.testing.assert_close(gradients, references)


def test_inputs_that_are_not_chunked(monkeypatch):
    x, weight, bias = arguments(1, channels=60)
    cache_for(monkeypatch, 1, x=x)
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 60}
    with mock.patch.object(F, "conv2d", side_effect=F.conv2d) as conv:
        with torch.no_grad():
            conv2d_fast_depthwise(x, weight, bias, **options)
        channels_last = x.contiguous(memory_format=torch.channels_last)
        y = conv2d_fast_depthwise(channels_last, weight, bias, **options)
    assert conv.call_count == 2
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_second_gradients_in_chunks(monkeypatch):
    def run(x, weight, bias):
        return conv2d_fast_depthwise(x, weight, bias, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=20)

    x, weight, bias = arguments(1, size=(3, 2), channels=20)
    cache_for(monkeypatch, 16, x=x)
    assert torch.autograd.gradcheck(run, (x, weight, bias))
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))


@pytest.mark.parametrize("in_cache", [1, 100])
def test_gradients_of_required_inputs_only(monkeypatch, in_cache):
    x, weight, bias = arguments(channels=20)
    cache_for(monkeypatch, in_cache, x=x)
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": 20}
    conv2d_fast_depthwise(x.detach(), weight.detach(), bias, **options).sum().backward()
    assert bias.grad is not None and x.grad is None and weight.grad is None


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {"stride": (2, 1)}),
        ({}, {"dilation": (1, 1)}),
        ({"multiplier": 2}, {}),
        ({"images": 0}, {}),
        ({"kernel": (1, 3)}, {"padding": (1, 2)}),
    ],
)
def test_inputs_without_fast_gradient(given, options):
    x, weight, bias = arguments(**given)
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": CHANNELS, **options}
    y = conv2d_fast_depthwise(x, weight, bias, **options)
    assert not is_fast(y)
    torch.testing.assert_close(y, F.conv2d(x, weight, bias, **options))


@pytest.mark.parametrize("in_cache", [1, 1000])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2)])
def test_autocast_casts_all_arguments(monkeypatch, dilation, in_cache):
    inputs = arguments(dtype=torch.float32, channels=20)
    cache_for(monkeypatch, in_cache, x=inputs[0])
    options = {"stride": (1, 1), "padding": dilation, "dilation": dilation, "groups": 20}
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d_fast_depthwise(*inputs, **options)
    assert y.dtype == torch.bfloat16
    expected = F.conv2d(*(tensor.bfloat16() for tensor in inputs), **options)
    gradients, references = (torch.autograd.grad(out.float().square().sum(), inputs) for out in (y, expected))
    torch.testing.assert_close(y, expected)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0.02, atol=0.02 * reference.abs().max().item())


def test_gradients_ignore_autocast():
    inputs = arguments(dtype=torch.float32)
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": CHANNELS}
    y, expected = conv2d_fast_depthwise(*inputs, **options), F.conv2d(*inputs, **options)
    with torch.autocast("cpu", torch.bfloat16):
        gradients, references = (torch.autograd.grad(out, inputs, torch.ones_like(out)) for out in (y, expected))
    torch.testing.assert_close(gradients, references)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.float16])
def test_slow_dtypes_use_torch(monkeypatch, dtype):
    monkeypatch.undo()
    x, weight, _ = arguments(dtype=dtype, bias=False)
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": CHANNELS}
    assert not is_fast(conv2d_fast_depthwise(x, weight, **options))


def test_errors_and_unbatched_input_are_those_of_torch():
    x, weight, _ = arguments(dtype=torch.float32)
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": CHANNELS}
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional with 4 elements"):
        conv2d_fast_depthwise(x, weight, torch.zeros(7), **options)
    with pytest.raises(RuntimeError, match="type"):
        conv2d_fast_depthwise(x, weight.bfloat16(), **options)
    layer = DilatedConv2d(CHANNELS, CHANNELS, 3, padding=2, dilation=2, groups=CHANNELS)
    layer(torch.randn(CHANNELS, CHANNELS, 6)).sum().backward()


def test_compiles_without_graph_break_and_exports_with_dynamic_batch():
    layer = SAConv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS).double()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    gradients = []
    for run in (layer, compiled):
        x = torch.ones(3, CHANNELS, 7, 6, dtype=torch.float64)
        gradients.append(torch.autograd.grad(run(x).square().sum(), [*layer.parameters()]))
    torch.testing.assert_close(*gradients)
    shapes = {"x": {0: torch.export.Dim("images", min=2, max=64)}}
    program = torch.export.export(layer, (x,), dynamic_shapes=shapes)
    x = torch.randn(5, CHANNELS, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_module_equals_conv2d():
    options = {"padding": 2, "dilation": 2, "groups": CHANNELS}
    layer, plain = DilatedConv2d(CHANNELS, CHANNELS, 3, **options), nn.Conv2d(CHANNELS, CHANNELS, 3, **options)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, CHANNELS, 5, 6)
    assert torch.equal(layer(x), plain(x))
    assert is_fast(layer(x))


def test_vmap_without_gradients():
    x, weight, bias = (tensor.detach() for tensor in arguments())
    options = {"stride": (1, 1), "padding": (2, 2), "dilation": (2, 2), "groups": CHANNELS}
    y = torch.vmap(lambda maps: conv2d_fast_depthwise(maps, weight, bias, **options))(x.unsqueeze(1))
    torch.testing.assert_close(y.squeeze(1), F.conv2d(x, weight, bias, **options))
