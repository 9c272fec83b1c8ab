"""State of all random number generators of a process, as plain values and tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from dl_lib.checkpoint.state_check import check_range, check_state

__all__ = ["check_random_state", "get_random_state", "preserve_random_state", "set_random_state"]


def get_random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators, and of the current GPU's if CUDA is initialized."""
    numpy_state = dict(np.random.get_state(legacy=False))
    key = numpy_state["state"]["key"]  # stored as a tensor: `torch.load(weights_only=True)` rejects NumPy arrays
    numpy_state["state"] = {**numpy_state["state"], "key": torch.from_numpy(key.astype(np.int64))}
    state = {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state()} if torch.cuda.is_initialized() else state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore a state; the GPU's only if CUDA is initialized, so call this after moving the model to its device."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    mt19937 = state["numpy"]["state"]
    key = mt19937["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**mt19937, "key": key}})
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])


def check_random_state(state: dict[str, Any]) -> None:
    """Check that a saved state can be restored, which includes restoring it for a moment.

    Raises:
        ValueError, KeyError, TypeError, RuntimeError: If it cannot.
    """
    check_state(state["numpy"], like=get_random_state()["numpy"], name="random_states.numpy")
    mt19937 = state["numpy"]["state"]  # NumPy does not check the position, which is an index of the key
    check_range(mt19937["pos"], name="the position of NumPy's generator", maximum=len(mt19937["key"]))
    with preserve_random_state():
        set_random_state(state)


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Context manager that restores all generators on exit, so that the code inside does not affect training."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
