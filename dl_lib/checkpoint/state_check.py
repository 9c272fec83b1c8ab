"""Types of a checkpoint's values, compared with those of the run that loads them."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor

__all__ = ["check_optimizer_state", "check_range", "check_scheduler_state", "check_state", "is_plain"]

_SCALAR_STATES = ("step", "eta", "mu", "mu_product")  # of torch's optimizers; all others have a value per element


def check_state(state: Any, *, like: Any, name: str) -> None:
    """Check that a saved state has the types of a present one, recursively where both have a value.

    Integers and floating-point numbers are interchangeable, and anything may replace None. Ranges, lengths and missing
    keys are left to `load_state_dict`.

    Raises:
        ValueError: With the name of the first value of a different type.
    """
    expected = next((kind for kind in _KINDS if isinstance(like, _KINDS[kind])), None)
    if expected is None:
        return
    fits = isinstance(state, _KINDS[expected]) and isinstance(state, bool) == isinstance(like, bool)
    if not fits:
        raise ValueError(f"{name} must be {expected}, but is {_describe(state)}")
    if isinstance(like, Mapping):
        for key in like.keys() & state.keys():
            check_state(state[key], like=like[key], name=f"{name}.{key}")
    elif isinstance(like, (list, tuple)):
        for index, (value, present) in enumerate(zip(state, like, strict=False)):
            check_state(value, like=present, name=f"{name}[{index}]")


def check_optimizer_state(state: Mapping[str, Any], *, optimizer: torch.optim.Optimizer) -> None:
    """Check that a saved optimizer state has one value, or one per element, for each parameter.

    Settings that are None here, such as `fused`, must be None or a bool.

    Raises:
        ValueError: With the setting, or the number of the parameter, that the state does not fit.
    """
    for saved, present in zip(state["param_groups"], optimizer.param_groups, strict=False):
        for name in [name for name, value in present.items() if value is None]:
            if not isinstance(saved.get(name), (bool, NoneType)):
                raise ValueError(f"optimizer.param_groups: {name} must be a bool, but is {_describe(saved[name])}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    check_state(state["state"], like={}, name="optimizer.state")
    for index, values in state["state"].items():
        if not isinstance(index, int) or not 0 <= index < len(parameters) or not isinstance(values, Mapping):
            raise ValueError(f"optimizer.state has an entry {index!r} that belongs to no parameter")
        for name, value in values.items():
            is_scalar = name in _SCALAR_STATES
            shape = () if is_scalar else tuple(parameters[index].shape)
            fits = value is None or (is_scalar and isinstance(value, (int, float)))
            if not fits and not (isinstance(value, Tensor) and value.shape == shape):
                raise ValueError(
                    f"optimizer.state[{index}].{name} must be a tensor of shape {shape}, but is {_describe(value)}"
                )


def check_scheduler_state(state: Mapping[str, Any], *, scheduler: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Check that a saved scheduler state has a learning rate for each parameter group.

    Raises:
        ValueError: If it has more or fewer.
    """
    expected, saved = len(scheduler.optimizer.param_groups), len(state["base_lrs"])
    if saved != expected:
        raise ValueError(f"scheduler.base_lrs must have one value for each of {expected} parameter groups, not {saved}")


def check_range(value: Any, *, name: str, maximum: int, limit: str = "") -> None:
    """Check that a saved value is an integer from 0 to a maximum; `limit` names the maximum.

    Raises:
        ValueError: If it is not.
    """
    if type(value) is not int or not 0 <= value <= maximum:
        end = f"{maximum} ({limit})" if limit else maximum
        raise ValueError(f"{name} must be an integer from 0 to {end}, but is {value!r:.40}")


def is_plain(value: Any) -> bool:
    """Return whether a value is a plain config value: text, number, truth value, None, or lists and dicts of them.

    Keys of dicts are text or integers, as in the label maps of DATASETS.FOLDERS.
    """
    if isinstance(value, Mapping):
        return all(isinstance(key, (str, int)) and is_plain(below) for key, below in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (str, bool, int, float))


_KINDS: dict[str, tuple[type, ...]] = {
    "a dict": (Mapping,),
    "a list": (list, tuple),
    "a tensor": (Tensor,),
    "text": (str,),
    "a truth value": (bool,),
    "a number": (int, float),
}


def _describe(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"{type(value).__name__}{shape or f' {value!r:.40}'}"
