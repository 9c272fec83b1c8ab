"""Learning rate schedules compared with the published code, torch and closed forms."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.config import get_cfg
from dl_lib.solver import (
    build_lr_scheduler,
    multi_step_factor,
    one_cycle_factor,
    scheduled_factor,
    warmup_factor,
)

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "solver" / "solver.json").read_text())["experiments"]
PUBLISHED = {name: values for name, values in REFERENCE.items() if "learning_rates" in values}
NO_WARMUP = {"WARMUP_ITERS": 0}


def settings_of(published):
    return {
        "MAX_ITER": published["max_iter"],
        "POLY_POWER": published["power"],
        "WARMUP_ITERS": published["warmup_iters"],
        "WARMUP_FACTOR": published["warmup_factor"],
    }


def scheduled(*, rates=(1.0,), **settings):
    """Return an optimizer with one group per rate, and its scheduler."""
    cfg = get_cfg()
    cfg.merge_from_list([item for key, value in settings.items() for item in (f"SOLVER.LR_SCHEDULER.{key}", value)])
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])
    return optimizer, build_lr_scheduler(cfg, optimizer)


def factors(iterations, **settings):
    """Return factors of the base learning rate from the scheduler's lambda."""
    _, scheduler = scheduled(**settings)
    return [scheduler.lr_lambdas[0](iteration) for iteration in iterations]


def stepped(optimizer, scheduler, *, num_steps):
    """Return the learning rates of the given number of steps, and the one after them."""
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


@pytest.mark.parametrize(("warmup", "is_reported"), [(10, True), (9, False)])
def test_a_warmup_that_lasts_the_whole_run_is_reported(caplog, warmup, is_reported):
    scheduled(MAX_ITER=10, WARMUP_ITERS=warmup)
    assert ("WARMUP_ITERS=10, MAX_ITER=10" in caplog.text) == is_reported


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_learning_rates(name):
    published = PUBLISHED[name]
    iterations = [row[0] for row in published["learning_rates"]]
    for (_, *rates), factor in zip(
        published["learning_rates"], factors(iterations, **settings_of(published)), strict=True
    ):
        assert [base * factor for base in published["base_lrs"]] == pytest.approx(rates, rel=1e-12, abs=0)


def test_scheduler_sets_the_published_rates_step_by_step():
    published = REFERENCE["Seg.Layer16.ImageNet"]
    optimizer, scheduler = scheduled(rates=published["base_lrs"])  # the defaults are the published schedule
    expected = {row[0]: row[1:] for row in published["learning_rates"] if row[0] <= 1001}
    for iteration in range(1002):
        if iteration in expected:
            rates = [group["lr"] for group in optimizer.param_groups]
            assert rates == pytest.approx(expected[iteration], rel=1e-12, abs=0)
        optimizer.step()
        scheduler.step()


def one_cycle_of_torch(optimizer, max_iter, *, peak_at, start, end):
    """Return torch's scheduler with one more step and a shifted peak; it reaches peak and end one step early."""
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=max_iter + 1,
        pct_start=(peak_at * max_iter + 1) / (max_iter + 1),
        div_factor=1 / start,
        final_div_factor=start / end,
        cycle_momentum=False,
    )


