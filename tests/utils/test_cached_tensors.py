"""Constants take part in everything that other tensors do, whenever they were first asked for."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dl_lib.utils.cached_tensors import cached_tensor


def test_what_an_evaluation_or_a_trial_asked_for_first_serves_a_training():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for values, mode in (((41.0, 0.5), torch.inference_mode()), ((43.0, 0.5), FakeTensorMode())):
        with mode:
            cached_tensor(values, dtype=torch.float32, like=torch.zeros(1))
        kept = cached_tensor(values, dtype=torch.float32, like=x)
        assert cached_tensor(values, dtype=torch.float32, like=x) is kept
        (gradient,) = torch.autograd.grad((x * kept).sum(), x)
        assert tuple(gradient.tolist()) == values
