"""Batch norms folded into the convolutions before them, for inference."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.modeling.backbones.rex_block import SqueezeExcitation
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.modeling.meta_arch.semantic_segmentor import SemanticSegmentor

__all__ = ["fold_batch_norms"]

SEQUENCES = (nn.Sequential, SqueezeExcitation, BasicBlock, Bottleneck)  # a norm takes what the convolution before gives

Model = TypeVar("Model", DynamicNet4Seg, SemanticSegmentor)


def fold_batch_norms(model: Model) -> Model:
    """A copy for inference: wherever a batch norm follows a convolution, one convolution with a bias does both.

    Equal outputs within rounding. What no longer runs costs nothing: the copy's costs are measured anew, and are lower
    by 2 multiply-adds for each output of a norm. Other norms than batch norms stay.

    Args:
        model: is not changed.

    Returns:
        The copy, in evaluation mode, with identities in the places of the norms; training it would not be the same.
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        if isinstance(module, SEQUENCES):
            _fold(module)
    folded.costs = type(folded.costs)(folded.backbone, folded.sem_seg_head)
    return folded


def _fold(sequence: nn.Module) -> None:
    for (conv_name, conv), (norm_name, norm) in pairwise(list(sequence.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm | FrozenBatchNorm2d):
            setattr(sequence, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(sequence, norm_name, nn.Identity())
