"""Files of the last steps with a non-finite loss or gradient, for `dl_lib replay`."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dl_lib.checkpoint.checksums import checksum_path
from dl_lib.checkpoint.files import save_checkpoint
from dl_lib.engine.training.saved_step import MAIN_RANK, SavedStep, saved_ranks, step_file
from dl_lib.engine.training.step_state import StateBeforeStep
from dl_lib.engine.training.train_step import Batch
from dl_lib.modeling.losses.budget import TargetBudget
from dl_lib.utils import comm
from dl_lib.utils.device_name import device_name
from dl_lib.utils.environment import library_versions
from dl_lib.utils.run_files import DEBUG_NAME

__all__ = ["KEPT_STEPS", "DebugFiles", "ExecutedStep"]

KEPT_STEPS = 2
_MAX_BATCH_BYTES = 2**30  # of a process, far more than a batch that fits a GPU

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ExecutedStep:
    """Forward and backward pass of one process, before the optimizer runs; attributes as in `SavedStep`.

    Attributes:
        before: State before the forward pass.
    """

    before: StateBeforeStep
    iteration: int
    max_iter: int
    batches: Sequence[Batch]
    values: Mapping[str, float]
    precision: Mapping[str, Any]


class DebugFiles:
    """Files of the last steps with a non-finite loss or gradient, in the subfolder debug/ of a run folder.

    Each process writes its own file, and removes its files of older steps.

    Args:
        run_folder: Run folder.
        config: Config of the run, by full key.
    """

    def __init__(self, run_folder: Path, *, config: Mapping[str, Any]) -> None:
        self._run_folder = run_folder
        self._folder = run_folder / DEBUG_NAME
        self._config = dict(config)

    def save(self, step: ExecutedStep) -> None:
        """Save a step; every process must call it. A failure is a warning: the run has another problem to report."""
        rank = comm.get_rank()
        path = self._folder / step_file(step.iteration, rank=rank)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(step.iteration)
            save_checkpoint(self._saved(step).content(), path)
        except Exception as error:
            _log.warning("Failed to save step %d for dl_lib replay: %s", step.iteration, error)
        else:
            if rank == MAIN_RANK:
                command = shlex.join(["dl_lib", "replay", str(self._run_folder)])
                _log.warning("Saved step %d in %s; show its layers with: %s", step.iteration, self._folder, command)
        comm.synchronize()  # an error in the first process to exit ends the others, which may still be writing

    def _saved(self, step: ExecutedStep) -> SavedStep:
        model = step.before.model
        budget = getattr(model, "budget", None)
        return SavedStep(
            weights=step.before.state_dict(),
            iteration=step.iteration,
            max_iter=step.max_iter,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
            batches=_stored(step.batches),
            random_state=step.before.random_state,
            values=dict(step.values),
            precision=dict(step.precision),
            budget_weight=budget.weight if isinstance(budget, TargetBudget) else None,
            threads=torch.get_num_threads(),
            device=device_name(next(model.parameters()).device),
            versions=library_versions(),
            config=self._config,
        )

    def _make_room(self, iteration: int) -> None:
        """Remove old files of this process and of ranks that no longer exist, and those of steps before a resume."""
        found = saved_ranks(self._folder)
        kept = [earlier for earlier in found if earlier < iteration][-(KEPT_STEPS - 1) :]
        for other, ranks in found.items():
            for rank in ranks:
                if other not in (*kept, iteration) and rank % comm.get_world_size() == comm.get_rank():
                    path = self._folder / step_file(other, rank=rank)
                    path.unlink(missing_ok=True)
                    Path(checksum_path(str(path))).unlink(missing_ok=True)


def _stored(batches: Sequence[Batch]) -> list[list[dict[str, Any]]]:
    """Return batches on the CPU, without the rest of storages of which tensors are a part.

    Raises:
        ValueError: If they are too large.
    """
    tensors = [value for batch in batches for sample in batch for value in sample.values() if isinstance(value, Tensor)]
    size = sum(tensor.nbytes for tensor in tensors)
    if size > _MAX_BATCH_BYTES:
        raise ValueError(f"the batch must have at most {_MAX_BATCH_BYTES:,} bytes. Received: {size:,} bytes")
    return [[{name: _own(value) for name, value in sample.items()} for sample in batch] for batch in batches]


def _own(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
