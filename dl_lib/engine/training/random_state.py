"""The states of all random generators of a process, in plain values and tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["get_random_state", "preserve_random_state", "set_random_state"]


def get_random_state() -> dict[str, Any]:
    """Of Python, NumPy, torch, and the current GPU if this process uses one."""
    numpy_state = dict(np.random.get_state(legacy=False))
    key = numpy_state["state"]["key"]  # as a tensor: files without arrays can be read wherever torch is
    numpy_state["state"] = {**numpy_state["state"], "key": torch.from_numpy(key.astype(np.int64))}
    state = {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else state


def set_random_state(state: dict[str, Any]) -> None:
    """Puts the generators where they were; that of a GPU only where one is in use, so after the model is on it."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    words = state["numpy"]["state"]
    key = words["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**words, "key": key}})
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """For what a training does beside its steps: they draw the numbers that they would have drawn without it."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
