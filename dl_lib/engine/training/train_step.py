"""One step of the optimizer: the gradients of a batch, or of several as if they were one."""

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
    """How large gradients may be.

    Attributes:
        limit: 0 for no limit.
        kind: `norm` scales all gradients down together, so that their L2 norm is at most the limit; `value` clips each
            number by itself.
    """

    limit: float = 0.0
    kind: GradClipType = "norm"

    def apply(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Clips the gradients; returns the L2 norm of all of them together before that, 0-d."""
        by_norm = self.kind == "norm" and self.limit > 0
        # An infinite limit scales nothing, and the norm is worth knowing all the same.
        norm = nn.utils.clip_grad_norm_(parameters, self.limit if by_norm else math.inf)
        if self.kind == "value" and self.limit > 0:
            nn.utils.clip_grad_value_(parameters, self.limit)
        return norm


class TrainStep:
    """Forward and backward over the parts of a step, clipping, and the optimizer's step.

    Args:
        model: called as `model(batch, step_rate=...)`; returns losses (0-d, summed up) and what is only logged
            (0-d; what has `flops` in its name is a cost in MFLOPs). If it has `step_means`, see `SegmentationModel`,
            parts give the gradients of the whole whatever their losses are divided by; else those of the mean over the
            parts.
        optimizer: of the model's parameters.
        clip: of the gradients.
        precision: of the forward pass; None for that of the parameters.
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

    def backward(self, parts: Sequence[Batch], *, step_rate: float) -> dict[str, Tensor]:
        """Fills the gradients and clips them.

        Args:
            parts: batches whose gradients are added up, with equally many images each.
            step_rate: progress of the training in [0, 1].

        Returns:
            Each loss, `total_loss`, what is logged (costs in GFLOPs: `expt_flops` becomes `expt_gflops`), means over
            the parts, and `gradient_norm` before clipping; 0-d, without gradients.
        """
        self.optimizer.zero_grad(set_to_none=True)
        model: Any = comm.unwrap(self.model)
        further = {}
        if len(parts) > 1 and hasattr(model, "step_means"):
            with self.precision.autocast():
                further["step_means"] = model.step_means(parts, step_rate=step_rate)
        sums: dict[str, Tensor] = {}
        for position, part in enumerate(parts, 1):
            with self._gradients_exchanged(position == len(parts)):
                with self.precision.autocast():
                    losses, logged = self.model(part, step_rate=step_rate, **further)
                    total_loss = torch.stack(list(losses.values())).sum()
                self.precision.scaled(total_loss / len(parts)).backward()
            for name, value in {"total_loss": total_loss, **losses, **_in_gflops(logged)}.items():
                sums[name] = sums.get(name, 0) + value.detach()
        self.precision.scaler.unscale_(self.optimizer)
        means = {name: value / len(parts) for name, value in sums.items()}
        return {**means, "gradient_norm": self.clip.apply(self._parameters)}

    def apply(self) -> None:
        """Lets the optimizer step; in float16 only if all gradients are finite, and the scale follows."""
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()

    def skip_step(self) -> None:
        """In the place of `apply`: the weights stay, and in float16 the scale follows what `backward` has met."""
        self.precision.scaler.update()

    def _gradients_exchanged(self, exchanged: bool) -> AbstractContextManager[None]:
        """Between processes, once for a step: with its last part."""
        if exchanged or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()


def _in_gflops(logged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, with costs in GFLOPs in the place of MFLOPs, and called so."""
    return {
        name.replace("flops", "gflops"): value / 1000 if "flops" in name else value for name, value in logged.items()
    }
