"""Which GPUs' generators are saved and put back; those of the CPU: test_exact_resume.py."""

import pytest
import torch

from dl_lib.engine.training.random_state import get_random_state, set_random_state

GPU_STATE = torch.arange(16, dtype=torch.uint8)


@pytest.fixture
def restored(monkeypatch):
    """States that the GPU's generator has been given; there is a GPU, and whether it is in use is up to the test."""
    states = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: GPU_STATE)
    monkeypatch.setattr(torch.cuda, "set_rng_state", states.append)
    return states


def test_a_gpu_in_use_goes_on_with_its_numbers(restored, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    set_random_state(get_random_state())
    assert restored == [GPU_STATE]


def test_a_gpu_that_is_not_used_is_left_alone(restored, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    state = get_random_state()
    assert "cuda" not in state
    set_random_state({**state, "cuda": GPU_STATE})  # of a run that was on a GPU
    assert not restored
