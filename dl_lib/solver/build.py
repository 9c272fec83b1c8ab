"""Optimizer and learning rate scheduler of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from fvcore.common.param_scheduler import CosineParamScheduler, PolynomialDecayParamScheduler
from torch import nn

from dl_lib.config import CfgNode
from dl_lib.modeling.dynamic.gate import SoftGate
from dl_lib.solver.group_rules import read_group_rules
from dl_lib.solver.parameter_groups import group_parameters
from dl_lib.solver.schedule import Shape, multi_step_factor, one_cycle_factor, scheduled_factor
from dl_lib.utils.names import nearest_names

__all__ = ["LR_SCHEDULERS", "OPTIMIZERS", "build_lr_scheduler", "build_optimizer"]

OPTIMIZERS = ("SGD", "AdamW")
LR_SCHEDULERS = ("PolyLR", "CosineLR", "MultiStepLR", "OneCycleLR")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer `SOLVER.OPTIMIZER` with the groups of `group_parameters`.

    Each group keeps its `name` and the names of its parameters in `param_names`. Loading a state with other parameters
    in its groups raises ValueError: torch matches states by position and would assign them to the wrong parameters.

    Raises:
        KeyError: If the optimizer does not exist.
        ConfigError: If an entry of `SOLVER.OPTIMIZER.GROUPS` is invalid or matches no parameter.
    """
    settings = cfg.SOLVER.OPTIMIZER
    _check_name(settings.NAME, key="SOLVER.OPTIMIZER.NAME", names=OPTIMIZERS)
    groups = group_parameters(
        model,
        base_lr=settings.BASE_LR,
        weight_decay=settings.WEIGHT_DECAY,
        weight_decay_norm=settings.WEIGHT_DECAY_NORM,
        weight_decay_bias=None if settings.WEIGHT_DECAY_BIAS < 0 else settings.WEIGHT_DECAY_BIAS,
        gate_types=(SoftGate,),
        gate_lr_multiplier=settings.GATE_LR_MULTI,
        rules=read_group_rules(settings.GROUPS),
    )
    optimizer: torch.optim.Optimizer
    if settings.NAME == "AdamW":
        first, second = settings.BETAS
        optimizer = torch.optim.AdamW(groups, lr=settings.BASE_LR, betas=(first, second), eps=settings.EPS)
    else:
        optimizer = torch.optim.SGD(groups, lr=settings.BASE_LR, momentum=settings.MOMENTUM)
    optimizer.register_load_state_dict_pre_hook(_check_same_groups)
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the scheduler `SOLVER.LR_SCHEDULER` with warmup; call its `step` after each optimizer step.

    Raises:
        KeyError: If the scheduler does not exist.
    """
    settings = cfg.SOLVER.LR_SCHEDULER
    # A partial, not a callable object: LambdaLR saves an object's attributes and would restore old settings on resume.
    factor = partial(
        scheduled_factor,
        shape=_shape(settings),
        max_iter=settings.MAX_ITER,
        warmup_iters=settings.WARMUP_ITERS,
        warmup_start=settings.WARMUP_FACTOR,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _shape(settings: CfgNode) -> Shape:
    _check_name(settings.NAME, key="SOLVER.LR_SCHEDULER.NAME", names=LR_SCHEDULERS)
    shapes: dict[str, Shape] = {
        "PolyLR": PolynomialDecayParamScheduler(1.0, settings.POLY_POWER),
        "CosineLR": CosineParamScheduler(1.0, settings.END_FACTOR),
        "MultiStepLR": partial(
            multi_step_factor, steps=[step / settings.MAX_ITER for step in settings.STEPS], gamma=settings.GAMMA
        ),
        "OneCycleLR": partial(
            one_cycle_factor,
            peak_at=settings.ONE_CYCLE.PEAK_AT,
            start=settings.ONE_CYCLE.START_FACTOR,
            end=settings.END_FACTOR,
        ),
    }
    return shapes[settings.NAME]


def _check_name(name: str, *, key: str, names: Sequence[str]) -> None:
    if name not in names:
        raise KeyError(f"{key} must be an existing name; {nearest_names(name, names)}. Received: {key}={name!r}")


def _check_same_groups(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    saved, current = state["param_groups"], optimizer.param_groups
    if [group.get("param_names") for group in saved] != [group["param_names"] for group in current]:
        raise ValueError(
            "SOLVER.OPTIMIZER.GROUPS gives other parameter groups than the saved optimizer; restore the PARAMS "
            "expressions (LR_MULTI and WEIGHT_DECAY may change), or start from the weights with MODEL.WEIGHTS. "
            f"Received: saved={[group.get('name') for group in saved]}, current={[group['name'] for group in current]}"
        )
