"""Optimizer step with gradient accumulation, mixed precision and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.config.choices import GradClipType
from dl_lib.engine.training.precision import Precision
from dl_lib.utils import comm

__all__ = ["Batch", "GradientClip", "TrainStep"]

Batch = Sequence[Any]


@dataclass(frozen=True)
class GradientClip:
    """Gradient clipping by joint norm or by value.

    Attributes:
        limit: Maximum L2 norm or absolute value; 0 disables clipping.
        kind: `norm` scales all gradients by one factor so that their joint L2 norm is at most the limit; `value` clamps
            each element.
    """

    limit: float = 0.0
    kind: GradClipType = "norm"

    def apply(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Clip the gradients in place and return their joint L2 norm before clipping, 0-d."""
        by_norm = self.kind == "norm" and self.limit > 0
        # An infinite limit leaves the gradients unchanged but still returns their norm, which is logged.
        norm = nn.utils.clip_grad_norm_(parameters, self.limit if by_norm else math.inf)
        if self.kind == "value" and self.limit > 0:
            nn.utils.clip_grad_value_(parameters, self.limit)
        return norm


class TrainStep:
    """Forward and backward pass over the micro-batches of a step, gradient clipping and optimizer step.

    Args:
        model: Called as `model(batch, step_rate=...)`; returns losses (0-d, to be summed) and values to log (0-d;
            names containing `flops` are costs in MFLOPs). If it has `step_means` (see `SegmentationModel`), the
            accumulated gradients of the label losses equal those of the whole batch whatever each loss is normalized
            by; otherwise they are means over the micro-batches.
        optimizer: Optimizer of the model's parameters.
        clip: Gradient clipping; None disables it.
        precision: Precision of the forward pass; None uses float32.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        clip: GradientClip | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.clip = clip or GradientClip()
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self.precision = precision or Precision("float32", device=device)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def backward(self, micro_batches: Sequence[Batch], *, step_rate: float) -> dict[str, Tensor]:
        """Compute and clip the accumulated gradients.

        Args:
            micro_batches: Batches with the same number of images each.
            step_rate: Training progress in [0, 1].

        Returns:
            0-d tensors without gradients: means over the micro-batches of each loss, of `total_loss` and of the values
            to log, and `gradient_norm` before clipping. MFLOPs become GFLOPs, `expt_flops` becomes `expt_gflops`.
        """
        self.optimizer.zero_grad(set_to_none=True)
        model: Any = comm.unwrap(self.model)
        arguments = {}
        if len(micro_batches) > 1 and hasattr(model, "step_means"):
            arguments["step_means"] = model.step_means(micro_batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, 1):
            with self._gradient_sync(number == len(micro_batches)):
                with self.precision.autocast():
                    losses, logged = self.model(batch, step_rate=step_rate, **arguments)
                    total_loss = torch.stack(list(losses.values())).sum()
                self.precision.scale(total_loss / len(micro_batches)).backward()
            for name, value in {"total_loss": total_loss, **losses, **_in_gflops(logged)}.items():
                sums[name] = sums.get(name, 0) + value.detach()
        self.precision.scaler.unscale_(self.optimizer)
        means = {name: value / len(micro_batches) for name, value in sums.items()}
        return {**means, "gradient_norm": self.clip.apply(self._parameters)}

    def apply(self) -> None:
        """Run the optimizer step; in float16 only if all gradients are finite, then update the loss scale."""
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    def skip_step(self) -> None:
        """Keep the weights, as an alternative to `apply`; in float16, update the loss scale."""
        self.precision.scaler.update()

    def _gradient_sync(self, enabled: bool) -> AbstractContextManager[None]:
        """Return a context that averages gradients over the processes only if enabled: in the last micro-batch."""
        if enabled or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()


def _in_gflops(logged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("flops", "gflops"): value / 1000 if "flops" in name else value for name, value in logged.items()
    }
