"""Whether a run may go on under a configuration that is not the one it was saved under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.layers import BATCH_NORMS

__all__ = ["Difference", "ResumeConflictError", "changes", "resume_conflicts"]

# What shapes the weights, what they mean, or the state of the optimizer; a new key of MODEL counts as such.
BINDING = ("MODEL.", "INPUT.FORMAT", "SOLVER.OPTIMIZER.NAME")
# What steers the training may change on the way, and the user should know; a new key of SOLVER counts as such.
STEERING = ("SOLVER.", "DATASETS.TRAIN", "INPUT.", "SEED")
STEERING_IN_MODEL = (
    *("MODEL.LOSS.", "MODEL.BUDGET.", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "MODEL.AUXILIARY_HEADS.LOSS_WEIGHT"),
    *("MODEL.BACKBONE.DROP_PROB", "MODEL.GATE.GATE_INIT_BIAS"),
)
# Where the run once started from, where and how it is computed, and what is saved when.
FREE = (
    *("MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.CHANNELS_LAST", "MODEL.COMPILE", "MODEL.ACTIVATION_CHECKPOINTING"),
    *("SOLVER.CHECKPOINT_", "SOLVER.BEST_METRIC"),
)
NORMS = ("MODEL.BACKBONE.NORM", "MODEL.SEM_SEG_HEAD.NORM")


@dataclass(frozen=True)
class Difference:
    """A key of the configuration whose value is not what it was."""

    key: str
    saved: Any
    present: Any

    def __str__(self) -> str:
        return f"{self.key} was {self.saved!r} in the checkpoint and is {self.present!r} now"


class ResumeConflictError(CheckpointError):
    """A checkpoint of another network, or of other classes; `differences` holds all of them."""

    def __init__(self, differences: Sequence[Difference], *, path: str) -> None:
        self.differences = tuple(differences)
        lines = "".join(f"  {difference}\n" for difference in differences)
        super().__init__(
            f"the run cannot go on from a checkpoint that contradicts its configuration; nothing was loaded.\n{lines}"
            f"Give the values of the checkpoint, or start a run of its own in another OUTPUT_DIR, with MODEL.WEIGHTS "
            f"where the weights fit. Received: path={path!r}"
        )


def resume_conflicts(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    """The keys that have to agree for a run to go on, and do not.

    A key that only one side has came or went with a version of the library, and is not compared.

    Args:
        saved: the whole configuration that the checkpoint was saved under, flat: "MODEL.GATE.GATE_ON" -> True.
        present: the one that the run would go on under, flat.
    """
    return [difference for difference in _differences(saved, present) if _binds(difference)]


def changes(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    """The keys that steer the training and changed, which a run may do; arguments as of `resume_conflicts`."""
    steering = (*STEERING, *STEERING_IN_MODEL, *NORMS)
    return [
        difference
        for difference in _differences(saved, present)
        if difference.key.startswith(steering) and not difference.key.startswith(FREE) and not _binds(difference)
    ]


def _differences(saved: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    return [Difference(key, saved[key], present[key]) for key in present if key in saved and saved[key] != present[key]]


def _binds(difference: Difference) -> bool:
    key = difference.key
    if key in NORMS and {difference.saved, difference.present} <= set(BATCH_NORMS):
        return False
    return key.startswith(BINDING) and not key.startswith((*FREE, *STEERING_IN_MODEL))
