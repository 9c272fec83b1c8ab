"""Learning rates against those of the published code, and against what defines them."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.config import get_cfg
from dl_lib.solver import build_lr_scheduler, warmup_factor, warmup_poly_factor

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "solver" / "solver.json").read_text())["experiments"]
WITH_RATES = {name: values for name, values in REFERENCE.items() if "learning_rates" in values}


@pytest.mark.parametrize("name", WITH_RATES)
def test_published_learning_rates(name):
    published = WITH_RATES[name]
    for iteration, *rates in published["learning_rates"]:
        factor = warmup_poly_factor(
            iteration,
            max_iter=published["max_iter"],
            power=published["power"],
            warmup_iters=published["warmup_iters"],
            warmup_start=published["warmup_factor"],
        )
        assert [base * factor for base in published["base_lrs"]] == pytest.approx(rates, rel=1e-12, abs=0)


def test_scheduler_sets_the_published_rates_step_by_step():
    published = REFERENCE["Seg.Layer16.ImageNet"]
    cfg = get_cfg()  # the defaults are the published schedule
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in published["base_lrs"]]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    expected = {row[0]: row[1:] for row in published["learning_rates"] if row[0] <= 1001}
    for iteration in range(1002):
        if iteration in expected:
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == pytest.approx(expected[iteration], rel=1e-12, abs=0)
        optimizer.step()
        scheduler.step()


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.1, 3), st.integers(1, 10_000))
def test_factor_starts_at_the_warmup_and_ends_at_zero(warmup_iters, start, power, max_iter):
    def factor(iteration):
        return warmup_poly_factor(
            iteration, max_iter=max_iter, power=power, warmup_iters=warmup_iters, warmup_start=start
        )

    assert factor(0) == start
    assert factor(max_iter) == factor(max_iter + 7) == 0
    assert all(0 <= factor(iteration) <= 1 for iteration in range(0, max_iter, max(1, max_iter // 50)))


def test_warmup_is_a_straight_line():
    values = [warmup_factor(i, num_iterations=10, start=0.1) for i in range(12)]
    assert values == pytest.approx([0.1 + 0.09 * i for i in range(10)] + [1.0, 1.0], rel=1e-14)
    assert warmup_factor(0, num_iterations=0, start=0.1) == 1  # no warm-up at all


def test_resume_takes_the_present_schedule():
    """A saved scheduler restores how far it was, not the settings that it had: a run can be prolonged."""
    cfg = get_cfg()

    def build(max_iter):
        cfg.SOLVER.LR_SCHEDULER.MAX_ITER, cfg.SOLVER.LR_SCHEDULER.WARMUP_ITERS = max_iter, 0
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, build_lr_scheduler(cfg, optimizer)

    optimizer, scheduler = build(10)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    longer_optimizer, longer = build(100)
    longer.load_state_dict(scheduler.state_dict())
    longer_optimizer.step()
    longer.step()
    assert longer_optimizer.param_groups[0]["lr"] == pytest.approx((1 - 6 / 100) ** 0.9, rel=1e-12)


def test_unknown_schedule_names_the_known():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER.NAME = "PolyLr"
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(KeyError, match=r"PolyLR.*Received: SOLVER.LR_SCHEDULER.NAME='PolyLr'"):
        build_lr_scheduler(cfg, optimizer)
