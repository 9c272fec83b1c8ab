"""The best model so far, beside runs whose scores are given: whole ones, and some that are killed and go on."""

import pytest
import torch

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import ConfigError
from dl_lib.engine.hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer
from dl_lib.engine.training.trainer import Trainer
from tests.helpers.training import At, LeastSquares, batches_from

SCORES = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5, 10: 0.6, 12: 0.1}  # of an evaluation after so many iterations
METRIC = "toy/mIoU"


class Killed(Exception):
    pass


def killed(trainer):
    raise Killed


def train(folder, *, scores=SCORES, metric=METRIC, mode="max", extra=(), before_evaluation=()):
    """Trains up to iteration 12, saves at 4 and 8; goes on where the folder's run was."""
    model = LeastSquares()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, (), optimizer, max_iter=12)
    checkpointer = Checkpointer(model, folder, trainer=trainer, optimizer=optimizer)
    best = BestCheckpointer(checkpointer, metric=metric, mode=mode)
    evaluation = EvalHook(lambda: {METRIC: scores[trainer.iteration], "toy/pACC": 0.9}, period=2)
    trainer.hooks = [PeriodicCheckpointer(checkpointer, period=4), *before_evaluation, evaluation, best, *extra]
    checkpointer.resume_or_load("")
    trainer.loader = batches_from(trainer.iteration)
    trainer.train()


def best_in(folder):
    content = torch.load(folder / "model_best.pth", weights_only=True)
    assert content["iteration"] == content["trainer"]["iteration"] == content["best"]["iteration"]
    return content["best"], content["model"]["weight"]


@pytest.mark.parametrize(("mode", "iteration"), [("max", 10), ("min", 12)])
def test_the_best_of_all_evaluations_is_kept_with_its_value_and_weights(tmp_path, mode, iteration):
    weights = []
    keep = At(iteration, lambda trainer: weights.append(trainer.model.weight.detach().clone()))
    train(tmp_path, mode=mode, extra=[keep])
    record, weight = best_in(tmp_path)
    assert record == {"metric": METRIC, "value": SCORES[iteration], "iteration": iteration}
    assert torch.equal(weight, weights[0])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"  # what is gone on from is the last one


def test_an_equal_value_later_is_not_better(tmp_path):
    train(tmp_path, scores=dict.fromkeys(SCORES, 0.5))
    assert best_in(tmp_path)[0]["iteration"] == 2


@pytest.mark.parametrize(
    ("where", "at"),
    [("extra", 4), ("extra", 5), ("extra", 8), ("extra", 10), ("before_evaluation", 6), ("before_evaluation", 10)],
)
@pytest.mark.parametrize("best_at", [2, 4, 6, 8, 10])
def test_a_killed_run_that_goes_on_ends_with_the_same_best(tmp_path, best_at, where, at):
    """Wherever the best one was met: before the checkpoint, after it, or at the very iteration."""
    scores = {**SCORES, best_at: 0.8}
    with pytest.raises(Killed):
        train(tmp_path / "parts", scores=scores, **{where: [At(at, killed)]})
    train(tmp_path / "parts", scores=scores)
    train(tmp_path / "whole", scores=scores)
    record, weight = best_in(tmp_path / "parts")
    assert record == best_in(tmp_path / "whole")[0]
    assert torch.equal(weight, best_in(tmp_path / "whole")[1])


def test_a_run_that_went_back_does_not_replace_it_by_a_worse_one(tmp_path):
    train(tmp_path, scores={**SCORES, 10: 0.9})
    (tmp_path / "last_checkpoint").write_text("model_0000008.pth")
    train(tmp_path, scores={**SCORES, 10: 0.6})  # as under other settings
    assert best_in(tmp_path)[0] == {"metric": METRIC, "value": 0.9, "iteration": 10}


def test_a_new_run_in_the_folder_of_another_one_has_a_best_of_its_own(tmp_path):
    train(tmp_path, scores=dict.fromkeys(SCORES, 0.9))
    Checkpointer(LeastSquares(), tmp_path).archive_earlier_run()
    with pytest.raises(Killed):
        train(tmp_path, before_evaluation=[At(5, killed)])
    assert best_in(tmp_path)[0]["value"] == 0.5
    train(tmp_path)
    assert best_in(tmp_path)[0]["value"] == 0.6


@pytest.mark.parametrize("metric", ["toy/pACC", "toy/mIoU"])
def test_another_metric_starts_from_nothing(tmp_path, metric):
    with pytest.raises(Killed):
        train(tmp_path, scores={**SCORES, 2: 0.99}, extra=[At(5, killed)])
    train(tmp_path, scores={**SCORES, 2: 0.99}, metric=metric)
    record = best_in(tmp_path)[0]
    assert record["metric"] == metric
    assert (record["iteration"] == 2) is (metric == METRIC)  # the other metric's first value comes after it


def test_a_damaged_file_is_written_anew_when_there_is_a_better_value(tmp_path, caplog):
    with pytest.raises(Killed):
        train(tmp_path, extra=[At(9, killed)])
    (tmp_path / "model_best.pth").write_bytes(b"")
    train(tmp_path)
    assert "Skipped invalid checkpoint model_best.pth" in caplog.text
    assert best_in(tmp_path)[0]["iteration"] == 10


def test_an_unknown_name_is_an_error_at_the_first_evaluation_that_lists_the_scores(tmp_path):
    with pytest.raises(ConfigError, match=r"existing: toy/mIoU, toy/pACC\. Received: SOLVER\.BEST_METRIC='loss'"):
        train(tmp_path, metric="loss")
    with pytest.raises(ConfigError, match="nearest: toy/mIoU"):
        train(tmp_path, metric="toy/mIou")
    assert not (tmp_path / "model_0000004.pth").exists()  # evaluated at 2


def test_a_value_that_is_no_number_is_passed_by(tmp_path):
    train(tmp_path, scores={**SCORES, 10: float("nan")})
    assert best_in(tmp_path)[0]["iteration"] == 4
