"""Drop path: a branch is left out for some of the images of a batch. arXiv 1603.09382."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["drop_path"]


def drop_path(x: Tensor, drop_prob: Tensor | float) -> Tensor:
    """Zeros in the place of some images, the others divided by 1 - drop_prob: the mean stays as it is.

    torchvision's `stochastic_depth` does the same with a number; a tensor can change from step to step without a
    compiled graph being compiled anew.

    Args:
        x: (B, ...).
        drop_prob: for each image, below 1; a number or 0-d.
    """
    kept = torch.rand(x.shape[0], device=x.device) >= drop_prob
    weight = kept / (1 - drop_prob)
    return x * weight.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
