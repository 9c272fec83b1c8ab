"""Shortage of memory, which libraries report by errors of different types."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

_SIGNS = ("can't allocate memory", "not enough memory", "Failed to allocate memory")  # torch on CPUs, ONNX Runtime


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy, torch or ONNX Runtime is a shortage of memory of the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in _SIGNS)
