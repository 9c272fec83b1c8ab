"""Properties of every conditional convolution: memory format, dtypes, sizes, batches, export, gradients."""

import copy
import io

import pytest
import torch
from torch import nn

from dl_lib.layers import CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d

MAKERS = {
    "cond": lambda **options: CondConv2d(8, 12, 3, padding=1, **options),
    "cond_1x1": lambda **options: CondConv2d(8, 12, 1, **options),
    "cond_circular": lambda **options: CondConv2d(8, 12, 3, padding=1, padding_mode="circular", **options),
    "dynamic": lambda **options: DynamicConv2d(8, 12, 3, padding=1, groups=2, **options),
    "aws": lambda **options: ConvAWS2d(8, 12, 3, padding=1, **options),
    "sac": lambda **options: SAConv2d(8, 12, 3, padding=1, **options),
    "sac_deform": lambda **options: SAConv2d(8, 12, 3, padding=1, use_deform=True, **options),
    "split": lambda **options: SPConv2d(8, 12, 3, padding=1, **options),
}
every_layer = pytest.mark.parametrize("name", MAKERS)
strides = pytest.mark.parametrize("stride", [1, 2])


def make(name, **options):
    """Build a layer in evaluation mode with random values for all parameters, so that no branch is zero."""
    torch.manual_seed(0)
    layer = MAKERS[name](**options).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def maps(images, height=7, width=6, **options):
    return torch.randn(images, 8, height, width, generator=torch.Generator().manual_seed(images), **options)


@every_layer
@strides
def test_memory_format_is_preserved_and_does_not_change_values(name, stride):
    layer = make(name, stride=stride).double()
    x = maps(3, dtype=torch.float64)
    y = layer(x)
    y_channels_last = layer(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous()
    assert y_channels_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, y_channels_last, rtol=1e-12, atol=1e-12)


@every_layer
def test_layer_converts_to_a_memory_format(name):
    layer, x = make(name), maps(3)
    weights, expected = copy.deepcopy(layer.state_dict()), layer(x)
    layer.to(memory_format=torch.channels_last)
    for key, value in layer.state_dict().items():
        assert torch.equal(value, weights[key]), key
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("make_layer", [CondConv2d, ConvAWS2d, DynamicConv2d, SAConv2d, SPConv2d])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 3)])
def test_inputs_smaller_than_the_padding(make_layer, padding_mode, size):
    layer = make_layer(8, 12, 5, padding=2, padding_mode=padding_mode).eval()
    y = layer(maps(2, *size))
    assert y.shape == (2, 12, *size)
    assert y.isfinite().all()


@every_layer
@strides
def test_batch_equals_single_images(name, stride):
    layer = make(name, stride=stride).double()
    x = maps(4, dtype=torch.float64)
    one_by_one = torch.cat([layer(image) for image in x.split(1)])
    torch.testing.assert_close(layer(x), one_by_one, rtol=1e-12, atol=1e-12)


@every_layer
@strides
def test_empty_batch(name, stride):
    layer = make(name, stride=stride)
    x = maps(0).requires_grad_()
    y = layer(x)
    assert y.shape == (0, *layer(maps(2)).shape[1:])
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not any(p.grad is not None and p.grad.any() for p in layer.parameters())


@every_layer
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_small_inputs(name, size, stride):
    layer = make(name, stride=stride)
    y = layer(maps(2, *size))
    assert y.shape == (2, 12, *(-(-side // stride) for side in size))
    assert y.isfinite().all()


@every_layer
@strides
def test_gradients(name, stride):
    layer = make(name, stride=stride).double()
    x = maps(2, 4, 3, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*layer.named_parameters(), strict=True)

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(run, (x, *weights), fast_mode=True)


@every_layer
def test_autocast(name):
    layer = make(name)
    x = maps(3)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        again = layer(x.bfloat16())
    assert y.dtype == again.dtype == torch.bfloat16
    for result in (y, again):
        torch.testing.assert_close(result.float(), expected, rtol=0.06, atol=0.06 * expected.abs().max().item())
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("name", "part"),
    [("cond", lambda layer, x: layer._routing_fn(x)), ("dynamic", lambda layer, x: layer.attention(x))],
)
def test_mixing_weights_ignore_autocast(name, part):
    layer, x = make(name), maps(3)
    with torch.autocast("cpu", torch.bfloat16):
        weights = part(layer, x)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, part(layer, x))


@pytest.mark.parametrize("name", ["aws", "sac"])
def test_standardized_kernels_ignore_autocast(name):
    layer = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        weight = layer.standardized_weight()
    assert torch.equal(weight, layer.standardized_weight())


@every_layer
@pytest.mark.parametrize("channels_last", [False, True])
def test_export_with_dynamic_batch(name, channels_last):
    layer = make(name)
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = maps(3).contiguous(memory_format=order)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: torch.export.Dim("images", min=2, max=64)}})
    x = maps(5).contiguous(memory_format=order)
    torch.testing.assert_close(program.module()(x), layer(x))


@every_layer
def test_compiles_without_graph_break(name):
    layer, x = make(name), maps(3)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x), layer(x))
    torch._dynamo.reset()


@every_layer
def test_copy_state_dict_and_meta_device(name):
    layer, x = make(name), maps(2)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = MAKERS[name](device="meta").eval()
    assert other(x.to("meta")).shape == layer(x).shape
    other.load_state_dict(torch.load(file, weights_only=True), assign=True)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


@every_layer
def test_dtypes_match_conv2d(name):
    layer = MAKERS[name](dtype=torch.float64)
    assert {tensor.dtype for tensor in layer.state_dict().values()} <= {torch.float64, torch.int64}
    assert layer(maps(2, dtype=torch.float64)).dtype == torch.float64


@every_layer
@pytest.mark.parametrize("shape", [(8, 5, 5), (2, 7, 5, 5), (2, 8, 5, 5, 5)])
def test_input_shape_is_checked(name, shape):
    with pytest.raises(ValueError, match=r"\(images, 8, height, width\). Received: x.shape="):
        MAKERS[name]()(torch.zeros(shape))
