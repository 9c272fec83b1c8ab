"""Saved training step with a non-finite loss or gradient: files in debug/, one per process, with all that it used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from dl_lib.checkpoint import CheckpointError
from dl_lib.checkpoint.files import read_checkpoint
from dl_lib.checkpoint.state_check import check_range, check_state, is_plain
from dl_lib.engine.training.random_state import check_random_state
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX

__all__ = ["MAIN_RANK", "SavedStep", "read_saved_step", "saved_ranks", "step_file"]

MAIN_RANK = 0  # its file holds the weights
_FILE = re.compile(rf"step_(\d{{7,12}})_rank(\d{{1,6}}){re.escape(CHECKPOINT_SUFFIX)}")
_MAX_ITERATION = 10**12
_MAX_PROCESSES = 10**6
_MAX_THREADS = 2**12
_WEIGHTS = "model"  # key of weights in checkpoint files
_STEP = "step"  # key of everything else


@dataclass(frozen=True, eq=False)
class SavedStep:
    """Training step of one process, before the optimizer has run.

    Attributes:
        weights: State dict of the model before the step, buffers included.
        iteration: Iteration of the step, from 0.
        max_iter: Iterations of the whole training.
        rank: Rank of the process.
        world_size: Number of processes.
        batches: Batches of the step as the loader returned them, several with gradient accumulation.
        random_state: State of all random generators before the forward pass, see `get_random_state`.
        values: Losses, gradient norm and logged values of this process, by name.
        precision: State of the loss scaling before the step; empty without.
        budget_weight: Weight of a budget loss with a target; None without one.
        threads: Threads of an operation on the CPU.
        device: Name of the device.
        versions: Library versions, by name.
        config: Config of the run, by full key.
    """

    weights: Mapping[str, Tensor]
    iteration: int
    max_iter: int
    rank: int
    world_size: int
    batches: list[list[dict[str, Any]]]
    random_state: dict[str, Any]
    values: dict[str, float]
    precision: dict[str, Any]
    budget_weight: float | None
    threads: int
    device: str
    versions: dict[str, str]
    config: dict[str, Any]

    def content(self) -> dict[str, Any]:
        """Return the content of the file of this process; only that of the main process holds the weights."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "weights"}
        return {**({_WEIGHTS: dict(self.weights)} if self.rank == MAIN_RANK else {}), _STEP: values}


def step_file(iteration: int, *, rank: int) -> str:
    """Return the name of the file of a process."""
    return f"step_{iteration:07d}_rank{rank}{CHECKPOINT_SUFFIX}"


def saved_ranks(folder: Path) -> dict[int, list[int]]:
    """Return the ranks with a file for each saved iteration in a folder, both in ascending order."""
    found: dict[int, list[int]] = {}
    names = (match for path in folder.glob(f"step_*{CHECKPOINT_SUFFIX}") if (match := _FILE.fullmatch(path.name)))
    for iteration, rank in sorted((int(match[1]), int(match[2])) for match in names):
        found.setdefault(iteration, []).append(rank)
    return found


def read_saved_step(folder: Path, *, iteration: int | None = None, rank: int = MAIN_RANK) -> SavedStep:
    """Read a saved step without executing code from its files.

    Args:
        folder: Folder of the files.
        iteration: Iteration of the step; None reads the last one.
        rank: Rank of the process.

    Raises:
        CheckpointError: If there is no such step, or a file is damaged.
    """
    found = saved_ranks(folder)
    if not found:
        raise CheckpointError(
            "no saved step; a run saves the last steps whose loss or gradient is not finite. "
            f"Received: folder={str(folder)!r}"
        )
    iteration = max(found) if iteration is None else iteration
    if iteration not in found:
        raise CheckpointError(f"--step must be one of {', '.join(map(str, found))}. Received: --step={iteration}")
    for needed in (rank, MAIN_RANK):
        if needed not in found[iteration]:
            raise CheckpointError(
                f"the file of rank {needed} is missing; step {iteration} has those of rank "
                f"{', '.join(map(str, found[iteration]))}, and that of rank {MAIN_RANK} holds the weights. "
                f"Received: --rank={rank}, folder={str(folder)!r}"
            )
    path = folder / step_file(iteration, rank=rank)
    content = read_checkpoint(path, requires_weights=rank == MAIN_RANK)
    weights = content if rank == MAIN_RANK else read_checkpoint(folder / step_file(iteration, rank=MAIN_RANK))
    try:
        step = SavedStep(weights=weights[_WEIGHTS], **content[_STEP])
        _check(step, iteration=iteration, rank=rank)
    except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(
            f"the file is damaged or not a saved step; replay another one ({type(error).__name__}: {error}). "
            f"Received: path={str(path)!r}"
        ) from None
    return step


def _check(step: SavedStep, *, iteration: int, rank: int) -> None:
    """Check types and ranges of a step that was read.

    Raises:
        LookupError, TypeError, ValueError, RuntimeError, OverflowError: If a value is invalid.
    """
    check_range(step.iteration, name="iteration", maximum=_MAX_ITERATION)
    check_range(step.max_iter, name="max_iter", maximum=_MAX_ITERATION)
    check_range(step.threads, name="threads", maximum=_MAX_THREADS)
    check_range(step.world_size, name="world_size", maximum=_MAX_PROCESSES)
    check_range(step.rank, name="rank", maximum=step.world_size - 1, limit="world_size - 1")
    if (step.iteration, step.rank) != (iteration, rank):
        raise ValueError(f"iteration and rank must be those of the name, but are {step.iteration} and {step.rank}")
    if step.iteration >= step.max_iter or not step.threads:
        raise ValueError("iteration must be below max_iter, and threads above 0")
    for name in ("config", "precision", "random_state", "values", "versions"):
        check_state(getattr(step, name), like={}, name=name)
    if not (is_plain(step.config) and is_plain(step.precision)):
        raise ValueError("config and precision must hold plain values")
    for text in (step.device, *step.config, *step.values, *step.versions, *step.versions.values()):
        if not (isinstance(text, str) and text.isprintable()):
            raise ValueError(f"device, versions, keys and names must be printable text, but one is {text!r:.40}")
    numbers = step.values if step.budget_weight is None else {**step.values, "budget_weight": step.budget_weight}
    for name, number in numbers.items():
        check_state(number, like=0.0, name=name)
        float(number)  # raises OverflowError for an integer beyond the range of floats
    check_random_state(step.random_state)
    _check_batches(step.batches)


def _check_batches(batches: Any) -> None:
    """Check that batches are lists of dicts of plain values and of tensors whose elements are in the file."""
    check_state(batches, like=[], name="batches")
    if not batches:
        raise ValueError("batches must not be empty")
    for batch in batches:
        check_state(batch, like=[], name="a batch")
        if not batch:
            raise ValueError("a batch must not be empty")
        for sample in batch:
            check_state(sample, like={}, name="a sample")
            for name, value in sample.items():
                is_stored = isinstance(value, Tensor) and value.nbytes <= value.untyped_storage().nbytes()
                if not (is_stored or is_plain(value)):
                    raise ValueError(f"{name} of a sample must be a plain value or a dense tensor")
