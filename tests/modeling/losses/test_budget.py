import json
from types import SimpleNamespace

import pytest
import torch

from dl_lib.modeling import BudgetConstraint
from dl_lib.modeling.losses.budget import SPREAD_WEIGHT, CostSpread
from tests.helpers.published import REFERENCE

BUDGET = BudgetConstraint(loss_weight=0.5, target_ratio=0.2, all_open_madds=100.0, start_rate=0.4, warm_up=True)


@pytest.mark.parametrize(("step_rate", "warm"), [(0.4, 0.0), (0.401, 0.05), (0.41, 0.5), (0.42, 1.0), (0.9, 1.0)])
def test_closed_form(step_rate, warm):
    expected = torch.tensor(70.0, dtype=torch.float64, requires_grad=True)
    loss = BUDGET(expected, step_rate=step_rate)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * warm * (0.7 - 0.2) ** 2)
    assert expected.grad.item() == pytest.approx(0.5 * warm * 2 * (0.7 - 0.2) / 100)


def test_is_active_from_start_rate():
    assert not BUDGET.is_active(0.3999)
    assert BUDGET.is_active(0.4)


def test_warm_up_of_the_published_schedule():
    rows = json.loads((REFERENCE / "solver" / "budget_warm_up.json").read_text())
    budget = BudgetConstraint(loss_weight=1.0, target_ratio=0.0, all_open_madds=1.0, start_rate=0.4, warm_up=True)
    for _iteration, step_rate, warm in rows:
        assert budget.is_active(step_rate) is (warm is not None)
        if warm is not None:
            assert budget(torch.tensor(1.0, dtype=torch.float64), step_rate=step_rate).item() == pytest.approx(warm)


@pytest.mark.parametrize("minimum", [0.05, 0.3])
def test_cost_spread_is_the_standard_deviation_that_is_missing(minimum):
    """Value and gradient against autograd through the standard deviation, which is 0.13 here."""
    costs = torch.tensor([40.0, 62.0, 71.0, 44.0], dtype=torch.float64, requires_grad=True)
    loss = CostSpread(minimum)(costs, table=SimpleNamespace(expected_all_open=100.0))
    expected = SPREAD_WEIGHT * torch.relu(minimum - (costs / 100).std(correction=0))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(*torch.autograd.grad(loss, costs), *torch.autograd.grad(expected, costs))


def test_equal_costs_have_a_finite_gradient():
    costs = torch.full((4,), 40.0, dtype=torch.float64, requires_grad=True)
    loss = CostSpread(0.1)(costs, table=SimpleNamespace(expected_all_open=100.0))
    (gradient,) = torch.autograd.grad(loss, costs)
    assert loss.item() == pytest.approx(0.1 * SPREAD_WEIGHT)
    assert gradient.tolist() == [0, 0, 0, 0]
