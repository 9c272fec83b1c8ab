"""Branches of graphs that `torch.export` traces: one of two functions runs, depending on a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["Condition", "either", "run_if"]

Condition = Tensor | bool  # 0-d; True or False if it is so for every image
Branch = Callable[..., Tensor]


def either(first: Condition, second: Condition) -> Condition:
    """Return whether one of the conditions holds."""
    return first is True or second is True or first | second


def run_if(
    condition: Condition, run: Branch, otherwise: Branch, *inputs: Tensor, modules: Sequence[nn.Module]
) -> Tensor:
    """Return `run(*inputs)` if a condition holds, otherwise `otherwise(*inputs)`: the operator If in ONNX.

    `torch.cond` starts the compiler for each call. The operator that it ends in takes a sixth of that time, but needs
    the weights as inputs.

    Args:
        condition: Condition; no branch is made if it is True.
        run: Function of the inputs that calls only these modules.
        otherwise: Function of the inputs without modules, whose result has the shape and dtype of that of `run`, also
            as expressions of a symbolic input size. It may be an input.
        inputs: Inputs.
        modules: Modules with the weights of `run`.
    """
    if condition is True:
        return run(*inputs)
    part, count = _Part(run, modules), len(inputs)
    weights = {**dict(part.named_parameters()), **dict(part.named_buffers())}

    def then(*operands: Tensor) -> tuple[Tensor]:
        y = functional_call(part, dict(zip(weights, operands[count:], strict=True)), operands[:count])
        return (y.contiguous(),)

    def other(*operands: Tensor) -> tuple[Tensor]:
        y = otherwise(*operands[:count]).contiguous()
        # A result must not share memory with an input.
        return (y.clone() if any(y is x for x in operands[:count]) else y,)

    (y,) = torch.ops.higher_order.cond(condition, then, other, (*inputs, *weights.values()))
    return y


class _Part(nn.Module):
    """Function with the modules that it calls."""

    def __init__(self, run: Branch, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._run, self._called = run, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._run(*inputs)
