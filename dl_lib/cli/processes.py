"""Start of the processes of a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from dl_lib.experiment.experiment import Experiment

__all__ = ["start_processes"]


def start_processes(
    function: Callable[..., None], arguments: argparse.Namespace, experiment: Experiment, *args: Any
) -> None:
    """Call `function(experiment, *args)` in every process of the run, on the device of the config."""
    from dl_lib.launch.launch import launch  # imports torch; --help and config errors do not wait for it

    launch(
        function,
        arguments.processes,
        device=experiment.cfg.MODEL.DEVICE,
        timeout_seconds=experiment.cfg.PROCESS_TIMEOUT_SECONDS,
        args=(experiment, *args),
    )
