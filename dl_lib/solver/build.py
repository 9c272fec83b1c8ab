"""Optimizer and learning rate scheduler of a config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from fvcore.common.param_scheduler import CosineParamScheduler, PolynomialDecayParamScheduler
from torch import nn

from dl_lib.config import CfgNode
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.solver.group_rules import read_group_rules
from dl_lib.solver.parameter_groups import group_parameters
from dl_lib.solver.schedule import Shape, multi_step_factor, one_cycle_factor, scheduled_factor
from dl_lib.utils.names import nearest_names

__all__ = ["LR_SCHEDULERS", "OPTIMIZERS", "build_lr_scheduler", "build_optimizer"]

_log = logging.getLogger(__name__)


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
        gate_types=(Gate,),
        gate_lr_multiplier=settings.GATE_LR_MULTI,
        rules=read_group_rules(settings.GROUPS),
    )
    optimizer = OPTIMIZERS[settings.NAME](groups, settings)
    optimizer.register_load_state_dict_pre_hook(_check_same_groups)
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the scheduler `SOLVER.LR_SCHEDULER` with warmup; call its `step` after each optimizer step.

    Raises:
        KeyError: If the scheduler does not exist.
    """
    settings = cfg.SOLVER.LR_SCHEDULER
    _check_name(settings.NAME, key="SOLVER.LR_SCHEDULER.NAME", names=LR_SCHEDULERS)
    if settings.WARMUP_ITERS >= settings.MAX_ITER:
        _log.warning(
            "The warmup does not end within the run, so that the learning rate never reaches BASE_LR; decrease "
            "WARMUP_ITERS: SOLVER.LR_SCHEDULER.WARMUP_ITERS=%d, MAX_ITER=%d",
            settings.WARMUP_ITERS,
            settings.MAX_ITER,
        )
    # A partial, not a callable object: LambdaLR saves an object's attributes and would restore old settings on resume.
    factor = partial(
        scheduled_factor,
        shape=LR_SCHEDULERS[settings.NAME](settings),
        max_iter=settings.MAX_ITER,
        warmup_iters=settings.WARMUP_ITERS,
        warmup_start=settings.WARMUP_FACTOR,
    )
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _check_name(name: str, *, key: str, names: Iterable[str]) -> None:
    if name not in names:
        raise KeyError(f"{key} must be a registered name; {nearest_names(name, names)}. Received: {key}={name!r}")


def _check_same_groups(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    saved, current = state["param_groups"], optimizer.param_groups
    if [group.get("param_names") for group in saved] != [group["param_names"] for group in current]:
        raise ValueError(
            "SOLVER.OPTIMIZER.GROUPS must define the parameter groups of the saved optimizer; restore the PARAMS "
            "expressions (LR_MULTI and WEIGHT_DECAY may change), or start from the weights with MODEL.WEIGHTS. "
            f"Received: saved={[group.get('name') for group in saved]}, current={[group['name'] for group in current]}"
        )


def _adamw(groups: list[dict[str, Any]], settings: CfgNode) -> torch.optim.Optimizer:
    first, second = settings.BETAS
    return torch.optim.AdamW(groups, lr=settings.BASE_LR, betas=(first, second), eps=settings.EPS)


def _sgd(groups: list[dict[str, Any]], settings: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=settings.BASE_LR, momentum=settings.MOMENTUM)


def _multi_step(settings: CfgNode) -> Shape:
    steps = [step / settings.MAX_ITER for step in settings.STEPS]
    return partial(multi_step_factor, steps=steps, gamma=settings.GAMMA)


def _one_cycle(settings: CfgNode) -> Shape:
    cycle = settings.ONE_CYCLE
    return partial(one_cycle_factor, peak_at=cycle.PEAK_AT, start=cycle.START_FACTOR, end=settings.END_FACTOR)


# Choices of SOLVER.OPTIMIZER.NAME and SOLVER.LR_SCHEDULER.NAME.
OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]], CfgNode], torch.optim.Optimizer]] = {
    "SGD": _sgd,
    "AdamW": _adamw,
}
LR_SCHEDULERS: Mapping[str, Callable[[CfgNode], Shape]] = {
    "PolyLR": lambda settings: PolynomialDecayParamScheduler(1.0, settings.POLY_POWER),
    "CosineLR": lambda settings: CosineParamScheduler(1.0, settings.END_FACTOR),
    "MultiStepLR": _multi_step,
    "OneCycleLR": _one_cycle,
}
