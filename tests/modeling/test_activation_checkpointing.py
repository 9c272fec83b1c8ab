"""Activation checkpointing and compilation do not change training."""

import functools

import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.live_memory import LiveMemory
from tests.helpers.published import SETTINGS

OVERRIDES = [*SETTINGS["tiny"], "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"]


def model_of(*overrides):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*OVERRIDES, "MODEL.BACKBONE.DROP_PROB", 0.5, *overrides])
    return build_model(cfg).double().train()


def batch_of(seed, *, side=64):
    torch.manual_seed(seed)
    return [
        {
            "image": torch.randint(0, 256, (3, side, side), dtype=torch.uint8),
            "sem_seg": torch.randint(0, 19, (side,) * 2),
        }
        for _ in range(2)
    ]


def two_steps(model):
    """Return losses, costs, state and logits of two steps, with seeded drop path."""
    seen = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(2):
        batch = batch_of(step)
        losses, flops = model(batch, step_rate=0.4 + 0.1 * step)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seen.append({**losses, **flops})
    with torch.no_grad():
        outputs = model.eval()(batch_of(2))  # sparse execution, which neither option changes
    return seen, model.state_dict(), [output["sem_seg"] for output in outputs]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # triggered inside torch
@pytest.mark.parametrize("key", ["MODEL.ACTIVATION_CHECKPOINTING", "MODEL.COMPILE"])
def test_training_is_unchanged(key, monkeypatch):
    expected_seen, expected_state, expected_logits = two_steps(model_of())
    # Test for graph breaks only; inductor is tested by torch.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    seen, state, logits = two_steps(model_of(key, True))
    torch.testing.assert_close(seen, expected_seen, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(state, expected_state, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-6, atol=1e-8)


def test_activation_checkpointing_saves_memory():
    def peak(*overrides):
        model = model_of("MODEL.BACKBONE.DROP_PROB", 0.0, *overrides)
        with LiveMemory() as memory:
            losses, _ = model(batch_of(0, side=128))
            sum(losses.values()).backward()
        return memory.peak_bytes

    assert peak("MODEL.ACTIVATION_CHECKPOINTING", True) < 0.75 * peak()
