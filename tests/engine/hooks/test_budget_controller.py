"""Control of the weight of a budget in runs of the least-squares model."""

import math

import pytest

from dl_lib.config.declarations import KEYS
from dl_lib.engine.hooks import BudgetController, Hook
from dl_lib.engine.training.non_finite import NonFinitePolicy
from tests.helpers.training import WithBudget, captured_log, make_batch, plain_trainer, repeat_batch


def controlled(*, max_iter, model=None, **settings):
    model = model or WithBudget()
    trainer = plain_trainer(max_iter=max_iter, model=model, hooks=[BudgetController(model.budget)], **settings)
    return trainer, trainer.hooks[0]


def test_cost_reaches_the_target_and_is_recorded():
    trainer, hook = controlled(max_iter=300, lr=0.05, model=WithBudget(target=0.55), loader=repeat_batch(make_batch(3)))
    with captured_log("hooks.budget_controller") as messages:
        trainer.train()
    events = trainer.events
    assert events.latest("budget_mean_cost") == pytest.approx(0.55, rel=0.005) and not messages
    assert events.latest("budget_error") == pytest.approx(events.latest("budget_mean_cost") / 0.55 - 1)
    assert events.latest("budget_weight") == hook.state_dict()["weight"] == trainer.model.budget.weight > 0
    assert "budget_weight" in events.summary(after=299)


def test_missed_target_is_one_warning_with_the_reachable_range():
    trainer, _ = controlled(max_iter=300, lr=1e-6)
    with captured_log("hooks.budget_controller") as messages:
        trainer.train()
    (message,) = messages
    assert "the weight of its loss is at its limit of ±10" in message and trainer.model.budget.weight == 10
    assert "weight in [-10, 10]" in KEYS["MODEL.BUDGET.CONTROL"].doc
    assert "instead of MODEL.BUDGET.TARGET=0.3 (ratio, +" in message and "costs 0 and 1." in message


def test_weight_is_zero_before_the_start():
    trainer, _ = controlled(max_iter=10, model=WithBudget(start_rate=0.55))
    trainer.hooks.append(Weights())
    trainer.train()
    assert [weight != 0 for weight in trainer.hooks[1].weights] == [False] * 6 + [True] * 4


class Weights(Hook):
    """Records the weight of each step."""

    def __init__(self):
        self.weights = []

    def before_step(self, trainer):
        self.weights.append(trainer.model.budget.weight)


class Undefined(WithBudget):
    """Model whose cost and loss are NaN in the third step."""

    def forward(self, batched_inputs, step_rate=0.0):
        losses, logged = super().forward(batched_inputs, step_rate)
        factor = math.nan if len(self.step_rates) == 3 else 1.0
        return {k: v * factor for k, v in losses.items()}, {**logged, "budget_cost": logged["budget_cost"] * factor}


def test_skipped_step_does_not_change_the_weight():
    trainer, hook = controlled(max_iter=4, model=Undefined(), non_finite=NonFinitePolicy(1))
    trainer.hooks.append(Weights())
    trainer.train()
    weights = [*trainer.hooks[1].weights, trainer.model.budget.weight]
    assert weights[2] == weights[3] != weights[4] and weights[1] != weights[2]
    assert all(map(math.isfinite, weights)) and math.isfinite(hook.state_dict()["mean"])


def test_state_of_another_unit_is_ignored():
    trainer, hook = controlled(max_iter=3)
    trainer.train()
    same, other = (BudgetController(WithBudget().budget) for _ in range(2))
    same.load_state_dict(hook.state_dict())
    assert same.state_dict() == hook.state_dict() and same._budget.weight == trainer.model.budget.weight
    other.load_state_dict({**hook.state_dict(), "unit": "gflops"})
    assert other.state_dict() == {} and other._budget.weight == 0


def test_checkpoint_before_the_first_cost_has_no_state():
    """A step with a cost that is not finite may come first."""
    trainer, _ = controlled(max_iter=3)
    trainer.gather_state()
    assert "BudgetController" not in trainer.state_dict()["hooks"]
