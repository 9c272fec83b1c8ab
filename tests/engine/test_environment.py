"""What a run says of the machine that it is on."""

import torch

from dl_lib.engine.environment import describe_environment


def test_gpus_are_counted_and_only_those_in_use_asked_for_their_names(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: asked.append(index) or f"GPU {index}")
    assert "2 (not used)" in describe_environment(uses_gpus=False)
    assert not asked
    assert "GPU 0, GPU 1 (CUDA" in describe_environment(uses_gpus=True)
