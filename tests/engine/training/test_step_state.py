"""State before a step: buffers that a forward pass changes, replaces, resizes or removes."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from dl_lib.engine.training.random_state import set_random_state
from dl_lib.engine.training.step_state import StateBeforeStep


class WithBuffers(nn.Module):
    """Model with a shared norm, a persistent and a temporary buffer, and an empty one."""

    def __init__(self):
        super().__init__()
        self.norm = self.same_norm = nn.BatchNorm1d(2)
        self.register_buffer("history", torch.zeros(3))
        self.register_buffer("temporary", torch.ones(2), persistent=False)
        self.register_buffer("empty", None)


def replaced(model):
    model.history = torch.arange(3.0)


def resized(model):
    model.history = torch.ones(5)


CHANGES = [
    lambda model: model.norm(torch.randn(4, 2)),
    lambda model: model.temporary.add_(1),
    replaced,
    resized,
    lambda model: setattr(model, "history", None),
    lambda model: setattr(model, "empty", torch.ones(2)),
]


def values_of(model):
    return {name: values.clone() for name, values in model.named_buffers()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], values) for name, values in expected.items())


@pytest.mark.parametrize("change", CHANGES)
def test_buffers_are_restored_in_every_step(change):
    model = WithBuffers()
    before = StateBeforeStep(model)
    for step in range(3):
        model.history.fill_(step)
        before.save()
        expected, weights = values_of(model), {key: values.clone() for key, values in model.state_dict().items()}
        change(model)
        if change not in CHANGES[4:]:  # the keys have changed
            assert_equal(before.state_dict(), weights)
        before.restore_buffers()
        assert_equal(values_of(model), expected)
        assert model.norm is model.same_norm


@pytest.mark.parametrize("change", [replaced, resized])
def test_buffers_that_an_accepted_step_replaces_are_saved_from_then_on(change):
    model = WithBuffers()
    before = StateBeforeStep(model)
    change(model)
    before.save()
    expected = values_of(model)
    model.history.fill_(9)
    before.restore_buffers()
    assert_equal(values_of(model), expected)


def test_random_state_is_that_before_the_step():
    before = StateBeforeStep(WithBuffers())
    draws = []
    for _ in range(2):
        draws.append((random.random(), np.random.random(), torch.rand(2).tolist()))
        set_random_state(before.random_state)
    assert draws[0] == draws[1]
