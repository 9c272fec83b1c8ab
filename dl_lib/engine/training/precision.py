"""Automatic mixed precision, `SOLVER.PRECISION`. Parameters, losses, gates and costs stay in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dl_lib.config.choices import PrecisionName

__all__ = ["PRECISIONS", "Precision"]

PRECISIONS: dict[PrecisionName, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and, for float16, loss scaling against vanishing gradients (arXiv 1710.03740, section 3.2).

    Args:
        name: Key of `PRECISIONS`.
        device: Device of the model.

    Attributes:
        scaler: Gradient scaler; disabled unless the precision is float16.
    """

    def __init__(self, name: PrecisionName, *, device: torch.device) -> None:
        self._dtype, self._device_type = PRECISIONS[name], device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device_type, dtype=self._dtype)

    @property
    def may_overflow(self) -> bool:
        """True if infinite gradients are expected: the scaler then skips the step and lowers the scale."""
        return bool(self.scaler.is_enabled())

    def scale(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state; empty if it is disabled."""
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the scaler's state if scaling is enabled both here and in the saved run."""
        if state and self.may_overflow:
            self.scaler.load_state_dict(state)
