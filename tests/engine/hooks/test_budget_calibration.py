"""Calibration of the gates of a small network with hard gates, compared with the cost of every shift."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.engine.hooks import BudgetCalibration, recompute_norm_statistics
from dl_lib.engine.hooks.budget_calibration import search_shift
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.utils.modes import evaluation_mode
from tests.helpers.small_run import SMALL
from tests.helpers.training import captured_log, plain_trainer


@pytest.mark.parametrize(("target", "reached"), [(0.5, True), (0.47, True), (0.56, True), (0.1, False), (0.9, False)])
def test_search_matches_the_threshold_of_the_target(target, reached):
    logits = np.random.default_rng(0).normal(scale=0.7, size=5000)

    def error_at(shift):
        return np.mean(logits + shift > 0) / target - 1

    errors = search_shift(error_at)
    best = min(errors, key=lambda shift: abs(errors[shift]))
    assert all(errors[shift] == error_at(shift) for shift in errors) and max(map(abs, errors)) <= 0.25
    if reached:
        assert abs(errors[best]) < 0.002 and best == pytest.approx(-np.quantile(logits, 1 - target), abs=0.01)
        assert len(errors) <= 5
    else:
        assert abs(best) == 0.25 and len(errors) == 3


def routed_network(*, target):
    """Network whose costs differ between images and cover the range of costs evenly."""
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list(
        [*SMALL, "MODEL.BUDGET.TARGET", target, "MODEL.GATE.KIND", "hard", "MODEL.GATE.GATE_INIT_BIAS", 0]
    )
    model = build_model(cfg)
    for gate in gates_of(model):
        nn.init.normal_(gate.predict.weight, std=0.3)
    recompute_norm_statistics(model, batches=labelled_batches(), num_batches=8)
    return model


def gates_of(model):
    return [module for module in model.modules() if isinstance(module, Gate)]


def batches():
    generator = torch.Generator().manual_seed(0)
    while True:
        brightness = torch.randint(20, 250, (2, 3, 1, 1), generator=generator)
        images = brightness * torch.rand(2, 3, 64, 64, generator=generator)
        yield [{"image": image.byte()} for image in images]


def labelled_batches():
    for batch in batches():
        yield [{**sample, "sem_seg": torch.zeros(64, 64, dtype=torch.int64)} for sample in batch]


def mean_cost(model, *, num_batches):
    """Mean real cost of single images, relative to the lattice's cost with all gates open."""
    table, costs = model.costs.table(64, 64), []
    with evaluation_mode(model), torch.no_grad():
        for batch in itertools.islice(batches(), num_batches):
            for image in batch:
                (output,) = model([image])
                costs.append((output["flops"]["real_flops"] * 1e6 - table.unrouted) / table.expected_all_open)
    return np.mean(costs)


def calibrate(model, *, num_batches=16):
    hook = BudgetCalibration(batches, num_batches=num_batches, model=model, budget=model.budget)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with captured_log("hooks.budget_controller") as messages:
        hook.after_train(plain_trainer(max_iter=1))
    changed = {
        name: value - before[name] for name, value in model.state_dict().items() if (value != before[name]).any()
    }
    return changed, messages


def test_cost_in_evaluation_mode_is_the_target():
    uncalibrated = mean_cost(routed_network(target=0.5), num_batches=16)
    for target in (uncalibrated * 1.08, uncalibrated * 0.93):
        model = routed_network(target=float(target)).train()
        changed, messages = calibrate(model)
        assert mean_cost(model, num_batches=16) == pytest.approx(target, rel=0.01) and model.training
        assert all(name.endswith("gate.predict.bias") for name in changed)
        assert len(changed) == len(gates_of(model))
        shifts = torch.cat([*changed.values()])
        torch.testing.assert_close(shifts, shifts[:1].expand_as(shifts))
        assert (shifts[0] > 0) == (target > uncalibrated) and not messages


def test_target_out_of_reach_leaves_the_gates_and_is_a_warning():
    changed, (message,) = calibrate(routed_network(target=0.01))
    assert not changed and "missed, after training, and calibration left the gates unchanged, because" in message


def test_resumed_run_continues_with_the_biases_before_the_shift():
    model = routed_network(target=0.265)
    before = [gate.predict.bias.clone() for gate in gates_of(model)]
    hook = BudgetCalibration(batches, num_batches=16, model=model, budget=model.budget)
    assert hook.state_dict() == {}
    hook.after_train(plain_trainer(max_iter=1))
    shifted = [gate.predict.bias.clone() for gate in gates_of(model)]
    assert not torch.equal(shifted[0], before[0])
    resumed = BudgetCalibration(batches, num_batches=16, model=model, budget=model.budget)
    resumed.load_state_dict(hook.state_dict())
    resumed.before_train(plain_trainer(max_iter=1))
    torch.testing.assert_close([gate.predict.bias for gate in gates_of(model)], before, rtol=0, atol=0)
    assert resumed.state_dict() == {}
    resumed.after_train(plain_trainer(max_iter=1))
    torch.testing.assert_close([gate.predict.bias for gate in gates_of(model)], shifted, rtol=0, atol=0)


@pytest.mark.parametrize("damage", [lambda biases: biases[1:], lambda biases: [b * torch.nan for b in biases]])
def test_damaged_biases_are_refused(damage):
    model = routed_network(target=0.5)
    hook = BudgetCalibration(batches, num_batches=1, model=model, budget=model.budget)
    with pytest.raises(ValueError, match=r"^BudgetCalibration\.biases must "):
        hook.load_state_dict({"biases": damage([gate.predict.bias.detach() for gate in gates_of(model)])})


def test_error_restores_the_gates():
    model = routed_network(target=0.01)
    passes = iter(range(1))

    def fails_in_second_pass():
        if next(passes, None) is None:
            raise KeyboardInterrupt
        return batches()

    before = {name: value.clone() for name, value in model.state_dict().items()}
    hook = BudgetCalibration(fails_in_second_pass, num_batches=2, model=model, budget=model.budget)
    with pytest.raises(KeyboardInterrupt):
        hook.after_train(plain_trainer(max_iter=1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
