"""Processes that torchrun has started, or anything that sets the same variables.

Source: "Environment Variables" in https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

from collections.abc import Mapping

from dl_lib.launch.errors import LaunchError
from dl_lib.launch.place import Place, whole_number

__all__ = ["torchrun_place"]

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


def torchrun_place(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun's variables give; None where there are none of the numbers among them.

    An address alone is none of torchrun's doing: scripts for clusters set it for all sorts of reasons.

    Raises:
        LaunchError: if some are there and others are not, or the numbers make no sense.
    """
    if not any(name in environment for name in _NUMBERS):
        return None
    missing = [name for name in (*_NUMBERS, *_ADDRESS) if name not in environment]
    if missing:
        given = ", ".join(f"{name}={environment[name]!r}" for name in _NUMBERS if name in environment)
        raise LaunchError(
            f"{', '.join((*_NUMBERS, *_ADDRESS))} belong together, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set. Start the processes with torchrun, which sets them all, "
            f"or unset what is left of them. Received: {given}"
        )
    return Place(
        "torchrun",
        rank=whole_number(environment, "RANK"),
        world_size=whole_number(environment, "WORLD_SIZE"),
        local_rank=whole_number(environment, "LOCAL_RANK"),
        meeting_point="env://",
    )
