"""Optimizer, parameter groups and learning rate schedules."""

from dl_lib.solver.build import build_lr_scheduler, build_optimizer
from dl_lib.solver.group_rules import GroupRule
from dl_lib.solver.parameter_groups import format_groups, group_parameters
from dl_lib.solver.schedule import multi_step_factor, one_cycle_factor, scheduled_factor, warmup_factor

__all__ = [
    "GroupRule",
    "build_lr_scheduler",
    "build_optimizer",
    "format_groups",
    "group_parameters",
    "multi_step_factor",
    "one_cycle_factor",
    "scheduled_factor",
    "warmup_factor",
]
