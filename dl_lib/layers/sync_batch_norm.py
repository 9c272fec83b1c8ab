"""Batch norm whose statistics are those of all processes' images together, on GPUs and on CPUs.

Sources: "Batch Normalization" (arXiv 1502.03167), section 3, for the gradients; Chan, Golub and LeVeque, "Algorithms
for computing the sample variance" (The American Statistician 37, 1983), equation 2.1 for several parts at once, for
putting the parts' variances together.

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

_OVER_VALUES = (0, 2, 3)  # of a map (B, C, H, W), all that a channel's statistics are of


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the images of all processes, weighed by how many values each of them has.

    The processes' shares may differ, and may be empty. Parameters, buffers and state dict are those of a batch norm; in
    evaluation, and in a run of one process, it is one. In training every process has to run it, forward and backward,
    in the same order as the others. The gradient is that of the sum of the processes' losses.

    On GPUs torch's own reduction does the work. torch's module around it is not used: it, and whoever derives from it,
    is refused on CPUs by DistributedDataParallel.

    Args:
        num_features: channels.
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
            _follow(self.running_mean, mean_C, momentum=self.momentum)
            _follow(self.running_var, variance_C * (count / (count - 1)), momentum=self.momentum)
        return _Normalisation.apply(input, self.weight, self.bias, mean_C, variance_C, count, self.eps)


class _Normalisation(torch.autograd.Function):
    """Normalises with statistics that depend on the input, here and in the other processes."""

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
        sum_C = gradient.sum(_OVER_VALUES)
        product_C = (gradient * centred).sum(_OVER_VALUES)
        # Those of the parameters stay this process's own: whoever trains averages them with all the others.
        of_weight_C, of_bias_C = product_C * scale_C, sum_C
        both_2C = torch.cat([sum_C, product_C])
        dist.all_reduce(both_2C)
        mean_gradient_C, mean_product_C = (both_2C / ctx.count).chunk(2)
        centred *= _per_channel(mean_product_C * scale_C.square())
        of_x = (gradient - _per_channel(mean_gradient_C)).sub_(centred).mul_(_per_channel(weight_C * scale_C))
        return of_x.to(x.dtype), of_weight_C.to(weight_C.dtype), of_bias_C.to(weight_C.dtype), None, None, None, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance (C,) over the values of all processes, and how many those are for each channel.

    First each process's own, about its own mean, then the whole's from them: no difference of large squares anywhere.

    Raises:
        ValueError: if there are fewer than two values.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    own_count = x.numel() // x.shape[1]
    own_mean_C = x.sum(_OVER_VALUES) / max(1, own_count)
    own_variance_C = (x - _per_channel(own_mean_C)).square_().sum(_OVER_VALUES) / max(1, own_count)
    mine = torch.cat([own_mean_C, own_variance_C, x.new_tensor([own_count])])
    parts = [torch.empty_like(mine) for _ in range(comm.get_world_size())]
    dist.all_gather(parts, mine)
    mean_PC, variance_PC, count_P1 = torch.stack(parts).split([x.shape[1], x.shape[1], 1], dim=1)
    count = count_P1.sum().item()
    if count < 2:
        raise ValueError(
            "a batch norm in training needs two values for each channel, over all processes: more or larger images. "
            f"Received: input of shape {tuple(x.shape)} here, {count:.0f} values altogether"
        )
    share_P1 = count_P1 / count
    mean_C = (mean_PC * share_P1).sum(0)
    variance_C = ((variance_PC + (mean_PC - mean_C).square()) * share_P1).sum(0)
    return mean_C, variance_C, count


def _follow(running_C: Tensor, present_C: Tensor, *, momentum: float) -> None:
    running_C.lerp_(present_C.to(running_C.dtype), momentum)


def _per_channel(values_C: Tensor) -> Tensor:
    return values_C[None, :, None, None]
