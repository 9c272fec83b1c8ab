"""From a config to an optimizer and its learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from dl_lib.config import CfgNode
from dl_lib.modeling.dynamic.gate import SoftGate
from dl_lib.solver.groups import group_parameters
from dl_lib.solver.schedule import warmup_poly_factor
from dl_lib.utils.names import nearest_names

__all__ = ["build_lr_scheduler", "build_optimizer"]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that `SOLVER.OPTIMIZER` names; each group keeps its parameters' names under `param_names`.

    Raises:
        KeyError: for an optimizer that does not exist.
    """
    settings = cfg.SOLVER.OPTIMIZER
    _check_name(settings.NAME, key="SOLVER.OPTIMIZER.NAME", known=["SGD", "AdamW"])
    groups = group_parameters(
        model,
        base_lr=settings.BASE_LR,
        weight_decay=settings.WEIGHT_DECAY,
        weight_decay_norm=settings.WEIGHT_DECAY_NORM,
        gate_types=(SoftGate,),
        gate_lr_multiplier=settings.GATE_LR_MULTI,
    )
    if settings.NAME == "AdamW":
        return torch.optim.AdamW(groups, lr=settings.BASE_LR)
    return torch.optim.SGD(groups, lr=settings.BASE_LR, momentum=settings.MOMENTUM)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """Warm-up and polynomial decay as `SOLVER.LR_SCHEDULER` says; to be stepped after each optimizer step.

    Raises:
        KeyError: for a schedule that does not exist.
    """
    settings = cfg.SOLVER.LR_SCHEDULER
    _check_name(settings.NAME, key="SOLVER.LR_SCHEDULER.NAME", known=["PolyLR"])
    # A partial, not an object: LambdaLR would restore an object's old settings over the present ones on resume.
    factor = partial(
        warmup_poly_factor,
        max_iter=settings.MAX_ITER,
        power=settings.POLY_POWER,
        warmup_iters=settings.WARMUP_ITERS,
        warmup_start=settings.WARMUP_FACTOR,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _check_name(name: str, *, key: str, known: Sequence[str]) -> None:
    if name not in known:
        raise KeyError(f"{key} is not one of those that exist; {nearest_names(name, known)}. Received: {key}={name!r}")
