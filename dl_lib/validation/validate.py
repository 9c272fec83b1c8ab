"""Checks of a configuration, reported in one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.config.config_node import CfgNode
from dl_lib.config.declarations import KEYS
from dl_lib.config.errors import ConfigError, numbered, unknown_key
from dl_lib.config.values import fit_value
from dl_lib.validation.data import check_data
from dl_lib.validation.model import check_model
from dl_lib.validation.report import Purpose, Report
from dl_lib.validation.run import check_run

__all__ = ["validate_config"]


def validate_config(cfg: CfgNode, *, world_size: int = 1, purpose: Purpose = "training") -> None:
    """Check every key against its declaration, and the keys against each other, the registries and the datasets.

    Args:
        cfg: Complete configuration.
        world_size: Number of processes of the run, over all machines.
        purpose: Intended use; an evaluation skips the rules for training. A prediction reads no dataset, so that its
            `DATASETS.FOLDERS` may use the names of other registered datasets.

    Raises:
        ConfigError: With one numbered line per problem: the key, what it must be, and what was received.
    """
    values = cfg.flat()
    mistyped = _type_problems(values)
    rejected = _declared_problems({key: value for key, value in values.items() if key in KEYS and key not in mistyped})
    problems = [*mistyped.values(), *rejected.values()]
    if not mistyped:  # the rules compute with the values
        report = Report(cfg, world_size=world_size, purpose=purpose, rejected=rejected)
        check_model(report)
        check_data(report)
        check_run(report)
        problems += report.problems
    if problems:
        raise ConfigError(numbered("invalid config", list(dict.fromkeys(problems))))


def _type_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the problems of missing and unknown keys and of values of the wrong type.

    `merge_from_*` performs the same checks, which values assigned directly have bypassed.
    """
    problems: dict[str, str] = {}
    for key, declared in KEYS.items():
        if key not in values:
            problems[key] = f"{key} is missing; start from get_cfg()"
            continue
        try:
            fit_value(values[key], declared.default, key=key)
        except ConfigError as error:
            problems[key] = str(error)
    return problems | {key: unknown_key(key, values[key], KEYS) for key in values if key not in KEYS}


def _declared_problems(values: Mapping[str, Any]) -> dict[str, str]:
    problems = {key: KEYS[key].problem(value) for key, value in values.items()}
    return {key: problem for key, problem in problems.items() if problem is not None}
