"""From a command line to the processes of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from dl_lib.cli.experiment import Experiment

__all__ = ["start"]


def start(function: Callable[..., None], arguments: argparse.Namespace, experiment: Experiment, *args: Any) -> None:
    """Call `function(experiment, *args)` in every process of the run, on the device that the experiment names."""
    from dl_lib.launch.launch import launch  # imports torch, which --help and a misspelt key need not wait for

    launch(
        function,
        arguments.processes,
        device=experiment.cfg.MODEL.DEVICE,
        timeout_seconds=experiment.cfg.PROCESS_TIMEOUT_SECONDS,
        args=(experiment, *args),
    )
