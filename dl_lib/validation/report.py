"""List of the problems of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from dl_lib.config.config_node import CfgNode
from dl_lib.config.errors import ConfigError, shown
from dl_lib.utils.output_path import OutputPathError

__all__ = ["Purpose", "Report"]

Purpose = Literal["training", "evaluation", "prediction"]


class Report:
    """Problems of one configuration, one line each.

    Args:
        cfg: Complete configuration whose values have the right types.
        world_size: Number of processes of the run.
        purpose: Intended use of the configuration.
        rejected: Keys whose own range or choices are violated; rules that depend on them are skipped.
    """

    def __init__(self, cfg: CfgNode, *, world_size: int, purpose: Purpose, rejected: Iterable[str] = ()) -> None:
        self.cfg = cfg
        self.world_size = world_size
        self.trains = purpose == "training"
        self.reads_datasets = purpose != "prediction"
        self.problems: list[str] = []
        self._values = cfg.flat()
        self._rejected = frozenset(rejected)

    def value(self, key: str) -> Any:
        return self._values[key]

    def accepts(self, *keys: str) -> bool:
        """Return whether these keys are within their own ranges and choices."""
        return self._rejected.isdisjoint(keys)

    def add(self, key: str, problem: str) -> None:
        """Add a problem, formatted as `KEY problem. Received: KEY=value`."""
        self.problems.append(f"{key} {problem}. Received: {key}={shown(self.value(key))}")

    def collect(self, check: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call a check of the library and add the message of its error."""
        try:
            check(*args, **kwargs)
        except (ConfigError, OutputPathError) as error:
            self.problems.append(str(error))
