"""Autograd with cached tensors that were first requested in other modes."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from dl_lib.utils.cached_tensors import cached_tensor


def test_tensor_first_requested_in_evaluation_or_a_fake_mode_supports_autograd():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for values, mode in (((41.0, 0.5), torch.inference_mode()), ((43.0, 0.5), FakeTensorMode())):
        with mode:
            cached_tensor(values, dtype=torch.float32, like=torch.zeros(1))
        cached = cached_tensor(values, dtype=torch.float32, like=x)
        assert cached_tensor(values, dtype=torch.float32, like=x) is cached
        (gradient,) = torch.autograd.grad((x * cached).sum(), x)
        assert tuple(gradient.tolist()) == values
