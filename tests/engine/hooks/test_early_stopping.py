"""Iteration at which early stopping ends training, also for killed and resumed runs."""

import pytest
import torch

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import ConfigError
from dl_lib.engine.hooks import EarlyStopping, EvalHook, PeriodicCheckpointer
from dl_lib.engine.training.trainer import Trainer
from tests.helpers.training import At, LeastSquares, batches_from

METRIC = "val/mIoU"
SCORES = {2: 0.3, 4: 0.5, 6: 0.5, 8: 0.55, 10: 0.4, 12: 0.6, 14: 0.7}


class Killed(Exception):
    """Abrupt end of a run."""


def train(folder, *, scores=SCORES, extra=(), metric=METRIC, evaluated=None, **settings):
    """Train up to iteration 14 with an evaluation every 2 and a checkpoint every 3 iterations; resume if possible."""
    evaluated = [] if evaluated is None else evaluated

    def evaluate():
        evaluated.append(trainer.iteration)
        return {METRIC: scores[trainer.iteration], "val/pACC": 0.9}

    model = LeastSquares()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, (), optimizer, max_iter=14)
    checkpointer = Checkpointer(model, folder, trainer=trainer, optimizer=optimizer)
    stopping = EarlyStopping(metric=metric, **{"mode": "max", "patience": 2, "min_delta": 0.0, **settings})
    evaluation = EvalHook(evaluate, period=2)
    trainer.hooks = [PeriodicCheckpointer(checkpointer, period=3), evaluation, stopping, *extra]
    checkpointer.resume_or_load("")
    trainer.loader = batches_from(trainer.iteration)
    trainer.train()
    return trainer.iteration


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        ({}, 14),  # no improvement at 6 and at 10, but never twice in a row
        ({"patience": 1}, 6),
        ({"min_delta": 0.1}, 8),  # 0.55 exceeds 0.5 by less than 0.1
        ({"mode": "min"}, 6),
        ({"mode": "min", "patience": 5}, 12),
    ],
)
def test_training_ends_when_the_patience_is_exhausted(tmp_path, settings, end):
    evaluated = []
    assert train(tmp_path, evaluated=evaluated, **settings) == end
    assert evaluated == list(range(2, end + 1, 2))  # the last evaluation is not repeated
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == end


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_killed_and_resumed_run_ends_at_the_same_iteration(tmp_path, at):
    def killed(trainer):
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path, min_delta=0.1, extra=[At(at, killed)])
    assert train(tmp_path, min_delta=0.1) == 8


def test_stopped_run_continues_only_with_more_patience_or_another_metric(tmp_path):
    assert train(tmp_path, patience=1) == 6
    assert train(tmp_path, patience=1) == 6
    assert train(tmp_path, patience=2) == 14
    assert train(tmp_path / "other", patience=1) == 6
    assert train(tmp_path / "other", patience=1, metric="val/pACC") == 10  # first evaluated at 8


def test_nan_is_ignored(tmp_path):
    assert train(tmp_path, scores={**SCORES, 6: float("nan"), 8: 0.1}, patience=2) == 10


def test_unknown_metric_is_rejected_at_the_first_evaluation(tmp_path):
    with pytest.raises(ConfigError, match=r"nearest: val/mIoU\. Received: SOLVER\.EARLY_STOPPING\.METRIC='val/miou_'"):
        train(tmp_path, metric="val/miou_")
