"""Exponential moving average (EMA) of the model's weights, `SOLVER.EMA` (arXiv 1703.01780, section 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dl_lib.checkpoint.weights import non_finite
from dl_lib.layers import KernelAttention

__all__ = ["ModelEMA"]


class ModelEMA:
    """EMA of weights and running statistics: `ema = decay * ema + (1 - decay) * weights`; the first update copies.

    The temperature of dynamic convolutions is copied, not averaged, so that evaluation uses the same temperature as
    training.

    Args:
        model: Model without a DDP wrapper.
        decay: Decay in (0, 1).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        averaging = partial(_average, average=get_ema_multi_avg_fn(decay))
        self._averaged = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True).requires_grad_(False)
        attentions = (name for name, module in model.named_modules() if isinstance(module, KernelAttention))
        self._temperatures = [f"{name}.temperature" for name in attentions]

    @property
    def model(self) -> nn.Module:
        return self._averaged.module

    def update(self, model: nn.Module) -> None:
        self._averaged.update_parameters(model)
        for name in self._temperatures:
            self.model.get_buffer(name).copy_(model.get_buffer(name))

    def state_dict(self) -> dict[str, Any]:
        """Return `weights`, with the keys of the model's state dict, and the number of `updates`."""
        return {"weights": self.model.state_dict(), "updates": int(self._averaged.n_averaged)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`.

        Raises:
            ValueError: If a weight is NaN or infinite.
        """
        if names := non_finite(state["weights"]):
            raise ValueError(f"weights must be finite, but {', '.join(names)} have NaN or Inf")
        self.model.load_state_dict(state["weights"])
        self._averaged.n_averaged.fill_(state["updates"])


def _average(averaged: list[Tensor], current: list[Tensor], updates: Tensor, *, average: Callable[..., None]) -> None:
    """Average tensors of one dtype.

    torch averages integer tensors, such as `num_batches_tracked` of each norm, one at a time; concatenated, they take a
    few kernels in total.
    """
    if averaged[0].is_floating_point():
        average(averaged, current, updates)
        return
    all_averaged, all_current = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (averaged, current))
    average([all_averaged], [all_current], updates)
    values = all_averaged.split([tensor.numel() for tensor in averaged])
    torch._foreach_copy_(averaged, [value.view_as(tensor) for value, tensor in zip(values, averaged, strict=True)])
