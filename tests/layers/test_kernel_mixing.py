"""All implementations of the kernel mixture agree with each other and with the definition."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dl_lib.layers import depthwise, kernel_mixing
from dl_lib.layers.geometry import make_geometry
from dl_lib.layers.kernel_mixing import KernelBank, mixed_conv2d

FORMS = ["loop", "experts", "grouped", "auto"]


def bank_of(*, kernels=3, bias=True, dtype=torch.float64, **options):
    valid = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", **options}
    geometry = make_geometry(4, 6, **valid)
    weight = torch.randn(kernels, *geometry.kernel_shape, dtype=dtype, requires_grad=True)
    biases = torch.randn(kernels, 6, dtype=dtype, requires_grad=True) if bias else None
    return KernelBank(weight, biases, geometry)


def results(x, coefficients, bank, *, implementation):
    """Return output and gradients."""
    x, coefficients = x.detach().requires_grad_(), coefficients.detach().requires_grad_()
    out = mixed_conv2d(x, coefficients, bank=bank, implementation=implementation)
    weights = [tensor for tensor in (x, coefficients, bank.weight, bank.bias) if tensor is not None]
    slope = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out, *torch.autograd.grad((out * slope).sum(), weights)]


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 4),
    kernel=st.sampled_from([1, 3, (1, 2), (3, 1)]),
    stride=st.sampled_from([1, 2, (1, 2)]),
    padding=st.sampled_from([0, 1, (1, 0)]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2]),
    padding_mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_all_implementations_agree(images, channels_last, kernel, **options):
    bank = bank_of(kernel_size=kernel, **options)
    x = torch.randn(images, 4, 6, 7, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    coefficients = torch.rand(images, 3, dtype=torch.float64)
    one, *others = (results(x, coefficients, bank, implementation=form) for form in FORMS)
    for other in others:
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_autocast_dtype_of_every_implementation(form, bias):
    bank = bank_of(kernel_size=3, bias=bias, dtype=torch.float32)
    x, coefficients = torch.randn(2, 4, 5, 6), torch.rand(2, 3)
    expected = mixed_conv2d(x, coefficients, bank=bank, implementation=form)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixed_conv2d(x, coefficients, bank=bank, implementation=form)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize("form", ["loop", "grouped", "auto"])
def test_definition(form):
    bank = bank_of(kernel_size=(2, 3), padding=(0, 1), bias=True)
    x, coefficients = torch.randn(2, 4, 3, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    y = mixed_conv2d(x, coefficients, bank=bank, implementation=form)
    weight, bias = bank.weight.tolist(), bank.bias.tolist()
    for b, o, i, j in itertools.product(range(2), range(6), range(2), range(3)):
        taps = [(c, u, v) for c, u, v in itertools.product(range(4), range(2), range(3)) if 0 <= j + v - 1 < 3]
        expected = sum(
            coefficients[b, k].item()
            * (bias[k][o] + sum(weight[k][o][c][u][v] * x[b, c, i + u, j + v - 1].item() for c, u, v in taps))
            for k in range(3)
        )
        assert y[b, o, i, j].item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("size", [(9, 8), (2, 2)])  # inputs larger and smaller than the kernels
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("form", ["grouped", "auto"])
def test_memory_format_is_preserved_and_does_not_change_values(form, kernel, size):
    bank = bank_of(kernel_size=kernel, padding=kernel // 2, stride=(1, 2))
    x, coefficients = torch.randn(3, 4, *size, dtype=torch.float64), torch.rand(3, 3, dtype=torch.float64)
    expected = mixed_conv2d(x, coefficients, bank=bank, implementation="loop")
    for order in (torch.contiguous_format, torch.channels_last):
        y = mixed_conv2d(x.contiguous(memory_format=order), coefficients, bank=bank, implementation=form)
        assert y.is_contiguous(memory_format=order)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [False, True])
def test_depthwise_inputs_that_exceed_the_caches(monkeypatch, bias, order):
    monkeypatch.setattr(depthwise, "BYTES_PER_THREAD", 1)
    monkeypatch.setattr(depthwise, "FAST_DTYPES", {torch.float64})
    geometry = make_geometry(12, 12, 3, stride=1, padding=2, dilation=2, groups=12, padding_mode="zeros")
    weight = torch.randn(3, *geometry.kernel_shape, dtype=torch.float64, requires_grad=True)
    biases = torch.randn(3, 12, dtype=torch.float64, requires_grad=True) if bias else None
    bank = KernelBank(weight, biases, geometry)
    x = torch.randn(5, 12, 6, 7, dtype=torch.float64).contiguous(memory_format=order)
    coefficients = torch.rand(5, 3, dtype=torch.float64)
    y, *gradients = results(x, coefficients, bank, implementation="grouped")
    assert y.is_contiguous(memory_format=order)
    for actual, expected in zip([y, *gradients], results(x, coefficients, bank, implementation="experts"), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("images", "options", "form"),
    [
        (1, {"kernel_size": 3}, "plain"),
        (1, {"kernel_size": 1}, "plain"),
        (2, {"kernel_size": 1}, "bmm"),
        (2, {"kernel_size": 1, "stride": 2}, "bmm"),
        (2, {"kernel_size": 1, "padding": 1}, "grouped"),
        (2, {"kernel_size": 1, "groups": 2}, "grouped"),
        (2, {"kernel_size": 3}, "grouped"),
    ],
)
def test_auto_choice(monkeypatch, images, options, form):
    chosen = []
    forms = {name: lambda *_, name=name: chosen.append(name) for name in kernel_mixing.IMPLEMENTATIONS}
    monkeypatch.setattr(kernel_mixing, "_FUNCTIONS", forms)
    mixed_conv2d(torch.zeros(images, 4, 5, 5).double(), torch.zeros(images, 3).double(), bank=bank_of(**options))
    assert chosen == [form]


@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_one_kernel_with_coefficient_1_equals_conv2d(images, kernel):
    bank = bank_of(kernels=1, kernel_size=kernel, stride=2)
    x = torch.randn(images, 4, 6, 5, dtype=torch.float64)
    y = mixed_conv2d(x, torch.ones(images, 1), bank=bank)  # coefficients of another dtype
    expected = nn.functional.conv2d(x, bank.weight[0], bank.bias[0], stride=2)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_empty_batch_has_zero_gradients(form):
    bank = bank_of(kernel_size=3)
    for gradient in results(torch.zeros(0, 4, 5, 5).double(), torch.zeros(0, 3).double(), bank, implementation=form):
        assert not gradient.any()


@pytest.mark.parametrize(
    ("form", "kernel", "images", "message"),
    [
        ("plain", 3, 2, r"supports a single image. Received: implementation='plain', images=2"),
        (
            "bmm",
            3,
            2,
            r"kernel size 1, no padding, one group. Received: implementation='bmm', 4, 6, kernel_size=\(3, 3\)",
        ),
    ],
)
def test_unsupported_implementations(form, kernel, images, message):
    with pytest.raises(ValueError, match=message):
        mixed_conv2d(
            torch.zeros(images, 4, 5, 5).double(),
            torch.zeros(images, 3).double(),
            bank=bank_of(kernel_size=kernel),
            implementation=form,
        )


@pytest.mark.parametrize("shape", [(2, 4), (1, 3), (2, 3, 1), (6,)])
def test_coefficient_shape_is_checked(shape):
    with pytest.raises(ValueError, match=r"\(images, kernels\) = \(2, 3\). Received: shape="):
        mixed_conv2d(torch.zeros(2, 4, 5, 5).double(), torch.zeros(shape), bank=bank_of(kernel_size=3))
