"""Feature-map utilities: global mean, memory format, autocast."""

import pytest
import torch

from dl_lib.layers.feature_maps import global_mean, is_channels_last, without_autocast


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_global_mean_and_its_gradient(dtype, order):
    x = (40 + torch.randn(2, 3, 50, 60)).to(dtype).contiguous(memory_format=order).requires_grad_()
    means = global_mean(x, dtype=dtype)  # the sum, 120,000, overflows float16
    assert means.dtype == dtype
    torch.testing.assert_close(means, x.double().mean(dim=(2, 3)).to(dtype))
    means.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 3000))


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 3, 4, 5), True), ((1, 3, 4, 5), True), ((2, 1, 4, 5), False), ((2, 3, 1, 1), False)]
)
def test_ambiguous_memory_formats_are_not_channels_last(shape, expected):
    x = torch.zeros(shape)
    assert is_channels_last(x.contiguous(memory_format=torch.channels_last)) is expected
    assert not is_channels_last(x)


def test_without_autocast():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16
    with without_autocast(x.to("meta")):
        assert (x @ x).dtype == torch.float32
