"""An exponential moving average of a model's weights, to be evaluated in its place: `SOLVER.EMA`.

Source: arXiv 1703.01780, section 2; the averaging is torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dl_lib.layers import KernelAttention

__all__ = ["ModelEMA"]


class ModelEMA:
    """Keeps average = decay * average + (1 - decay) * weights, running statistics included; the first update copies.

    The temperature of dynamic convolutions is no average but the present one: evaluated as trained.

    Args:
        model: not wrapped for several processes.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        averaging = partial(_average, average=get_ema_multi_avg_fn(decay))
        self._averaged = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True).requires_grad_(False)
        attentions = (name for name, module in model.named_modules() if isinstance(module, KernelAttention))
        self._temperatures = [f"{name}.temperature" for name in attentions]

    @property
    def model(self) -> nn.Module:
        """The model with the averaged weights."""
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        """Takes the present weights in."""
        self._averaged.update_parameters(model)
        for name in self._temperatures:
            self.model.get_buffer(name).copy_(model.get_buffer(name))

    def state_dict(self) -> dict[str, Any]:
        """`weights` by the names of the model's own, and how many `updates` they have seen."""
        return {"weights": self.model.state_dict(), "updates": int(self._averaged.n_averaged)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["weights"])
        self._averaged.n_averaged.fill_(state["updates"])


def _average(mine: list[Tensor], present: list[Tensor], updates: Tensor, *, average: Callable[..., None]) -> None:
    """Averages tensors of one type; torch takes integers, such as the counter of each norm, one by one: here as one."""
    if mine[0].is_floating_point():
        average(mine, present, updates)
        return
    all_mine, all_present = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (mine, present))
    average([all_mine], [all_present], updates)
    parts = all_mine.split([tensor.numel() for tensor in mine])
    torch._foreach_copy_(mine, [part.view_as(tensor) for part, tensor in zip(parts, mine, strict=True)])
