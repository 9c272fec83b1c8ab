"""Everything that is wrong with a configuration, in one list, before anything is built from it."""

from __future__ import annotations

import math

from dl_lib.config.config_node import CfgNode
from dl_lib.config.defaults import DEFAULTS
from dl_lib.config.errors import ConfigError, numbered, unknown_key
from dl_lib.config.values import fit_value
from dl_lib.validation.data import check_data
from dl_lib.validation.model import check_model
from dl_lib.validation.report import Purpose, Report
from dl_lib.validation.run import check_run

__all__ = ["validate_config"]


def validate_config(cfg: CfgNode, *, world_size: int = 1, purpose: Purpose = "training") -> None:
    """Check the values of a configuration, one by one and against each other, the registries and the data sets.

    Args:
        cfg: a complete configuration.
        world_size: number of processes that will work together, over all machines.
        purpose: what it is for; an evaluation does not need what only the training looks at.

    Raises:
        ConfigError: with one numbered line for each problem: key, what is wrong, what was expected, how to mend it.
    """
    problems = _type_problems(cfg)
    if not problems:  # the other checks compute with the values
        report = Report(cfg, world_size=world_size, purpose=purpose)
        check_model(report)
        check_data(report)
        check_run(report)
        problems = report.problems
    if problems:
        raise ConfigError(numbered("the configuration cannot be used", list(dict.fromkeys(problems))))


def _type_problems(cfg: CfgNode) -> list[str]:
    """Keys and values that were set past `merge_from_*`, missing keys, and numbers that are none."""
    problems: list[str] = []
    values = cfg.flat()
    for key, default in DEFAULTS.flat().items():
        if key not in values:
            problems.append(f"{key} is missing; start from get_cfg()")
            continue
        try:
            fit_value(values[key], default, key=key)
        except ConfigError as error:
            problems.append(str(error))
    known = DEFAULTS.flat()
    problems += [unknown_key(key, values[key], known) for key in values if key not in known]
    for key, value in values.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
            problems.append(f"{key} must be finite. Received: {key}={value!r}")
    return problems
