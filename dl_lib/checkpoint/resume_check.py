"""Compatibility of a checkpoint's configuration with that of the resuming run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.layers import BATCH_NORMS

__all__ = ["Difference", "ResumeConflictError", "resume_changes", "resume_conflicts"]

# Keys that determine the weights, their meaning or the optimizer state; unknown keys of MODEL belong here.
BINDING = ("MODEL.", "INPUT.FORMAT", "SOLVER.OPTIMIZER.NAME")
# Keys that steer training and may change with a warning; unknown keys of SOLVER belong here.
TRAINING = ("SOLVER.", "DATASETS.TRAIN", "DATASETS.FOLDERS", "INPUT.", "SEED", "EXTRA_HOOKS")
TRAINING_IN_MODEL = (
    *("MODEL.LOSS.", "MODEL.BUDGET.", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.AUXILIARY_HEADS.LOSS_WEIGHT"),
    *("MODEL.BACKBONE.DROP_PROB", "MODEL.GATE.GATE_INIT_BIAS"),
    *("MODEL.DEVICE", "MODEL.COMPILE", "MODEL.CHANNELS_LAST"),  # other rounding: resuming is not bit-exact
)
# Keys without influence on a resumed run's results: initial weights, activation memory, checkpoint schedule.
FREE = (
    *("MODEL.WEIGHTS", "MODEL.ALLOW_MISSING_KEYS", "MODEL.ALLOW_UNEXPECTED_KEYS"),
    *("MODEL.ACTIVATION_CHECKPOINTING", "SOLVER.CHECKPOINT_", "SOLVER.BEST_METRIC"),
)
NORMS = ("MODEL.BACKBONE.NORM", "MODEL.SEM_SEG_HEAD.NORM")


@dataclass(frozen=True)
class Difference:
    """Config key whose value differs between the checkpoint and the run."""

    key: str
    saved: Any
    present: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.saved!r} in the checkpoint and is {self.present!r} now"


class ResumeConflictError(CheckpointError):
    """Checkpoint of a different network or different classes."""

    def __init__(self, differences: Sequence[Difference], *, path: str) -> None:
        self.differences = tuple(differences)
        lines = "".join(f"  {difference}\n" for difference in differences)
        super().__init__(
            f"cannot resume: the checkpoint conflicts with the configuration; nothing was loaded.\n{lines}"
            f"Restore the values of the checkpoint, or start a new run in another OUTPUT_DIR, with MODEL.WEIGHTS if "
            f"the weights are compatible. Received: path={path!r}"
        )


def resume_conflicts(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    """Return the differences that prevent resuming.

    The configurations of checkpoint and run are flat, such as {"MODEL.GATE.GATE_ON": True}. Keys that exist on one side
    only were added or removed by a version of the library and are not compared.
    """
    return [difference for difference in _differences(saved, present) if _is_binding(difference)]


def resume_changes(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    """Return the permitted differences that affect training."""
    training = (*TRAINING, *TRAINING_IN_MODEL, *NORMS)
    return [
        difference
        for difference in _differences(saved, present)
        if difference.key.startswith(training) and not difference.key.startswith(FREE) and not _is_binding(difference)
    ]


def _differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    return [Difference(key, saved[key], present[key]) for key in present if key in saved and saved[key] != present[key]]


def _is_binding(difference: Difference) -> bool:
    key = difference.key
    if key in NORMS and difference.saved in BATCH_NORMS and difference.present in BATCH_NORMS:
        return False
    return key.startswith(BINDING) and not key.startswith((*FREE, *TRAINING_IN_MODEL))
