"""State before a training step: buffers and random state, which its forward pass changes."""

from __future__ import annotations

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
        model: Model on its device; its buffers keep their shapes.

    Attributes:
        model: Model without a parallel wrapper.
        random_state: See `get_random_state`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = comm.unwrap(model)
        self._owners = [  # dict of a module's buffers, and names in it
            (module._buffers, [name for name, buffer in module._buffers.items() if buffer is not None])
            for module in self.model.modules()
        ]
        self._copies = [torch.empty_like(buffer) for buffer in self._buffers()]
        self.random_state: dict[str, Any] = {}
        self.save()

    def save(self) -> None:
        """Save the present state."""
        self.random_state = get_random_state()
        _copy(self._copies, self._buffers())

    def restore_buffers(self) -> None:
        """Set the buffers to the saved values."""
        _copy(self._buffers(), self._copies)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state dict of the model with the saved values of the buffers."""
        saved = dict(zip(map(id, self._buffers()), self._copies, strict=True))
        state = self.model.state_dict(keep_vars=True)  # the buffers themselves
        return {name: saved.get(id(values), values.detach()) for name, values in state.items()}

    def _buffers(self) -> list[Tensor]:
        buffers = (owner[name] for owner, names in self._owners for name in names)
        return [buffer for buffer in buffers if buffer is not None]


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors; those of a dtype at once, as a GPU copies them in one kernel."""
    by_dtype: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        pair = by_dtype.setdefault(target.dtype, ([], []))
        pair[0].append(target)
        pair[1].append(source)
    for pair in by_dtype.values():
        torch._foreach_copy_(*pair)
