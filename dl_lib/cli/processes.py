"""From a command line to the processes of a run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = ["start", "world_size"]


def world_size(arguments: argparse.Namespace) -> int:
    """Processes over all machines."""
    return int(max(1, arguments.num_gpus) * arguments.num_machines)


def start(function: Callable[..., None], arguments: argparse.Namespace, *args: Any) -> None:
    """Call `function(*args)` in every process that the command line asks for."""
    from dl_lib.engine import launch  # imports torch, which --help and a misspelt key need not wait for

    launch(
        function,
        num_gpus=arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        args=args,
    )
