"""Best checkpoint of runs with given scores: uninterrupted runs, and killed runs that are resumed."""

import pytest
import torch

from dl_lib.checkpoint import Checkpointer
from dl_lib.checkpoint.earlier_run import archive_earlier_run
from dl_lib.config import ConfigError
from dl_lib.engine.hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer
from dl_lib.engine.training.trainer import Trainer
from tests.helpers.training import At, LeastSquares, batches_from

SCORES = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.6, 12: 0.1}  # evaluation result at each iteration
METRIC = "val/mIoU"


class Killed(Exception):
    """Abrupt end of a run."""


def kill(trainer):
    raise Killed


def train(folder, *, scores=SCORES, metric=METRIC, mode="max", extra=(), before_evaluation=()):
    """Train up to iteration 12 with checkpoints at 4 and 8, from the last checkpoint in the folder if there is one."""
    model = LeastSquares()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, (), optimizer, max_iter=12)
    checkpointer = Checkpointer(model, folder, trainer=trainer, optimizer=optimizer)
    best = BestCheckpointer(checkpointer, metric=metric, mode=mode)
    evaluation = EvalHook(lambda: {METRIC: scores[trainer.iteration], "val/pACC": 0.9}, period=2)
    trainer.hooks = [PeriodicCheckpointer(checkpointer, period=4), *before_evaluation, evaluation, best, *extra]
    checkpointer.resume_or_load("")
    trainer.loader = batches_from(trainer.iteration)
    trainer.train()


def best_in(folder):
    content = torch.load(folder / "model_best.pth", weights_only=True)
    assert content["iteration"] == content["trainer"]["iteration"] == content["best"]["iteration"]
    return content["best"], content["model"]["weight"]


@pytest.mark.parametrize(("mode", "iteration"), [("max", 10), ("min", 12)])
def test_best_evaluation_is_saved_with_its_value_and_weights(tmp_path, mode, iteration):
    weights = []
    keep = At(iteration, lambda trainer: weights.append(trainer.model.weight.detach().clone()))
    train(tmp_path, mode=mode, extra=[keep])
    record, weight = best_in(tmp_path)
    assert record == {"metric": METRIC, "value": SCORES[iteration], "iteration": iteration}
    assert torch.equal(weight, weights[0])
    # A run resumes from the last checkpoint, not from the best.
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_equal_value_is_not_better(tmp_path):
    train(tmp_path, scores=dict.fromkeys(SCORES, 0.5))
    assert best_in(tmp_path)[0]["iteration"] == 2


@pytest.mark.parametrize(
    ("where", "at"),
    [("extra", 4), ("extra", 5), ("extra", 8), ("extra", 10), ("before_evaluation", 6), ("before_evaluation", 10)],
)
@pytest.mark.parametrize("best_at", [2, 4, 6, 8, 10])
def test_killed_and_resumed_run_has_the_same_best_checkpoint(tmp_path, best_at, where, at):
    """The best evaluation is before, after or at the checkpoint that the run resumes from."""
    scores = {**SCORES, best_at: 0.8}
    with pytest.raises(Killed):
        train(tmp_path / "parts", scores=scores, **{where: [At(at, kill)]})
    train(tmp_path / "parts", scores=scores)
    train(tmp_path / "whole", scores=scores)
    record, weight = best_in(tmp_path / "parts")
    assert record == best_in(tmp_path / "whole")[0]
    assert torch.equal(weight, best_in(tmp_path / "whole")[1])


def test_run_resumed_from_an_older_checkpoint_keeps_the_better_file(tmp_path):
    train(tmp_path, scores={**SCORES, 10: 0.9})
    (tmp_path / "last_checkpoint").write_text("model_0000008.pth")
    train(tmp_path, scores={**SCORES, 10: 0.6})  # as with a changed config
    assert best_in(tmp_path)[0] == {"metric": METRIC, "value": 0.9, "iteration": 10}


def test_new_run_in_the_folder_of_an_earlier_run_has_its_own_best(tmp_path):
    train(tmp_path, scores=dict.fromkeys(SCORES, 0.9))
    archive_earlier_run(tmp_path)
    with pytest.raises(Killed):
        train(tmp_path, before_evaluation=[At(5, kill)])
    assert best_in(tmp_path)[0]["value"] == 0.5
    train(tmp_path)
    assert best_in(tmp_path)[0]["value"] == 0.6


@pytest.mark.parametrize("metric", ["val/pACC", "val/mIoU"])
def test_another_metric_starts_without_a_best_value(tmp_path, metric):
    with pytest.raises(Killed):
        train(tmp_path, scores={**SCORES, 2: 0.99}, extra=[At(5, kill)])
    train(tmp_path, scores={**SCORES, 2: 0.99}, metric=metric)
    record = best_in(tmp_path)[0]
    assert record["metric"] == metric
    assert (record["iteration"] == 2) is (metric == METRIC)  # the other metric is first evaluated later


def test_damaged_file_is_replaced_by_the_next_better_value(tmp_path, caplog):
    with pytest.raises(Killed):
        train(tmp_path, extra=[At(9, kill)])
    (tmp_path / "model_best.pth").write_bytes(b"")
    train(tmp_path)
    assert "Skipped invalid checkpoint model_best.pth" in caplog.text
    assert best_in(tmp_path)[0]["iteration"] == 10


def test_unknown_metric_is_rejected_at_the_first_evaluation(tmp_path):
    with pytest.raises(ConfigError, match=r"available: val/mIoU, val/pACC\. Received: SOLVER\.BEST_METRIC='loss'"):
        train(tmp_path, metric="loss")
    with pytest.raises(ConfigError, match="nearest: val/mIoU"):
        train(tmp_path, metric="val/mIou")
    assert not (tmp_path / "model_0000004.pth").exists()  # evaluated at 2


def test_nan_is_ignored(tmp_path):
    train(tmp_path, scores={**SCORES, 10: float("nan")})
    assert best_in(tmp_path)[0]["iteration"] == 4
