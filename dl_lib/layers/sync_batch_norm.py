"""Synchronized batch norm over all processes, on GPUs and CPUs.

Gradients: "Batch Normalization" (arXiv 1502.03167), section 3. Combination of the processes' variances: Chan, Golub and
LeVeque, "Algorithms for computing the sample variance" (The American Statistician 37, 1983), equation 2.1, generalized
to several samples at once.

Shape suffixes: B images, C channels, H rows, W columns, P processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm as GpuReduction

from dl_lib.utils import comm

__all__ = ["SyncBatchNorm2d"]

_REDUCED_DIMS = (0, 2, 3)  # of (B, C, H, W)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, weighted by the number of values of each process.

    Batch sizes may differ between processes and may be zero. Parameters, buffers and state dict are those of
    `nn.BatchNorm2d`; in evaluation mode, and with a single process, so is the computation. In training mode forward and
    backward are collectives: every process must run them in the same order. The gradient is that of the sum of the
    processes' losses.

    On GPUs it uses torch's own reduction, but not `nn.SyncBatchNorm`, because DistributedDataParallel rejects that
    class and its subclasses on CPUs.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or comm.get_world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        self.num_batches_tracked.add_(1)
        if input.is_cuda:
            group, processes = dist.group.WORLD, comm.get_world_size()
            statistics = (self.running_mean, self.running_var, self.eps, self.momentum)
            return GpuReduction.apply(input, self.weight, self.bias, *statistics, group, processes)
        with torch.no_grad():
            mean_C, variance_C, count = _statistics(input)
            _update_running(self.running_mean, mean_C, momentum=self.momentum)
            _update_running(self.running_var, variance_C * (count / (count - 1)), momentum=self.momentum)
        return _Normalization.apply(input, self.weight, self.bias, mean_C, variance_C, count, self.eps)


class _Normalization(torch.autograd.Function):
    """Normalization with statistics that depend on the inputs of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        mean_C: Tensor,
        variance_C: Tensor,
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight_C, mean_C, (variance_C + eps).rsqrt())
        ctx.count = count
        return F.batch_norm(x, mean_C, variance_C, weight_C, bias_C, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_C, scale_C = ctx.saved_tensors
        gradient = gradients[0].to(mean_C.dtype)
        centred = x.to(mean_C.dtype) - _per_channel(mean_C)
        sum_C = gradient.sum(_REDUCED_DIMS)
        product_C = (gradient * centred).sum(_REDUCED_DIMS)
        # Parameter gradients remain local: DistributedDataParallel averages them like all others.
        grad_weight_C, grad_bias_C = product_C * scale_C, sum_C
        both_2C = torch.cat([sum_C, product_C])
        dist.all_reduce(both_2C)
        mean_gradient_C, mean_product_C = (both_2C / ctx.count).chunk(2)
        centred *= _per_channel(mean_product_C * scale_C.square())
        grad_x = (gradient - _per_channel(mean_gradient_C)).sub_(centred).mul_(_per_channel(weight_C * scale_C))
        grads_C = (grad_weight_C.to(weight_C.dtype), grad_bias_C.to(weight_C.dtype))
        return (grad_x.to(x.dtype), *grads_C, None, None, None, None)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and biased variance (C,) over all processes, and the number of values per channel.

    Each process computes the variance about its own mean before they are combined, which avoids the cancellation of
    E[x²] - E[x]².

    Raises:
        ValueError: If there are fewer than two values per channel.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    local_count = x.numel() // x.shape[1]
    local_mean_C = x.sum(_REDUCED_DIMS) / max(1, local_count)
    local_variance_C = (x - _per_channel(local_mean_C)).square_().sum(_REDUCED_DIMS) / max(1, local_count)
    local = torch.cat([local_mean_C, local_variance_C, x.new_tensor([local_count])])
    gathered = [torch.empty_like(local) for _ in range(comm.get_world_size())]
    dist.all_gather(gathered, local)
    mean_PC, variance_PC, count_P1 = torch.stack(gathered).split([x.shape[1], x.shape[1], 1], dim=1)
    count = count_P1.sum().item()
    if count < 2:
        raise ValueError(
            "batch norm in training mode needs at least two values per channel over all processes; use more or larger "
            f"images. Received: input.shape={tuple(x.shape)} on this process, values per channel={count:.0f}"
        )
    fraction_P1 = count_P1 / count
    mean_C = (mean_PC * fraction_P1).sum(0)
    variance_C = ((variance_PC + (mean_PC - mean_C).square()) * fraction_P1).sum(0)
    return mean_C, variance_C, count


def _update_running(running_C: Tensor, batch_C: Tensor, *, momentum: float) -> None:
    running_C.lerp_(batch_C.to(running_C.dtype), momentum)


def _per_channel(values_C: Tensor) -> Tensor:
    return values_C[None, :, None, None]
