"""Checkpoints with a valid checksum and values that no run has written: an error that names the value."""

import copy
import math

import pytest
import torch

from dl_lib.checkpoint import CheckpointError, checkpointer
from dl_lib.checkpoint.files import save_checkpoint
from tests.helpers.small_run import DATASET, make_trainer
from tests.helpers.training import restore_logging

OVERRIDES = [
    *("SOLVER.LR_SCHEDULER.MAX_ITER", 3, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.ACCUMULATION_STEPS", 1),
    *("SOLVER.EARLY_STOPPING.METRIC", f"{DATASET}/mIoU", "TEST.PRECISE_BN.ENABLED", False, "TEST.EVAL_PERIOD", 2),
    *("SOLVER.CHECKPOINT_PERIOD", 0),
]
FIELDS = {
    ("trainer",): [[1], "text", torch.zeros(3)],
    ("trainer", "iteration"): [-5, 10**12, 4, "3", 3.0, True, None, [3]],
    ("trainer", "samples"): [-1, 2**60, "6", None, 1.5],
    ("trainer", "skipped_steps"): [-1, 10**12, "0", {}],
    ("trainer", "hooks_done"): ["EvalHook", {"EvalHook": 1}, [[1]], [1], 7],
    ("trainer", "hooks"): [[], "text", 1],
    ("trainer", "hooks", "PeriodicWriter"): [[], 3, "text"],
    ("trainer", "hooks", "PeriodicWriter", "written_up_to"): ["3", [3], {}],
    ("trainer", "hooks", "EarlyStopping", "best"): ["0.5", [0.5], torch.zeros(3)],
    ("trainer", "hooks", "EarlyStopping", "without_improvement"): ["1", {}, True, None],
    ("trainer", "hooks", "BudgetController", "integral"): ["1", [1], None, math.nan, math.inf],
    ("trainer", "versions"): [[], "text", 1],
    ("trainer", "random_states"): [{}, "text", 1, [[]], ["text"]],
    ("trainer", "random_states", 0, "torch"): ["text", torch.zeros(3), torch.zeros(3, dtype=torch.uint8)],
    ("trainer", "random_states", 0, "python"): ["text", (3, (1, 2), None), (3, ("a",) * 625, None), 1],
    ("trainer", "random_states", 0, "numpy", "state", "pos"): [-1, 10**12, 625, "1", 1.5],
    ("trainer", "random_states", 0, "numpy", "state", "key"): [torch.zeros(3), "text", [1]],
    ("trainer", "random_states", 0, "numpy", "bit_generator"): ["PCG64", 1],
    ("trainer", "events"): [[], "text"],
    ("trainer", "events", "kinds"): [[], {}],
    ("trainer", "events", "values", "total_loss"): [{}, "abc", [1.0], ["a", "b", "c"], [[1], [2], [3]], [1e999] * 3],
    ("trainer", "events", "iterations", "total_loss"): [[1, 2, 10**12], [-1, 2, 3], [1], "abc", 3],
    ("optimizer",): [[], "text", {}, {"state": {}}],
    ("optimizer", "state"): [[], "text", {0: "text"}, {0: {"momentum_buffer": "text"}}, {10**9: {}}, {"a": {}}],
    ("optimizer", "state", 0, "momentum_buffer"): [torch.zeros(7), torch.tensor(0.5), "text", [1.0], 0.5],
    ("optimizer", "param_groups"): [{}, "text", [], ["text"]],
    ("optimizer", "param_groups", 0, "fused"): [10**30, torch.zeros(3)],
    ("optimizer", "param_groups", 0, "params"): [[], "text", ["a"], 1],
    ("scheduler",): [[], "text"],
    ("scheduler", "last_epoch"): ["3", [3], 10**12, -1, 2, 1.5],
    ("scheduler", "base_lrs"): ["text", {}, ["a"], [], [0.1] * 99],
    ("ema",): [[], "text", {}],
    ("ema", "weights"): [[], "text", {}, {"a": torch.zeros(1)}, {"a": "text"}],
    ("ema", "updates"): ["3", [3], {}],
    ("config",): [[], "text", 1, {"MODEL.BACKBONE.NORM": torch.zeros(3)}],
}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with restore_logging():
        make_trainer(folder, OVERRIDES).train()
        yield make_trainer(folder, OVERRIDES)


@pytest.fixture(scope="module")
def content(trainer):
    return torch.load(f"{trainer.cfg.OUTPUT_DIR}/model_final.pth", weights_only=True)


def replaced(values, path, value):
    """Return a copy with another value at a path of keys and indices."""
    if not path:
        return value
    changed = list(values) if isinstance(values, (list, tuple)) else dict(values)
    changed[path[0]] = replaced(values[path[0]], path[1:], value)
    return changed


@pytest.fixture
def resume(trainer, monkeypatch):
    """Return a function that resumes from the content of a file, without writing it."""

    def resume_from(content):
        read = {**content, "model": dict(content["model"])}
        monkeypatch.setattr(checkpointer, "find_newest", lambda folder: ("model_final.pth", read))
        trainer.resume_or_load(resume=True)

    return resume_from


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_values_of_wrong_type_or_range_are_errors(resume, content, path):
    resume(content)
    for value in FIELDS[path]:
        with pytest.raises(CheckpointError, match=rf"(?s)checkpoint's .*{path[0]}.*Received: "):
            resume(replaced(content, path, value))
            pytest.fail(f"accepted {value!r:.80}")


def test_settings_of_the_optimizer_that_were_not_saved_keep_their_values(resume, trainer, content):
    """A version of torch may add settings."""
    group = trainer.optimizer.param_groups[0]
    before = group["nesterov"]
    saved = [{k: v for k, v in group.items() if k != "nesterov"} for group in content["optimizer"]["param_groups"]]
    resume(replaced(content, ("optimizer", "param_groups"), saved))
    assert trainer.optimizer.param_groups[0]["nesterov"] is before


@pytest.mark.parametrize("part", ["model", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_errors(resume, content, part, value):
    damaged = copy.deepcopy(content)
    weights = damaged["model"] if part == "model" else damaged["ema"]["weights"]
    name = next(key for key, weight in weights.items() if weight.is_floating_point())
    weights[name][(0,) * weights[name].ndim] = value
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        resume(damaged)


VALID_BEST = {"metric": f"{DATASET}/mIoU", "value": 0.5, "iteration": 1}


@pytest.mark.parametrize("best", ["text", [1], {**VALID_BEST, "value": "high"}, None, VALID_BEST])
def test_best_value_of_wrong_type_is_ignored(content, best, tmp_path):
    with restore_logging():
        resumed = make_trainer(tmp_path, OVERRIDES)
    save_checkpoint({**content, "best": best}, tmp_path / "model_best.pth")
    hook = next(hook for hook in resumed.hooks if type(hook).__name__ == "BestCheckpointer")
    resumed.events.iteration = 1
    hook.before_train(resumed)
    assert hook._best == (best if best is VALID_BEST else {})
