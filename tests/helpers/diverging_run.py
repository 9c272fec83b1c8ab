"""Small run that diverges: its saved steps, one of them finite."""

from unittest.mock import patch

import pytest
import torch

from dl_lib.engine.training.non_finite import NonFiniteLossError, is_finite
from dl_lib.utils import comm
from tests.helpers.small_run import make_trainer
from tests.helpers.training import At

FINITE_STEP, STEP = 2, 3  # saved although it is finite; the weights of a layer are huge
LAYER = "sem_seg_head.predictor"
OVERRIDES = [
    "TEST.EVAL_PERIOD",
    0,
    "SOLVER.NON_FINITE",
    "skip",
    "SOLVER.MAX_NON_FINITE",
    1,
    "MODEL.BUDGET.UNUPDATE_RATE",
    0.0,
]


def diverge(folder):
    """Train a small run with drop path, accumulation and a controlled budget, and save two of its steps."""
    trainer = make_trainer(folder, OVERRIDES)
    layer = comm.unwrap(trainer.model).get_submodule(LAYER)

    def spoil(trainer):
        with torch.no_grad():
            layer.weight.mul_(1e38)

    def is_accepted(scalars, *, overflows):
        return trainer.iteration != FINITE_STEP and is_finite(scalars, overflows=overflows)

    trainer.hooks.append(At(STEP, spoil))
    with patch("dl_lib.engine.training.trainer.is_finite", is_accepted), pytest.raises(NonFiniteLossError):
        trainer.train()
