"""Peak memory of forward passes, without the memory of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dl_lib.modeling.costs.live_memory import LiveMemory
from dl_lib.utils.modes import evaluation_mode

__all__ = ["peak_memory_bytes"]


def peak_memory_bytes(model: nn.Module, inputs: Sequence[Mapping[str, Any]]) -> int:
    """Return the peak memory of inference on a batch, in addition to that of the weights and inputs.

    On a GPU, it includes memory that operations allocate internally, as counted by `torch.cuda`; on the CPU, see
    `LiveMemory`.
    """
    device = next((values.device for values in model.parameters()), torch.device("cpu"))
    with evaluation_mode(model), torch.inference_mode():
        if device.type != "cuda":
            with LiveMemory() as memory:
                model(inputs)
            return memory.peak_bytes
        allocated = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        model(inputs)
        return torch.cuda.max_memory_allocated(device) - allocated
