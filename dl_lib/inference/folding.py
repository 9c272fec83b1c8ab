"""Batch-norm folding for inference: a batch norm and the convolution before it become one convolution."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeGuard, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.layers.depthwise import DilatedConv2d
from dl_lib.modeling.backbones.rex_block import SqueezeExcitation
from dl_lib.modeling.costs.counters import count_madds
from dl_lib.modeling.meta_arch.base import SegmentationModel

__all__ = ["PLAIN_CONVOLUTIONS", "FoldedNorm", "Model", "fold_batch_norms", "is_sequence"]

# Modules that call their children in order, so that a norm normalizes the output of the convolution before it.
BLOCKS = (SqueezeExcitation, BasicBlock, Bottleneck)
PLAIN_CONVOLUTIONS = (nn.Conv2d, DilatedConv2d)  # subclasses may change their weights

Model = TypeVar("Model", bound=SegmentationModel)


class FoldedNorm(nn.Identity):
    """Batch norm that is part of the convolution before it; reported costs count it as if it ran."""


@count_madds.register
def _folded_norm(norm: FoldedNorm, x: Tensor, y: Tensor) -> int:
    return 2 * y.numel()


def fold_batch_norms(model: Model) -> Model:
    """Return a copy for inference, in which each batch norm after a convolution is folded into that convolution.

    Outputs are equal up to rounding, and reported costs are those of the model. Other norms remain.

    Args:
        model: Model to copy; it is not changed.

    Returns:
        The copy, in evaluation mode, with `FoldedNorm` instead of the folded norms. It is not equivalent in training.
    """
    folded = copy.deepcopy(model).eval()
    sequences = [module for module in folded.modules() if is_sequence(module) or isinstance(module, BLOCKS)]
    for sequence in sequences:  # a list of all modules would keep the replaced ones in memory
        _fold(sequence)
    return folded


def is_sequence(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return whether the module only calls its children in order; subclasses of `nn.Sequential` may do more."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _fold(sequence: nn.Module) -> None:
    for (conv_name, conv), (norm_name, norm) in pairwise(list(sequence._modules.items())):  # with repeated modules
        if (
            isinstance(conv, PLAIN_CONVOLUTIONS)
            and type(conv) in PLAIN_CONVOLUTIONS
            and isinstance(norm, _BatchNorm | FrozenBatchNorm2d)
        ):
            setattr(sequence, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(sequence, norm_name, FoldedNorm())
