"""Reference values of public implementations of conditional convolutions, and the inputs that produced them.

tests/reference/ops contains outputs and gradients, computed in float64 on a CPU, of timm 1.0.31 (condconv), mmcv 2.2.0
(sac, dcn), kaijieshi7/Dynamic-convolution-Pytorch 4befa50 (dynconv) and qiulinzhang/SPConv.pytorch 78c734f (spconv),
with torch 2.13.0 and numpy 2.4.6. Weights and inputs are functions of their names and shapes; gradients are those of
(output * input_of("grad_out")).sum().
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

OPS = Path(__file__).parents[1] / "reference" / "ops"


def cases(folder):
    """Return geometry, shapes and costs of the cases, by name."""
    return json.loads((OPS / folder / "cases.json").read_text())


def figures(folder, case):
    with np.load(OPS / folder / f"{case}.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(values) for name, values in file.items()}


def geometry_of(case):
    """Return the arguments of `nn.Conv2d` up to `groups`."""
    channels = ("in_channels", "out_channels") if "in_channels" in case else ("in_planes", "out_planes")
    return [case[name] for name in (*channels, "kernel", "stride", "padding", "dilation", "groups")]


def fill(name, shape):
    """Return the values of the tensor with this name, float32 except for counters."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(tuple(shape), dtype=torch.int64)
    noise = np.random.default_rng(zlib.crc32(name.encode()))
    size = int(np.prod(shape))
    if name.endswith(("running_var", "weight_gamma")):
        values = 0.5 + noise.random(size)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * noise.standard_normal(size)
    elif name.endswith("weight_beta"):
        values = 0.05 * noise.standard_normal(size)
    elif len(shape) <= 1:
        values = 1 + 0.1 * noise.standard_normal(size)
    else:
        fan_in = int(
            np.prod(shape[2:] if len(shape) == 5 else shape[1:])
        )  # five dimensions: (kernels, out, in, rows, columns)
        values = np.sqrt(2 / fan_in) * noise.standard_normal(size)
    return torch.from_numpy(values.reshape(tuple(shape)).astype(np.float32))


def input_of(case, shape):
    noise = np.random.default_rng(zlib.crc32(f"input:{case}".encode()))
    return torch.from_numpy(noise.standard_normal(tuple(shape)).astype(np.float32))


def fill_layer(layer, prefix, *, names=None):
    """Load the values of the tensors named prefix + key; `names` maps own keys to reference keys where they differ."""
    names = names or {}
    state = {key: fill(f"{prefix}{names.get(key, key)}", value.shape) for key, value in layer.state_dict().items()}
    layer.load_state_dict(state)


def run(layer, x, *, dtype):
    """Return output and gradients of the layer in this dtype: `out`, `grad_x` and `grad_` + name."""
    layer, x = layer.to(dtype), x.to(dtype).requires_grad_()
    out = layer(x)
    (out * input_of("grad_out", out.shape).to(dtype)).sum().backward()
    gradients = {f"grad_{name}": p.grad for name, p in layer.named_parameters()}
    return {"out": out.detach(), "grad_x": x.grad, **gradients}


def check(computed, expected, *, dtype):
    """Compare all expected values by name, with the tolerance of the dtype."""
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for name, values in expected.items():
        actual = computed[name].to(torch.float64).view(values.shape)
        torch.testing.assert_close(actual, values, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
