"""State before a training step: buffers and random state, which its forward pass changes."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn

from dl_lib.engine.training.random_state import get_random_state
from dl_lib.utils import comm

__all__ = ["StateBeforeStep"]


class StateBeforeStep:
    """Buffers of a model and random state of this process, saved before each step.

    The weights need no copy: they are unchanged until the optimizer steps. The copies are reused from step to step, as
    the traversal of a large network takes longer than copying its buffers.

    Args:
        model: Model on its device.

    Attributes:
        model: Model without a parallel wrapper.
        random_state: See `get_random_state`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = comm.unwrap(model)
        self._places = [  # key of the state dict, and the dict of a module's buffers with its key there
            (f"{prefix}.{name}" if prefix else name, module._buffers, name)
            for prefix, module in self.model.named_modules(remove_duplicate=False)
            for name in module._buffers
        ]
        self._buffers: list[Tensor | None] = []
        self._copies: list[Tensor | None] = []
        self.random_state: dict[str, Any] = {}
        self.save()

    def save(self) -> None:
        """Save the present state."""
        self.random_state = get_random_state()
        before, self._buffers = self._buffers, [owner.get(name) for _, owner, name in self._places]
        if len(before) == len(self._buffers) and all(map(operator.is_, before, self._buffers)):
            _copy(self._copies, self._buffers)
        else:
            self._copies = [None if buffer is None else buffer.detach().clone() for buffer in self._buffers]

    def restore_buffers(self) -> None:
        """Set the buffers to the saved values, and put back those that the step has replaced."""
        _copy(self._buffers, self._copies)
        for (_, owner, name), buffer in zip(self._places, self._buffers, strict=True):
            owner[name] = buffer

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of the model with the saved values of the buffers."""
        state: dict[str, Tensor] = self.model.state_dict()
        saved = zip(self._places, self._copies, strict=True)
        return state | {key: copy for (key, _, _), copy in saved if copy is not None and key in state}


@torch.no_grad()
def _copy(targets: list[Tensor | None], sources: list[Tensor | None]) -> None:
    """Copy tensors; those of a dtype at once, as a GPU copies them in one kernel."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        if target is not None and source is not None:
            pair = by_dtype.setdefault(target.dtype, ([], []))
            pair[0].append(target)
            pair[1].append(source)
    for pair in by_dtype.values():
        torch._foreach_copy_(*pair)
