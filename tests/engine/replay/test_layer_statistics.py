"""Statistics of modules compared with those of their outputs and gradients computed directly."""

import copy
import math

import pytest
import torch
from torch import nn

from dl_lib.engine.replay.layer_statistics import LayerObserver


class Log(nn.Module):
    def forward(self, x):
        return x.log()


def observed(model, *inputs, scale=1.0):
    """Run the forward and backward passes of several inputs; return the statistics by name."""
    with LayerObserver(model) as observer:
        for x in inputs:
            (scale * model(x).sum()).backward()
    norms = {parameter: (parameter.grad / scale).norm().item() for parameter in model.parameters()}
    return {layer.name: layer for layer in observer.statistics(norms, gradient_scale=scale)}


def small_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))
    return model.double()


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_statistics_equal_those_of_the_outputs(scale):
    model, inputs = small_model(), [torch.randn(5, 3, dtype=torch.float64) for _ in range(2)]
    hidden = [model[0](x).detach().requires_grad_() for x in inputs]
    for h in hidden:
        model[1](h).sum().backward()
    model.zero_grad()
    found = observed(model, *inputs, scale=scale)
    layer, values = found["0"], torch.cat(hidden)
    assert (layer.minimum, layer.maximum) == (values.min().item(), values.max().item())
    assert layer.mean == pytest.approx(values.mean().item(), rel=1e-12)
    assert layer.std == pytest.approx(values.std(correction=0).item(), rel=1e-12)
    assert layer.output_gradient == pytest.approx(torch.cat([h.grad for h in hidden]).norm().item(), rel=1e-12)
    own = torch.cat([parameter.grad.flatten() for parameter in model[0].parameters()]) / scale
    assert layer.weight_gradient == pytest.approx(own.norm().item(), rel=1e-12)
    assert (layer.non_finite, layer.kind, layer.is_leaf, layer.inputs_are_finite) == (0, "Linear", True, True)
    assert found["1.0"].weight_gradient is None and not found["1"].is_leaf


def test_order_is_that_of_the_forward_and_of_the_backward_pass():
    found = observed(small_model(), torch.ones(1, 3, dtype=torch.float64))
    assert list(found) == ["0", "1.0", "1.1", "1"]
    assert sorted(found, key=lambda name: found[name].backward_position) in (
        ["1.1", "1", "1.0", "0"],  # the output of 1 is that of 1.1
        ["1", "1.1", "1.0", "0"],
    )


def test_non_finite_values_are_counted_and_left_out():
    model = nn.Sequential(Log(), nn.ReLU(), nn.Linear(4, 1))
    found = observed(model, torch.tensor([[0.0, -1.0, 1.0, math.e]], requires_grad=True))
    log = found["0"]
    assert (log.non_finite, log.minimum, log.inputs_are_finite) == (0.5, 0, True)
    assert log.maximum == pytest.approx(1)
    assert (found["1"].non_finite, found["1"].inputs_are_finite) == (0.25, False)  # of -inf and nan, nan remains
    assert (found["2"].non_finite, found["2"].minimum, found["2"].std) == (1, None, None)


def test_copies_of_the_model_are_not_observed():
    model = small_model()
    with LayerObserver(model) as observer:
        copy.deepcopy(model)(torch.ones(1, 3, dtype=torch.float64))
        copy.deepcopy(model).to("meta")(torch.ones(1, 3, dtype=torch.float64, device="meta"))
    assert observer.statistics({}) == ()
