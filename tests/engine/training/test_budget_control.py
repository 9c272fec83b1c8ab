"""Closed loops of the budget controller with synthetic networks that respond late and noisily."""

from collections import deque
from itertools import product

import numpy as np
import pytest

from dl_lib.engine.training.budget_control import BudgetControl, ControlState

START = 0.3  # of the control, fraction of training
NOISE = 0.03  # relative, of the mean cost of 16 images
BENEFIT = 0.02  # loss that a gate saves: the order of magnitude of the quickstart


class Gates:
    """Population of gates trained by Adam: each is worth a benefit, and the weight of the budget is its price.

    Gradients are dominated by noise, as in minibatches, so that a gate's logit moves at a rate that depends on its
    gradient's mean; the cost is the fraction of positive logits. The learning rate falls to zero.
    """

    def __init__(self, rng, *, gain, max_iter, number=600):
        self.rng, self.gain, self.max_iter, self.step = rng, gain, max_iter, 0
        self.logits = rng.normal(1.5, 0.7, number)
        self.benefits = BENEFIT * np.exp(rng.normal(0, 1.5, number))
        self.first, self.second = np.zeros(number), np.zeros(number)

    def cost(self, weight):
        self.step += 1
        sigmoid = 1 / (1 + np.exp(-self.logits))
        noise = 5 * np.sqrt(self.benefits * BENEFIT) * self.rng.normal(size=len(self.logits))
        gradient = sigmoid * (1 - sigmoid) * (self.gain * weight - self.benefits + noise)
        self.first += 0.1 * (gradient - self.first)
        self.second += 0.001 * (gradient**2 - self.second)
        corrected = self.first / (1 - 0.9**self.step), self.second / (1 - 0.999**self.step)
        rate = 0.024 * 1200 / self.max_iter * (1 - self.step / (self.max_iter + 1)) ** 0.9
        self.logits -= rate * (corrected[0] / (np.sqrt(corrected[1]) + 1e-8) + 0.01 * self.logits)
        return (self.logits > 0).mean()


class Lag:
    """Cost that approaches a function of the weight at a limited rate; not even constant weights are remembered."""

    def __init__(self, rng, *, gain, max_iter):
        self.gain, self.scale, self.value = gain, 1200 / max_iter, 0.95

    def cost(self, weight):
        goal = 0.95 / (1 + self.gain * weight / 0.05) if weight > 0 else min(1.0, 0.95 - self.gain * weight)
        self.value += self.scale * min(0.01, max(-0.01, (goal - self.value) / 40))
        return self.value


def closed_loop(network, *, target, gain=1.0, delay=0, max_iter=1200, warm_up=True, seed=0):
    """Return the costs and weights of all steps; the controller sees noisy costs `delay` steps later."""
    rng = np.random.default_rng(seed)
    network = network(rng, gain=gain, max_iter=max_iter)
    control, state = BudgetControl(target=target, start_rate=START, warm_up=warm_up), ControlState()
    measured, costs, weights = deque(maxlen=delay + 1), [], []
    for step in range(1, max_iter + 1):
        costs.append(network.cost(state.weight))
        measured.append(costs[-1] * (1 + rng.normal(0, NOISE)))
        control.update(state, measured[0], progress=step / max_iter, max_iter=max_iter)
        weights.append(state.weight)
    return np.array(costs), np.array(weights)


GAINS = (0.1, 1.0, 10.0)
SETTLING = [
    *((Gates, *case, 1200) for case in product(GAINS, (0, 10), (0.25, 0.5, 0.75))),
    *((Lag, *case, 1200) for case in product(GAINS, (0,), (0.25, 0.5, 0.75))),
    *((Lag, *case, 1200) for case in product((1.0, 10.0), (10,), (0.25, 0.5, 0.75))),
    *((network, gain, 50, 0.5, 4800) for network, gain in product((Gates, Lag), (0.1, 10.0))),
]


@pytest.mark.parametrize(("network", "gain", "delay", "target", "max_iter"), SETTLING)
def test_cost_settles_at_the_target(network, gain, delay, target, max_iter):
    """Within 2 % at the end, without oscillation, for gains from 0.1 to 10 and delays up to 10 in 1,200 iterations."""
    costs, weights = closed_loop(network, target=target, gain=gain, delay=delay, max_iter=max_iter)
    last = costs[-max_iter // 12 :]
    assert last.mean() == pytest.approx(target, rel=0.025)
    assert last.std() < 0.03 * target
    assert (weights[: int(START * max_iter) - 1] == 0).all()


def test_quickstart_like_network_is_near_the_target_300_iterations_after_the_start():
    costs, _ = closed_loop(Gates, target=0.5, delay=5)
    start = int(START * len(costs))
    assert np.abs(costs[start + 300 :] / 0.5 - 1).max() < 0.05
    assert costs.min() > 0.8 * 0.5, "without closing more than necessary on the way"


def test_weight_is_bounded_and_recovers_from_an_unreachable_target():
    """A cost that cannot fall drives the weight to its limit; when it can, the weight comes back (anti-windup)."""
    control, state = BudgetControl(target=0.5, start_rate=0.0, warm_up=False), ControlState()
    for step in range(1000):
        control.update(state, 0.8, progress=step / 2000, max_iter=2000)
    assert state.weight == 10 and state.is_saturated
    for step in range(1000, 1400):
        control.update(state, 0.45, progress=step / 2000, max_iter=2000)
    assert state.weight < 1 and not state.is_saturated


def test_warm_up_moves_the_target_linearly():
    weights = {}
    for warm_up in (True, False):
        control, state = BudgetControl(target=0.5, start_rate=0.0, warm_up=warm_up), ControlState()
        for step in range(5):
            control.update(state, 1.0, progress=step / 1000, max_iter=1000)
        weights[warm_up] = state.weight
    assert 0 < weights[True] < 0.1 * weights[False]
