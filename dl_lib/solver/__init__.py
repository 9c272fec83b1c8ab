"""Optimizer, parameter groups and learning rates."""

from dl_lib.solver.build import build_lr_scheduler, build_optimizer
from dl_lib.solver.groups import group_parameters
from dl_lib.solver.schedule import poly_factor, warmup_factor, warmup_poly_factor

__all__ = [
    "build_lr_scheduler",
    "build_optimizer",
    "group_parameters",
    "poly_factor",
    "warmup_factor",
    "warmup_poly_factor",
]
