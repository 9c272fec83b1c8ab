"""In what precision a network computes: `SOLVER.PRECISION`. Parameters, losses, gates and costs stay in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dl_lib.config.choices import PrecisionName

__all__ = ["PRECISIONS", "Precision"]

PRECISIONS: dict[PrecisionName, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocasting, and for float16 a scale that keeps gradients from vanishing (arXiv 1710.03740, section 3.2).

    Args:
        name: of `PRECISIONS`.
        device: that the network is on.

    Attributes:
        scaler: of the losses; does nothing unless the precision is float16.
    """

    def __init__(self, name: PrecisionName, *, device: torch.device) -> None:
        self._dtype, self._device_type = PRECISIONS[name], device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device_type, dtype=self._dtype)

    @property
    def may_overflow(self) -> bool:
        """Whether infinite gradients are no reason to worry: the scale was too large, and the step is skipped."""
        return bool(self.scaler.is_enabled())

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the scale over, if there is one here and there was one in the saved run."""
        if state and self.may_overflow:
            self.scaler.load_state_dict(state)
