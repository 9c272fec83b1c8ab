"""Config values of the report: keys that differ from the defaults, or between the runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dl_lib.config import get_cfg
from dl_lib.web.report.run_data import RunData
from dl_lib.web.report.values import MISSING

__all__ = ["config_rows"]


def config_rows(runs: Sequence[RunData]) -> list[dict[str, Any]]:
    """Return key, default, value in each run, and whether the values differ, of all keys in the configs.

    Keys of a run's own net.py have no default here, because the report does not execute code.
    """
    defaults = {key: _text(value) for key, value in get_cfg().flat().items()}
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = []
    for key in keys:
        values = [_text(run.config[key]) if key in run.config else MISSING for run in runs if run.config]
        default = defaults.get(key, MISSING)
        is_changed = any(value != default for value in values)
        rows.append({"key": key, "default": default, "values": values, "changed": is_changed})
    return rows


def _text(value: Any) -> str:
    return str(list(value) if isinstance(value, tuple) else value)
