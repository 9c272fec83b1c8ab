"""Random state of the GPU; test_exact_resume.py covers the CPU."""

import pytest
import torch

from dl_lib.engine.training.random_state import get_random_state, set_random_state

GPU_STATE = torch.arange(16, dtype=torch.uint8)


@pytest.fixture
def restored(monkeypatch):
    """States set on a mocked GPU; each test chooses whether CUDA is initialized."""
    states = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: GPU_STATE)
    monkeypatch.setattr(torch.cuda, "set_rng_state", states.append)
    return states


def test_state_of_a_gpu_in_use_is_restored(restored, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    set_random_state(get_random_state())
    assert restored == [GPU_STATE]


def test_unused_gpu_is_not_touched(restored, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    state = get_random_state()
    assert "cuda" not in state
    set_random_state({**state, "cuda": GPU_STATE})  # saved by a run on a GPU
    assert not restored
