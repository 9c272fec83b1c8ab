"""Processes that torchrun has started, or anything that sets the same variables.

Source: "Environment Variables" in https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dl_lib.launch.errors import LaunchError
from dl_lib.launch.process_info import ProcessInfo, whole_number

__all__ = ["torchrun_process_info"]

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


def torchrun_process_info(environment: Mapping[str, str]) -> ProcessInfo | None:
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
    return ProcessInfo(
        "torchrun",
        rank=whole_number(environment, "RANK"),
        world_size=whole_number(environment, "WORLD_SIZE"),
        local_rank=whole_number(environment, "LOCAL_RANK"),
        **_meeting(environment),
    )


def _meeting(environment: Mapping[str, str]) -> dict[str, Any]:
    """Where the workers meet.

    torchrun's agent may keep the store, the same one after a restart. What workers wrote there that are dead by then
    must not be read, or those who live look for them in vain. (Without the agent's store, each attempt has a new one.)
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {"init_method": "env://"}
    machines, max_restarts = (environment.get(name, "1") for name in ("GROUP_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"))
    if machines != "1" and max_restarts != "0":  # the agents count restarts each for itself
        raise LaunchError(
            "after a restart, workers on several machines would meet at a store that still holds what the dead ones "
            "wrote. Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun on every machine, and each "
            f"attempt gets a store of its own; or take --max-restarts=0. Received: {machines} machines, "
            f"--max-restarts={max_restarts}"
        )
    host, port = environment["MASTER_ADDR"], whole_number(environment, "MASTER_PORT")
    return {
        "init_method": f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}",
        "is_hosted": True,
        "attempt": environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    }
