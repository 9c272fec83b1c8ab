"""Description of the environment."""

import torch

from dl_lib.engine.environment import describe_environment


def test_gpu_names_are_queried_only_if_gpus_are_used(monkeypatch):
    queried = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: queried.append(index) or f"GPU {index}")
    assert "2 (not used)" in describe_environment(uses_gpus=False)
    assert not queried
    assert "GPU 0, GPU 1 (CUDA" in describe_environment(uses_gpus=True)