@pytest.mark.parametrize("max_iter", [1, 7, 50])
@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (
            {"NAME": "CosineLR", "END_FACTOR": 0.1},
            lambda optimizer, n: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n, eta_min=0.1),
        ),
        (
            {"NAME": "MultiStepLR", "STEPS": [2, 3, 40], "GAMMA": 0.3},
            lambda optimizer, n: torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3, 40], gamma=0.3),
        ),
        (
            {"NAME": "OneCycleLR", "END_FACTOR": 0.001, "ONE_CYCLE.START_FACTOR": 0.2, "ONE_CYCLE.PEAK_AT": 0.4},
            lambda optimizer, n: one_cycle_of_torch(optimizer, n, peak_at=0.4, start=0.2, end=0.001),
        ),
    ],
)
def test_learning_rates_equal_torch(settings, theirs, max_iter):
    mine = stepped(*scheduled(MAX_ITER=max_iter, **settings, **NO_WARMUP), num_steps=max_iter)
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert mine == pytest.approx(stepped(other, theirs(other, max_iter), num_steps=max_iter), rel=1e-9, abs=1e-12)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.1, 3), st.integers(1, 10_000))
def test_factor_starts_at_the_warmup_and_ends_at_zero(warmup_iters, start, power, max_iter):
    def factor(iteration):
        return scheduled_factor(
            iteration,
            shape=lambda progress: (1 - progress) ** power,
            max_iter=max_iter,
            warmup_iters=warmup_iters,
            warmup_start=start,
        )

    assert factor(0) == start
    assert factor(max_iter) == factor(max_iter + 7) == 0
    assert all(0 <= factor(iteration) <= 1 for iteration in range(0, max_iter, max(1, max_iter // 50)))


def test_every_shape_is_multiplied_by_the_warmup():
    shapes = [
        {"NAME": "PolyLR"},
        {"NAME": "CosineLR"},
        {"NAME": "MultiStepLR", "STEPS": [3]},
        {"NAME": "OneCycleLR"},
    ]
    for shape in shapes:
        warm = factors(range(12), MAX_ITER=10, WARMUP_ITERS=5, WARMUP_FACTOR=0.2, **shape)
        plain = factors(range(12), MAX_ITER=10, **shape, **NO_WARMUP)
        ramp = [min(1.0, 0.2 + 0.8 * iteration / 5) for iteration in range(12)]
        assert warm == pytest.approx([factor * warmup for factor, warmup in zip(plain, ramp, strict=True)], rel=1e-12)
        assert warm[10] == warm[11], "constant after the end"


def test_warmup_is_linear():
    values = [warmup_factor(i, num_iterations=10, start=0.1) for i in range(12)]
    assert values == pytest.approx([0.1 + 0.09 * i for i in range(10)] + [1.0, 1.0], rel=1e-14)
    assert warmup_factor(0, num_iterations=0, start=0.1) == 1  # no warmup


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_one_cycle_at_start_peak_end_and_midpoints(peak_at, start, end, other):
    def factor(progress):
        return one_cycle_factor(progress, peak_at=peak_at, start=start, end=end)

    assert [factor(0), factor(peak_at), factor(1)] == pytest.approx([start, 1, end], abs=1e-12)
    halves = [factor(peak_at / 2), factor((1 + peak_at) / 2)]
    assert halves == pytest.approx([(start + 1) / 2, (1 + end) / 2], abs=1e-9)
    assert min(start, end) - 1e-12 <= factor(other) <= 1 + 1e-12


@pytest.mark.parametrize("max_iter", [4, 190_000, 10**7])
def test_steps_are_exact_for_long_training_runs(max_iter):
    steps = [max_iter // 4, max_iter // 2, max_iter - 1]
    expected = {0: 1.0, **{at: 0.5 ** (i + 1) for i, at in enumerate(steps)}}
    before = {at - 1: 0.5**i for i, at in enumerate(steps) if at - 1 not in expected}
    for iteration, factor in {**expected, **before}.items():
        fractions = [step / max_iter for step in steps]
        assert multi_step_factor(iteration / max_iter, steps=fractions, gamma=0.5) == factor


def test_resume_uses_the_current_schedule():
    """A saved scheduler restores its iteration but not its settings, so a run can be extended or changed."""
    optimizer, scheduler = scheduled(MAX_ITER=10, **NO_WARMUP)
    stepped(optimizer, scheduler, num_steps=5)
    for settings, expected in (
        ({"NAME": "PolyLR", "MAX_ITER": 100}, (1 - 6 / 100) ** 0.9),
        ({"NAME": "CosineLR", "MAX_ITER": 12}, 0.5),
        ({"NAME": "MultiStepLR", "MAX_ITER": 12, "STEPS": [6]}, 0.1),
        ({"NAME": "OneCycleLR", "MAX_ITER": 12, "ONE_CYCLE.PEAK_AT": 0.5}, 1.0),
    ):
        longer_optimizer, longer = scheduled(**settings, **NO_WARMUP)
        longer.load_state_dict(scheduler.state_dict())
        longer_optimizer.step()
        longer.step()
        rate = longer_optimizer.param_groups[0]["lr"]
        assert math.isclose(rate, expected, rel_tol=1e-12)


def test_unknown_schedule_lists_the_nearest():
    with pytest.raises(KeyError, match=r"PolyLR.*Received: SOLVER.LR_SCHEDULER.NAME='PolyLr'"):
        scheduled(NAME="PolyLr")
